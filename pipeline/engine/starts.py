"""What becomes of workers that do not start, and of a run that has none.

A worker that dies, or hangs, again and again while it loads its teacher ends the run: no image is to blame for that.
One that cannot load it, such as on a host with a broken driver, is named and left out if others can; if none can, the
error is the run's. A run that has had no worker for long ends too: a cluster may never bring the hosts it waits for.
"""

from collections.abc import Callable

from hmsa_label.pipeline.engine.crew import Crew, Limits, Member
from hmsa_label.pipeline.engine.events import Event, WorkerUnusable
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.stores.errors import StoreError

START_CRASHES = 3
AGAIN = "; what is finished is kept, and the same command goes on"


class Starts:
    """The starts of one run's workers."""

    def __init__(
        self, crew: Crew, limits: Limits, on_event: Callable[[Event], None], clock: Callable[[], float]
    ) -> None:
        self._crew = crew
        self._limits = limits
        self._on_event = on_event
        self._clock = clock
        self._unusable: list[WorkerUnusable] = []
        self._told = 0
        self._has_worked = False
        self._none_since = clock()

    def crashed(self, member: Member, reason: str) -> None:
        """A worker was lost while it started.

        Raises:
            EngineError: once too often.
        """
        member.start_crashes += 1
        if member.start_crashes >= START_CRASHES:
            raise EngineError(
                f"worker {member.number} was lost {START_CRASHES} times in a row while it loaded its teacher: "
                f"{reason}. Most often the memory is too small: try fewer --workers"
            )

    def failed(self, member: Member, report: WorkerUnusable) -> None:
        """A worker cannot load its teacher; it keeps its place on its host, so that no other one ends there too."""
        member.loading_since = None
        self._unusable.append(report)

    def overdue(self) -> list[tuple[Member, str]]:
        """Workers that have been loading for too long, and a sentence on each."""
        limit, now = self._limits.start_seconds, self._clock()
        return [
            (member, f"worker {member.number} did not load its teacher within {limit:g} s (--start-timeout)")
            for member in self._crew
            if member.loading_since is not None and now - member.loading_since > limit
        ]

    def check(self) -> None:
        """To be called after each poll.

        Raises:
            EngineError: there has been no worker for too long.
            Exception: the first worker's own error, if no worker can load its teacher.
        """
        crew = self._crew
        self._has_worked |= crew.num_ready > 0
        if len(self._unusable) > self._told:
            self._judge_unusable()
        if crew.num_ready or crew.is_loading():
            self._none_since = self._clock()
        elif self._clock() - self._none_since > self._limits.worker_seconds:
            raise EngineError(
                f"there has been no worker for {self._limits.worker_seconds:g} s (--worker-timeout): no host has room "
                f"for one, or all hosts are gone{''.join(map(_aside, self._unusable))}{AGAIN}"
            )

    def _judge_unusable(self) -> None:
        if len(self._unusable) < len(self._crew):
            if self._has_worked:
                for report in self._unusable[self._told :]:
                    self._on_event(report)
                self._told = len(self._unusable)
                return
            if self._crew.is_loading():
                return  # these decide
        raise _for_the_run(self._unusable[0])


def _aside(report: WorkerUnusable) -> str:
    return f"; worker {report.worker} on {report.host} cannot load its teacher: {report.reason}"


def _for_the_run(report: WorkerUnusable) -> BaseException:
    """The worker's error; one that is no message to a user becomes one, with the host."""
    error = report.error
    if not isinstance(error, Exception) or isinstance(error, (ValueError, OSError, StoreError, EngineError)):
        return error
    wrapped = EngineError(f"worker {report.worker} on {report.host} cannot load its teacher: {report.reason}")
    wrapped.__cause__ = error
    return wrapped
