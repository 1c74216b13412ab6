"""Workers as Ray actors: the same bytes as on threads, whatever happens to their processes."""

import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hmsa_label.pipeline.engine import dispatch, starts
from hmsa_label.pipeline.engine.events import Event, ImageLabeled, WorkerLost, WorkerStarted, WorkerUnusable
from hmsa_label.pipeline.engine.executor import Report
from hmsa_label.pipeline.engine.ray_executor import ActorOptions, RayExecutor
from hmsa_label.pipeline.errors import EngineError
from tests.fake_teacher import fake
from tests.sockets import LOOPBACK, listening_addresses

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def ray_options(workers: int = 2, **options: object) -> dict[str, object]:
    return {"executor": "ray", "workers": workers, **options}


@pytest.mark.usefixtures("both_kinds")
def test_ray_and_threads_give_the_same_labels_though_a_worker_is_killed_and_one_never_starts(drawn, tmp_path, capfd):
    here = drawn.label(store=str(tmp_path / "here"))
    drawn.events.clear()

    def kill(event: Event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            first = next(seen for seen in drawn.events if isinstance(seen, WorkerStarted))
            os.kill(first.info["pid"], signal.SIGKILL)

    # Three workers of two slots each, where there are four slots: the third one waits.
    there = drawn.label(fake(ms=40), **ray_options(3, cpus_per_worker=2), on_event=kill)
    assert there.digest == here.digest
    assert (there.images_labelled, there.images_failed) == (20, 0)
    assert sum(isinstance(event, WorkerLost) for event in drawn.events) == 1
    assert capfd.readouterr().out == ""


def test_signal_finishes_what_actors_have_in_flight_and_the_next_run_continues(drawn):
    def interrupt(event: Event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    summary = drawn.label(fake(ms=40), **ray_options(1, threads=2), on_event=interrupt)
    assert summary.interrupted
    assert 3 <= summary.images_labelled < 20
    assert signal.getsignal(signal.SIGTERM) is handler
    assert drawn.label().images_done_before == summary.images_labelled


def check_bad_images_alone_are_given_up(drawn, draw, first_pixels, kill: str, hang: str, workers: int) -> None:
    draw(drawn.folder / "all" / f"{kill}.png", 4, first=first_pixels["kill"])
    draw(drawn.folder / "all" / f"{hang}.png", 11, first=first_pixels["hang"])
    summary = drawn.label(fake(ms=5, kill="1,2,3", hang="4,5,6"), **ray_options(workers), item_timeout=3.0)
    reasons = {failure.key.rpartition("/")[2]: failure.reason for failure in summary.failed}
    assert summary.images_labelled == 18
    assert list(reasons) == [f"{kill}.png", f"{hang}.png"]
    assert "its process ended" in reasons[f"{kill}.png"]
    assert "gave no result for 3 s" in reasons[f"{hang}.png"]


def test_images_that_kill_or_hang_workers_are_given_up_and_no_others(drawn, draw, first_pixels, monkeypatch):
    monkeypatch.setattr(dispatch, "DEATHS_ALONE", 1)  # saves restarts; test_dispatch.py holds the number
    check_bad_images_alone_are_given_up(drawn, draw, first_pixels, "000", "019", workers=1)


@pytest.mark.slow
def test_images_in_the_middle_that_kill_or_hang_two_workers_are_given_up(drawn, draw, first_pixels):
    check_bad_images_alone_are_given_up(drawn, draw, first_pixels, "004", "011", workers=2)


def test_teacher_that_cannot_be_loaded_ends_the_run_with_its_own_message(drawn):
    started = time.monotonic()
    with pytest.raises(
        ValueError,
        match="FakeTeacher cannot be made: ValueError: it was asked not to start",
    ):
        drawn.label(fake(start="fail"), **ray_options(1))
    assert time.monotonic() - started < 60  # and not after the 10 minutes that a teacher has to load


def test_teacher_that_crashes_its_process_while_loading_ends_the_run(drawn, monkeypatch):
    monkeypatch.setattr(starts, "START_CRASHES", 1)  # the next test restarts one; test_dispatch.py holds the number
    with pytest.raises(EngineError, match="lost 1 times in a row while it loaded its teacher: its process ended"):
        drawn.label(fake(start="crash"), **ray_options(1))


def test_teacher_that_never_ends_to_load_is_restarted_and_ends_the_run(drawn, monkeypatch):
    monkeypatch.setattr(starts, "START_CRASHES", 2)
    with pytest.raises(EngineError, match=r"worker 0 was lost 2 times .* did not load its teacher within 1 s"):
        drawn.label(fake(start="hang"), **ray_options(1, start_timeout=1.0))
    (lost,) = [event for event in drawn.events if isinstance(event, WorkerLost)][:1]
    assert lost.while_starting


def build_without_a_device_for_the_first(worker: int) -> object:
    if worker == 0:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected")
    return SimpleNamespace(info={"worker": worker})


def test_worker_that_cannot_load_its_teacher_is_reported_with_its_host_and_the_others_start():
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test's module
    options = ActorOptions(num_gpus=0, num_cpus=1, threads=1)
    executor = RayExecutor(build_without_a_device_for_the_first, 2, options)
    reports: list[Report] = []
    deadline = time.monotonic() + 60
    try:
        while len(reports) < 4 and time.monotonic() < deadline:
            reports += executor.poll(0.5)
    finally:
        executor.close()
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    (unusable,) = [report for report in reports if isinstance(report, WorkerUnusable)]
    assert (unusable.worker, unusable.host) == (0, socket.gethostname())
    assert unusable.reason == "RuntimeError: CUDA error: no CUDA-capable device is detected"
    assert [report.worker for report in reports if isinstance(report, WorkerStarted)] == [1]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the sockets of processes from /proc")
def test_all_ports_of_a_ray_of_our_own_are_closed_to_the_outside():
    listening = listening_addresses(os.getpid())
    assert len(listening) >= 4  # the head's services at least
    assert set(listening) <= LOOPBACK


def test_address_where_nothing_listens_is_named_at_once():
    from hmsa_label.pipeline.engine.ray_executor import check_reachable

    with pytest.raises(EngineError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: .*refused"):
        check_reachable("127.0.0.1:1")
