"""Two drivers of one run: the second is told, or shares the work; each image is labeled once, whoever dies."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hmsa_label.pipeline.engine.events import Event, ImageLabeled, WorkersStarting
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake

DRIVER = """
import sys
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.label.run import label_images
from tests.fake_teacher import fake
label_images(LabelConfig(
    data=DataConfig(root=sys.argv[1], dataset="folder", split="all"), store=sys.argv[2], join=True,
    teacher=fake(ms=1000), engine=EngineConfig(executor="local", workers=1)))
"""


def receipts(store: str) -> int:
    return len(list(Path(store).glob("data/*/receipts/*.json")))


def test_second_equal_run_is_refused_with_the_name_of_the_live_one(drawn):
    refused = []

    def again(event: Event) -> None:
        if isinstance(event, ImageLabeled) and not refused:
            refused.append(event)
            run = next(Path(drawn.store).glob("runs/*.json")).stem
            with pytest.raises(StoreConflict, match=rf"run {run} is live: process \d+ on .*--join"):
                drawn.label()
            assert (
                sum(isinstance(event, WorkersStarting) for event in drawn.events) == 1
            )  # before any teacher is loaded

    assert drawn.label(fake(ms=5), on_event=again).images_labelled == 20
    assert receipts(drawn.store) == 20
    assert drawn.label(fake(ms=5)).images_done_before == 20


def two_drivers(bench, *, late: bool = False, **options) -> tuple[list, list[set[str]]]:
    """Summaries of two runs, and the keys of each; the first one waits after an image until the second labeled one.

    Args:
        late: the second one looks up from its first image only when the first one has ended the run.
    """
    second_labels, first_ended, keys = threading.Event(), threading.Event(), [set(), set()]

    def watch(number: int, event: Event) -> None:
        if isinstance(event, ImageLabeled):
            keys[number].add(event.key)
            (second_labels if number else first_labels).set()
            (first_ended if number and late else second_labels).wait(60)

    def second():
        first_labels.wait(60)
        return bench.label(join=True, on_event=lambda event: watch(1, event), **options)

    first_labels = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        later = pool.submit(second)
        first = bench.label(on_event=lambda event: watch(0, event), **options)
        first_ended.set()
        return [first, later.result()], keys


@pytest.mark.usefixtures("both_kinds")
@pytest.mark.parametrize("relabel", [False, True])
def test_joined_run_shares_the_work_and_each_image_is_labeled_once(drawn, relabel):
    whole = drawn.label(store=drawn.store + ".whole")
    before = 0
    if relabel:
        drawn.label(fake(seed=1))
        before = 20
    summaries, keys = two_drivers(drawn, teacher=fake(ms=20), relabel=relabel)
    assert keys[0]
    assert keys[1]
    assert not keys[0] & keys[1]
    assert len(keys[0] | keys[1]) == 20
    assert receipts(drawn.store) == before + 20
    for summary, mine in zip(summaries, keys, strict=True):
        assert summary.digest == whole.digest
        assert not summary.interrupted
        assert summary.images_labelled == len(mine)
        assert summary.images_labelled + summary.images_labelled_elsewhere + summary.images_done_before == 20
    assert verify(drawn.store) == []
    assert LabelStore.open(drawn.store, "head").commit.open_runs == ()


def test_driver_that_finds_the_relabeling_ended_labels_nothing_again(drawn):
    drawn.label(fake(seed=1))
    (first, second), keys = two_drivers(drawn, relabel=True, workers=1, late=True)
    assert keys[1]
    assert not keys[0] & keys[1]
    assert receipts(drawn.store) == 20 + 20
    assert (first.version, first.digest) == (second.version, second.digest)
    assert second.images_labelled + second.images_labelled_elsewhere + second.images_done_before == 20
    assert verify(drawn.store) == []


def test_images_that_fail_are_told_to_the_others_and_nobody_waits_for_them(drawn):
    for name in ("003", "013"):
        (drawn.folder / f"all/{name}.png").write_bytes(b"no image")
    summaries, keys = two_drivers(drawn, teacher=fake(ms=20))
    assert len(keys[0] | keys[1]) == 18
    assert all(summary.images_failed == 2 for summary in summaries)


def test_run_takes_over_what_a_killed_driver_had_claimed(drawn):
    command = [sys.executable, "-c", DRIVER, str(drawn.folder), drawn.store]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as other:
        while receipts(drawn.store) < 1 and other.poll() is None:
            threading.Event().wait(0.01)

        def kill(event: Event) -> None:
            if isinstance(event, ImageLabeled):
                other.kill()

        summary = drawn.label(join=True, on_event=kill)
    assert other.returncode == -signal.SIGKILL
    assert not summary.interrupted
    assert len(drawn.open()) == 20
    assert summary.digest == drawn.label(store=drawn.store + ".whole").digest
    assert verify(drawn.store) == []


def test_ray_job_shares_the_work_without_being_asked(drawn, monkeypatch):
    joined = []
    enrol = Claims.enrol
    monkeypatch.setattr(Claims, "enrol", lambda *args, join: joined.append(join) or enrol(*args, join=join))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    drawn.label(limit=1)
    assert joined == [True]
