"""Feeds images to workers and decides what becomes of the images of a lost worker.

Rules: an image in flight in a worker that dies is a suspect, and suspects are labeled alone on one worker set aside;
only an image whose worker dies with nothing else in flight, twice, is given up. A worker that gives nothing for the
time limit counts as hung and is restarted, which makes its images suspects. Workers that do not start are the matter
of `starts.py`.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from hmsa_label.pipeline.engine.crew import Crew, Limits, Member
from hmsa_label.pipeline.engine.events import (
    Draining,
    Event,
    Tick,
    WorkerLoading,
    WorkerLost,
    WorkerStarted,
    WorkerUnusable,
)
from hmsa_label.pipeline.engine.executor import Executor, Report, Task, TaskDone
from hmsa_label.pipeline.engine.starts import Starts
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.format.receipt import Receipt

POLL_SECONDS = 0.5
RATE_SECONDS = 0.5
LOOK_SECONDS = 0.5  # between two looks at all workers for one that hangs
LEAD_SECONDS = 0.2
MOST_IN_FLIGHT = 8  # times the usual number
DEATHS_ALONE = 2  # one death may be somebody else's doing: a preempted host, a neighbor that ate the memory

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


class Dispatcher:
    """Moves tasks through an executor until all are done or `stop` is set and what was in flight is finished."""

    def __init__(
        self,
        executor: Executor,
        limits: Limits,
        stop: threading.Event,
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._limits = limits
        self._stop = stop
        self._on_event = on_event
        self._clock = clock
        self._crew = Crew()
        self._starts = Starts(self._crew, limits, on_event, clock)
        self._work: Work = Listed(())
        self._todo: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._deaths_alone: dict[str, int] = {}
        self._depth = limits.in_flight
        self._finished, self._counted_from = 0, clock()
        self._look_at = 0.0

    @property
    def in_flight(self) -> int:
        return self._crew.in_flight

    @property
    def left(self) -> int:
        """Images neither finished nor in flight."""
        return len(self._todo) + len(self._suspects) + self._work.left

    def wait_for_worker(self) -> WorkerStarted | None:
        """The first worker that is ready; None if a stop is asked for before.

        Raises:
            EngineError: if a worker dies or hangs again and again while it starts, or none comes for long.
            Exception: the worker's own error if its teacher cannot be loaded.
        """
        while not self._stop.is_set():
            reports = self._poll(lambda result: None)
            self._restart_hung()
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
            self._poll(on_result)
            if self._stop.is_set() and not announced:  # even if all that was in flight came with this poll
                announced = True
                self._on_event(Draining(images_in_flight=self.in_flight))
            self._restart_hung()  # after the poll: results may have waited for the driver, not the other way round

    def _feed(self) -> None:
        self._feed_suspect()
        self._adapt_depth()
        self._fetch()
        while self._todo and (worker := self._crew.least_busy(self._depth)) is not None:
            self._assign(worker, self._todo.popleft())

    def _fetch(self) -> None:
        """Takes as many tasks as can be begun now."""
        room = self._depth * self._crew.num_ready - self._crew.in_flight
        if len(self._todo) < room:
            self._todo.extend(self._work.take(room - len(self._todo)))

    def _adapt_depth(self) -> None:
        """Names for a fifth of a second ahead, by the rate of the last moments; the usual number if that is more."""
        seconds = self._clock() - self._counted_from
        if seconds < RATE_SECONDS:
            return
        ahead = math.ceil(LEAD_SECONDS * self._finished / seconds / max(1, self._crew.num_ready))
        usual = self._limits.in_flight
        self._depth = min(max(usual, ahead), MOST_IN_FLIGHT * usual)
        self._finished, self._counted_from = 0, self._clock()

    def _feed_suspect(self) -> None:
        """Keeps one worker for the suspects, one at a time, until all of them are cleared or given up."""
        crew = self._crew
        if crew.aside is None or not crew.aside.ready:
            crew.set_aside(crew.least_busy(self._depth + 1) if self._suspects else None)
        elif not self._suspects and not crew.aside.flying:
            crew.set_aside(None)
        if crew.aside is not None and self._suspects and not crew.aside.flying:
            self._assign(crew.aside, self._suspects.popleft())

    def _assign(self, worker: Member, task: Task) -> None:
        if not worker.flying:
            worker.heard_at = self._clock()
        self._crew.give(worker, task)
        self._executor.assign(worker.number, task)

    def _restart_hung(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        for worker, reason in self._starts.overdue():
            worker.loading_since = None
            self._executor.restart(worker.number, reason)
        for worker in self._crew:
            if worker.flying and now - worker.heard_at > self._limits.item_seconds:
                worker.heard_at = now
                names = ", ".join(sorted(worker.flying))
                silent = f"worker {worker.number} gave no result for {self._limits.item_seconds:g} s"
                self._executor.restart(worker.number, f"{silent} (working on {names})")

    def _poll(self, on_result: OnResult) -> list[Report]:
        reports = self._executor.poll(POLL_SECONDS)
        crew = self._crew
        crew.grow(self._executor.workers)
        for report in reports:
            self._take(crew[report.worker], report, on_result)
        self._starts.check()
        self._on_event(Tick(workers_ready=crew.num_ready, workers=len(crew), images_in_flight=crew.in_flight))
        return reports

    def _take(self, worker: Member, report: Report, on_result: OnResult) -> None:
        if isinstance(report, TaskDone):
            self._finished += 1
            worker.heard_at = self._clock()
            self._crew.take_back(worker, report.task.key)
            on_result(report.result)
        elif isinstance(report, WorkerLoading):
            worker.loading_since = self._clock()
        elif isinstance(report, WorkerUnusable):
            self._starts.failed(worker, report)
        else:
            self._on_event(report)
            if isinstance(report, WorkerStarted):
                self._crew.make_ready(worker)
            else:
                self._lose(worker, report, on_result)

    def _lose(self, worker: Member, report: WorkerLost, on_result: OnResult) -> None:
        if report.while_starting:
            self._starts.crashed(worker, report.reason)
        lost = self._crew.lose(worker)
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
