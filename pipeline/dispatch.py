"""Feeds images to workers and decides what becomes of the images of a lost worker.

Rules: an image in flight in a worker that dies is a suspect, and suspects are labelled alone on one worker set aside;
only an image whose worker dies with nothing else in flight, twice, is given up. A worker that gives nothing for the
time limit counts as hung and is restarted, which makes its images suspects. A worker that dies again and again
while it loads its teacher ends the run: no image is to blame for that.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from hmsa_label.pipeline.events import Draining, Event, Tick, WorkerLost, WorkerStarted
from hmsa_label.pipeline.executor import EngineError, Executor, Task, TaskDone
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.receipt import Receipt

POLL_SECONDS = 0.5
RATE_SECONDS = 0.5
LEAD_SECONDS = 0.2
MOST_IN_FLIGHT = 8  # times the usual number
DEATHS_ALONE = 2  # one death may be somebody else's doing: a preempted host, a neighbour that ate the memory
START_CRASHES = 3

OnResult = Callable[[Receipt | Failure], None]


class Work(Protocol):
    """Where tasks come from."""

    @property
    def left(self) -> int:
        """Images that are not handed out and not done, whoever may have claimed them."""

    def take(self, wanted: int) -> list[Task]:
        """At least `wanted` tasks if there are that many; none if all that is left is somebody else's."""


class Listed:
    """Tasks that are nobody else's."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = list(tasks)

    @property
    def left(self) -> int:
        return len(self._tasks)

    def take(self, wanted: int) -> list[Task]:
        tasks, self._tasks = self._tasks, []
        return tasks


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a worker gets, and how long it may take.

    Attributes:
        in_flight: images per worker; enough to decode the next ones while one is on the device. Where images take
            milliseconds, more names are given ahead, so that no worker waits for the driver.
        item_seconds: time without any result after which a busy worker counts as hung.
    """

    in_flight: int
    item_seconds: float


@dataclass
class _Worker:
    """What the dispatcher knows of one worker.

    Attributes:
        flying: its images in flight, by key.
        heard_at: monotonic time of its last sign of life since it has work.
        start_crashes: deaths in a row while it was starting.
    """

    number: int
    ready: bool = False
    flying: dict[str, Task] = field(default_factory=dict)
    heard_at: float = 0.0
    start_crashes: int = 0


