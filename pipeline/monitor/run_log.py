"""Keeps the events of an attempt as data in the store, so that `runs` and `status` can tell of it from any machine.

The log is written by a thread of its own: the run never waits for it, is never ended by it, and shows a sign of life
even while the driver itself waits for a slow storage. Each part ends with a line `state` that sums up all before it, so
a reader needs the last part only.
"""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from hmsa_label.pipeline.engine.events import (
    Committed,
    Draining,
    Event,
    FailuresKnown,
    ImageFailed,
    LabeledElsewhere,
    RunEnded,
    RunStarted,
    Warned,
    WorkerLost,
    WorkerStarted,
    WorkerUnusable,
)
from hmsa_label.pipeline.interrupt import THREAD_NAME
from hmsa_label.pipeline.monitor.progress import Counter
from hmsa_label.stores.credentials import hide_in_record
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.runs.events import STATE, write_part
from hmsa_label.stores.runs.presence import BEAT_SECONDS, this_process

FIRST_SECONDS = 1.0  # `runs` shall show a run that has just begun
PART_SECONDS = BEAT_SECONDS
COMMIT_SECONDS = 5.0  # a commit brings the next part forward, but not more often than this
CLOSE_SECONDS = 10.0
LINES_KEPT = 2000  # while the storage is away; then the oldest go
LAST_SHOWN = 5
RUNNING, DRAINING, FINISHED, INTERRUPTED, FAILED = "running", "draining", "finished", "interrupted", "failed"
NAMES = {
    RunStarted: "started",
    WorkerStarted: "worker_started",
    WorkerLost: "worker_lost",
    WorkerUnusable: "worker_left_out",
    ImageFailed: "image_failed",
    FailuresKnown: "failed_before",
    LabeledElsewhere: "labelled_elsewhere",
    Warned: "warning",
    Committed: "committed",
    Draining: "draining",
}
_INFO = ("host", "pid", "device", "model")


class RunLog:
    """The log of one attempt, for the length of a `with` block; takes events in any thread."""

    def __init__(
        self,
        root: FileRoot,
        run_id: str,
        attempt: str,
        secrets: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins a log; nothing is written yet.

        Args:
            secrets: strings that must not appear in it.
        """
        self._write = lambda number, lines: write_part(root, run_id, attempt, number, lines)
        self._secrets = secrets
        self._clock = clock
        self._count = Counter(clock)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._lines: list[dict[str, Any]] = []
        self._parts = 0
        self._written_at = clock()
        self._facts: dict[str, Any] = {
            "phase": RUNNING, "began_at": _now(), "host": socket.gethostname(), "pid": os.getpid(), "restarts": 0,
            "process": this_process().to_dict(), "error": None,
        }  # fmt: skip
        self._last_failures: deque[dict[str, Any]] = deque(maxlen=LAST_SHOWN)
        self._last_losses: deque[dict[str, Any]] = deque(maxlen=LAST_SHOWN)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name=f"{THREAD_NAME} log")

    def __enter__(self) -> "RunLog":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._facts["phase"] = INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED
            self._facts["error"] = " ".join(f"{type(error).__name__}: {error}".split())
        self._note({"event": "ended", "phase": self._facts["phase"], "error": self._facts["error"]})
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        with self._lock:
            self._count.update(event)
        line = self._note(fact) if (fact := facts_of(event)) else {}
        if isinstance(event, WorkerLost):
            self._facts["restarts"] += 1
            self._last_losses.append(line)
        elif isinstance(event, ImageFailed):
            self._last_failures.append(line)
        elif isinstance(event, Draining):
            self._facts["phase"] = DRAINING
        elif isinstance(event, RunEnded):
            self._facts["phase"] = INTERRUPTED if event.interrupted else FINISHED
        elif isinstance(event, Committed) and self._clock() - self._written_at > COMMIT_SECONDS:
            self._wake.set()

    def _note(self, facts: dict[str, Any]) -> dict[str, Any]:
        line: dict[str, Any] = hide_in_record({"time": _now(), **facts}, self._secrets)
        with self._lock:
            self._lines.append(line)
        return line

    def _serve(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(PART_SECONDS if self._parts else FIRST_SECONDS)
            self._wake.clear()
            closing = self._closing
            self._write_due()

    def _write_due(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        try:
            self._write(self._parts, [*lines, self._state()])
        except Exception:  # whatever it is, the run is worth more than its log; the lines wait for the next part
            with self._lock:
                self._lines = [*lines, *self._lines][-LINES_KEPT:]
            return
        self._parts += 1
        self._written_at = self._clock()

    def _state(self) -> dict[str, Any]:
        with self._lock:
            count = self._count
            state: dict[str, Any] = {
                "images_total": count.total,
                "images_done": count.done,
                "images_labelled": count.labeled,
                "images_failed": count.failed,
                "images_per_second": count.images_per_second,
                "seconds_left": count.seconds_left,
                "workers": count.workers,
                "workers_ready": count.ready,
                "version": count.version,
            }
        state |= {**self._facts, "last_failures": [*self._last_failures], "last_losses": [*self._last_losses]}
        line: dict[str, Any] = hide_in_record({"time": _now(), "event": STATE, **state}, self._secrets)
        return line


def facts_of(event: Event) -> dict[str, Any] | None:
    """An event as a line of the log, without its time; None for those that are only counted."""
    name = NAMES.get(type(event))
    if name is None:
        return None
    if isinstance(event, WorkerStarted):
        return {"event": name, "worker": event.worker, **{key: event.info[key] for key in _INFO if key in event.info}}
    if isinstance(event, WorkerUnusable):
        return {"event": name, "worker": event.worker, "host": event.host, "reason": event.reason}
    if isinstance(event, ImageFailed):
        return {"event": name, **asdict(event.failure)}
    if isinstance(event, FailuresKnown):
        return {"event": name, "images": len(event.failures)}
    return {"event": name, **asdict(event)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
