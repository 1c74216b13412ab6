"""The event log of a run, and what `runs` and `status` tell from it."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hmsa_label.pipeline.config import StoreConfig
from hmsa_label.pipeline.engine.events import Event, ImageLabeled, RunStarted, WorkerLost
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.monitor import run_log, run_states
from hmsa_label.pipeline.monitor.run_log import RunLog
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelMissing, NotAStore
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.runs import presence
from hmsa_label.stores.versions.gc import gc
from tests.fake_teacher import fake, fake_arguments


def log_lines(store: str) -> list[dict]:
    """All lines of the only run's logs, in order."""
    parts = sorted(Path(store).glob("runs/*/*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def runs_of(bench) -> list[dict]:
    return run_states.list_runs(StoreConfig(uri=bench.store))


def status_of(bench, run: str | None = None) -> dict:
    return run_states.run_status(StoreConfig(uri=bench.store), run)


def test_log_tells_a_run_from_start_to_end_and_harms_nothing(drawn):
    (drawn.folder / "all" / "005.png").write_bytes(b"")
    summary = drawn.label()
    lines = log_lines(drawn.store)
    kinds = [line["event"] for line in lines if line["event"] != "state"]
    assert kinds.count("worker_started") == 2  # the second one may come after the start
    assert [kind for kind in kinds if kind != "worker_started"] == ["started", "image_failed", "committed", "ended"]
    assert lines[-1]["event"] == "state"
    (failed,) = [line for line in lines if line["event"] == "image_failed"]
    assert (failed["key"], "empty" in failed["reason"]) == ("all/005.png", True)
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)
    assert verify(drawn.store) == []
    assert gc(drawn.store).objects == 0
    (run,) = runs_of(drawn)
    assert (run.state, run.images_done, run.images_total, run.images_failed) == ("finished", 19, 20, 1)
    assert run.kind == "label"
    status = status_of(drawn)
    assert [failure["key"] for failure in status.last_failures] == ["all/005.png"]
    assert status.version <= summary.version
    assert [attempt.state for attempt in status.attempts] == ["finished"]


def test_status_of_a_live_run_tells_progress_and_rate(drawn, monkeypatch):
    labeled, seen = [], []

    def look(event: Event) -> None:
        labeled.extend([event] if isinstance(event, ImageLabeled) else [])
        deadline = time.monotonic() + 20
        while len(labeled) == 3 and not seen and time.monotonic() < deadline:
            time.sleep(0.01)  # the log is written by another thread
            status = status_of(drawn)
            seen.extend([status] if status.images_done == 3 else [])

    monkeypatch.setattr(run_log, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(run_log, "PART_SECONDS", 0.02)
    drawn.label(fake(ms=30), on_event=look)
    (status,) = seen
    assert (status.state, status.images_total) == ("live", 20)
    assert status.images_per_second > 0
    assert status.seconds_left > 0
    assert status.workers == 2
    assert status.workers_ready in (1, 2)  # the second one may come after the first images
    assert status.seen_at


def test_status_of_a_run_that_has_just_begun_knows_its_workers(drawn, monkeypatch):
    seen = []

    def look(event: Event) -> None:
        deadline = time.monotonic() + 20
        while isinstance(event, RunStarted) and not seen and time.monotonic() < deadline:
            time.sleep(0.01)
            seen.extend(log_lines(drawn.store)[-1:])

    monkeypatch.setattr(run_log, "FIRST_SECONDS", 0.02)
    drawn.label(fake(ms=30), on_event=look)
    assert seen[0]["event"] == "state"
    assert seen[0]["workers"] == 2
    assert seen[0]["workers_ready"] in (1, 2)


def test_killed_run_is_told_by_its_process_or_its_silence_and_its_next_attempt_by_its_end(drawn, monkeypatch):
    script = (
        "import sys; from hmsa_label.cli.main import main\n"
        "from hmsa_label.pipeline.monitor import run_log; run_log.FIRST_SECONDS = run_log.PART_SECONDS = 0.02\n"
        "main()"
    )
    args = ["run", "--data", drawn.folder, "--dataset", "folder", "--split", "all", "--store", drawn.store]
    args += [*fake_arguments(ms=100), "--executor", "local", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(Path(drawn.store).glob("runs/*/*.jsonl"))) < 3:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9
    assert (status_of(drawn).state, runs_of(drawn)[0].state) == ("died", "died")  # its process is gone
    with monkeypatch.context() as patch:
        patch.setattr(presence, "this_machine", lambda: "another machine")
        assert status_of(drawn).state == "live"  # nobody can know yet
        patch.setattr(run_states, "LIVE_SECONDS", 0.0)
        status = status_of(drawn)
        assert (status.state, runs_of(drawn)[0].state) == ("died", "died")
        assert datetime.fromisoformat(status.seen_at) < datetime.now(UTC) + timedelta(seconds=1)
    drawn.label()
    status = status_of(drawn)
    assert status.state == "finished"
    assert len(status.attempts) == 2
    assert status.images_done == 20


def test_run_that_ended_by_an_error_tells_which(drawn):
    def fail(event: Event) -> None:
        if isinstance(event, ImageLabeled):
            raise EngineError("the power is gone")

    with pytest.raises(EngineError):
        drawn.label(on_event=fail)
    status = status_of(drawn)
    assert (status.state, status.error) == ("failed", "EngineError: the power is gone")
    drawn.label()
    assert [attempt.state for attempt in status_of(drawn).attempts] == ["failed", "finished"]


def test_store_that_takes_no_log_does_not_touch_the_run(drawn, monkeypatch):
    def broken(*args: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(run_log, "write_part", broken)
    monkeypatch.setattr(run_log, "FIRST_SECONDS", 0.01)
    assert drawn.label(fake(ms=10)).images_labelled == 20
    (run,) = runs_of(drawn)
    assert (run.state, run.images_total) == ("finished", None)


def test_lines_wait_while_the_storage_is_away_and_secrets_never_get_out(tmp_path, monkeypatch):
    wrote: list[list[dict]] = []

    def write(root: FileRoot, run: str, attempt: str, number: int, lines: list[dict]) -> None:
        assert number == len(wrote)
        if len(tries) < 2:
            tries.append(number)
            raise OSError("away")
        wrote.append(lines)

    tries: list[int] = []
    monkeypatch.setattr(run_log, "write_part", write)
    monkeypatch.setattr(run_log, "FIRST_SECONDS", 0.01)

    def run() -> None:
        with RunLog(FileRoot(str(tmp_path)), "run", "attempt", frozenset({"top-secret-value"})) as log:
            log(WorkerLost(worker=0, reason="s3://me:pw1234@host/x refused top-secret-value"))
            while len(tries) < 2:
                time.sleep(0.005)
            raise EngineError("still no top-secret-value")

    with pytest.raises(EngineError):
        run()
    lines = [line for part in wrote for line in part]
    assert [line["event"] for line in lines if line["event"] != "state"] == ["worker_lost", "ended"]
    assert lines[-1]["restarts"] == 1
    assert [word for word in ("pw1234", "top-secret-value") if word in str(lines)] == []


def test_unknown_run_and_missing_store_are_named(drawn):
    with pytest.raises(NotAStore):
        runs_of(drawn)
    drawn.label(limit=1)
    with pytest.raises(LabelMissing, match="has no run nonsense; `hmsa-label runs"):
        status_of(drawn, "nonsense")
    os.remove(next(Path(drawn.store).glob("runs/*/*.jsonl")))
    assert status_of(drawn).state == "finished"  # from the outcome alone


def test_no_object_of_a_store_and_no_event_holds_a_credential(drawn, s3_storage, monkeypatch):
    nested = {"aws_session_token": "token-given-nested"}
    options = {**s3_storage, "client_kwargs": nested}
    secrets = [s3_storage["secret"], "token-given-nested", "env-secret-value"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "env-secret-value")

    def fail(event: Event) -> None:
        if isinstance(event, ImageLabeled):
            raise EngineError(f"refused: {secrets} at s3://me:pw1234@host/x?token=tok1234")

    store = "s3://labels/no-credentials"
    with pytest.raises(EngineError):
        drawn.label(store=store, storage_options=options, limit=2, on_event=fail)
    drawn.label(store=store, storage_options=options, limit=2)
    filesystem, root = FileRoot(store, options).open()
    bodies = {path: filesystem.cat_file(path) for path in filesystem.find(root)}
    assert sum(path.endswith(".jsonl") for path in bodies) >= 2
    found = [(path, word) for path, body in bodies.items() for word in (*secrets, "pw1234", "tok1234")
             if word.encode() in body]  # fmt: skip
    assert found == []
    assert not [word for word in secrets for event in drawn.events if word in str(event)]