class Dispatcher:
    """Moves tasks through an executor until all are done or `stop` is set and what was in flight is finished."""

    def __init__(
        self, executor: Executor, limits: Limits, stop: threading.Event, on_event: Callable[[Event], None]
    ) -> None:
        self._executor = executor
        self._limits = limits
        self._stop = stop
        self._on_event = on_event
        self._workers: list[_Worker] = []
        self._work: Work = Listed(())
        self._todo: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._deaths_alone: dict[str, int] = {}
        self._set_aside: _Worker | None = None
        self._depth = limits.in_flight
        self._finished, self._counted_from = 0, time.monotonic()

    @property
    def in_flight(self) -> int:
        return sum(len(worker.flying) for worker in self._workers)

    @property
    def left(self) -> int:
        """Images neither finished nor in flight."""
        return len(self._todo) + len(self._suspects) + self._work.left

    def wait_for_worker(self) -> WorkerStarted | None:
        """The first worker that is ready; None if a stop is asked for before.

        Raises:
            EngineError: if a worker's process dies again and again while it starts.
            Exception: the worker's own error if its teacher cannot be loaded.
        """
        while not self._stop.is_set():
            reports = self._poll(lambda result: None)
            if started := next((report for report in reports if isinstance(report, WorkerStarted)), None):
                return started
        return None

    def run(self, tasks: Iterable[Task] | Work, on_result: OnResult) -> None:
        """Labels all tasks, or what others leave of shared work.

        Every one is reported once to `on_result` unless the run is stopped.

        Raises:
            EngineError: if the workers cannot be kept alive.
            Exception: a worker's own error that is no image's fault, such as a storage that stays away.
        """
        self._work = Listed(tasks) if isinstance(tasks, Iterable) else tasks
        announced = False
        while self.in_flight or (self.left and not self._stop.is_set()):
            if not self._stop.is_set():
                self._feed()
            elif not announced:
                announced = True
                self._on_event(Draining(images_in_flight=self.in_flight))
            self._poll(on_result)
            self._restart_hung()  # after the poll: results may have waited for the driver, not the other way round

    def _feed(self) -> None:
        self._feed_suspect()
        self._adapt_depth()
        self._fetch()
        while self._todo and (worker := self._least_busy(self._depth)) is not None:
            self._assign(worker, self._todo.popleft())

    def _fetch(self) -> None:
        """Takes as many tasks as can be begun now."""
        room = sum(self._depth - len(worker.flying) for worker in self._workers if worker.ready)
        if len(self._todo) < room:
            self._todo.extend(self._work.take(room - len(self._todo)))

    def _adapt_depth(self) -> None:
        """Names for a fifth of a second ahead, by the rate of the last moments; the usual number if that is more."""
        seconds = time.monotonic() - self._counted_from
        if seconds < RATE_SECONDS:
            return
        ready = sum(worker.ready for worker in self._workers)
        ahead = math.ceil(LEAD_SECONDS * self._finished / seconds / max(1, ready))
        usual = self._limits.in_flight
        self._depth = min(max(usual, ahead), MOST_IN_FLIGHT * usual)
        self._finished, self._counted_from = 0, time.monotonic()

    def _feed_suspect(self) -> None:
        """Keeps one worker for the suspects, one at a time, until all of them are cleared or given up."""
        aside = self._set_aside
        if aside is None or not aside.ready:
            aside = self._least_busy(self._depth + 1) if self._suspects else None
        elif not self._suspects and not aside.flying:
            aside = None
        self._set_aside = aside
        if aside is not None and self._suspects and not aside.flying:
            self._assign(aside, self._suspects.popleft())

    def _least_busy(self, limit: int) -> _Worker | None:
        """The ready worker with the fewest images in flight, if these are fewer than `limit`."""
        free = [worker for worker in self._workers if worker.ready and worker is not self._set_aside]
        best = min(free, key=lambda worker: len(worker.flying), default=None)
        return best if best is not None and len(best.flying) < limit else None

    def _assign(self, worker: _Worker, task: Task) -> None:
        if not worker.flying:
            worker.heard_at = time.monotonic()
        worker.flying[task.key] = task
        self._executor.assign(worker.number, task)

    def _restart_hung(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.flying and now - worker.heard_at > self._limits.item_seconds:
                worker.heard_at = now
                names = ", ".join(sorted(worker.flying))
                silent = f"worker {worker.number} gave no result for {self._limits.item_seconds:g} s"
                self._executor.restart(worker.number, f"{silent} (working on {names})")

    def _poll(self, on_result: OnResult) -> list[WorkerStarted | WorkerLost | TaskDone]:
        reports = self._executor.poll(POLL_SECONDS)
        # At first all, later those on hosts that joined.
        self._workers += [_Worker(number) for number in range(len(self._workers), self._executor.workers)]
        for report in reports:
            worker = self._workers[report.worker]
            if isinstance(report, TaskDone):
                self._finished += 1
                worker.heard_at = time.monotonic()
                del worker.flying[report.task.key]
                on_result(report.result)
                continue
            self._on_event(report)
            if isinstance(report, WorkerStarted):
                worker.ready, worker.start_crashes = True, 0
            else:
                self._lose(worker, report, on_result)
        ready = sum(worker.ready for worker in self._workers)
        self._on_event(Tick(workers_ready=ready, workers=len(self._workers), images_in_flight=self.in_flight))
        return reports

    def _lose(self, worker: _Worker, report: WorkerLost, on_result: OnResult) -> None:
        if report.while_starting:
            worker.start_crashes += 1
            if worker.start_crashes >= START_CRASHES:
                raise EngineError(
                    f"worker {report.worker} died {START_CRASHES} times in a row while it loaded its teacher: "
                    f"{report.reason}. Most often the memory is too small: try fewer --workers"
                )
        lost, worker.flying, worker.ready = list(worker.flying.values()), {}, False
        if len(lost) != 1:
            self._suspects.extend(lost)
            return
        (task,) = lost
        deaths = self._deaths_alone[task.key] = self._deaths_alone.get(task.key, 0) + 1
        if deaths < DEATHS_ALONE:
            self._suspects.append(task)
        else:
            reason = f"its worker was lost {deaths} times with nothing else in flight: {report.reason}"
            on_result(Failure(key=task.key, reason=reason))
