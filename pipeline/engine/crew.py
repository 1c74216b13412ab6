"""What the dispatcher knows of its workers, filed so that the least busy one is found without looking at all."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from hmsa_label.pipeline.engine.executor import Task


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a worker gets, and how long it may take.

    Attributes:
        in_flight: images per worker; enough to decode the next ones while one is on the device. Where images take
            milliseconds, more names are given ahead, so that no worker waits for the driver.
        item_seconds: time without any result after which a busy worker counts as hung.
        start_seconds: time after which a worker that loads its teacher counts as hung.
        worker_seconds: time without any worker, ready or loading, after which the run ends.
    """

    in_flight: int
    item_seconds: float
    start_seconds: float
    worker_seconds: float


@dataclass(eq=False)
class Member:
    """One worker.

    Attributes:
        ready: whether its teacher is loaded. loading_since: time since when it is being loaded; None if it is not.
        flying: its images in flight, by key.
        heard_at: time of its last sign of life since it has work.
        start_crashes: losses in a row while it was starting.
    """

    number: int
    ready: bool = False
    loading_since: float | None = None
    flying: dict[str, Task] = field(default_factory=dict)
    heard_at: float = 0.0
    start_crashes: int = 0


class Crew:
    """All workers of a run, by number.

    Attributes:
        in_flight: images in flight, of all workers. num_ready: workers that are ready.
        aside: the worker that `least_busy` never gives.
    """

    def __init__(self) -> None:
        self.in_flight = self.num_ready = 0
        self.aside: Member | None = None
        self._members: list[Member] = []
        # Ready workers by the number of their images; first in each is who has that number for longest.
        self._by_load: list[OrderedDict[int, Member]] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __getitem__(self, number: int) -> Member:
        return self._members[number]

    def grow(self, count: int) -> None:
        """There are `count` workers now: at first all, later also those on hosts that joined."""
        self._members += [Member(number) for number in range(len(self._members), count)]

    def is_loading(self) -> bool:
        """Whether any worker is loading its teacher."""
        return any(member.loading_since is not None for member in self._members)

    def least_busy(self, limit: int) -> Member | None:
        """The ready worker with the fewest images in flight, if these are fewer than `limit`; O(limit)."""
        return next((next(iter(filed.values())) for filed in self._by_load[:limit] if filed), None)

    def set_aside(self, member: Member | None) -> None:
        """Keeps one worker from being given by `least_busy`, instead of the one before."""
        before, self.aside = self.aside, None
        if before is not None:
            self._file(before)
        if member is not None:
            self._unfile(member)
        self.aside = member

    def make_ready(self, member: Member) -> None:
        """Its teacher is loaded."""
        member.ready, member.loading_since, member.start_crashes = True, None, 0
        self.num_ready += 1
        self._file(member)

    def give(self, member: Member, task: Task) -> None:
        """One more image for a worker."""
        self._unfile(member)
        member.flying[task.key] = task
        self.in_flight += 1
        self._file(member)

    def take_back(self, member: Member, key: str) -> None:
        """A worker has finished an image."""
        self._unfile(member)
        del member.flying[key]
        self.in_flight -= 1
        self._file(member)

    def lose(self, member: Member) -> list[Task]:
        """A worker is gone; the images that it had."""
        self._unfile(member)
        lost = list(member.flying.values())
        self.in_flight -= len(lost)
        self.num_ready -= member.ready
        member.flying, member.ready, member.loading_since = {}, False, None
        return lost

    def _file(self, member: Member) -> None:
        if member.ready and member is not self.aside:
            load = len(member.flying)
            self._by_load += [OrderedDict() for _ in range(len(self._by_load), load + 1)]
            self._by_load[load][member.number] = member

    def _unfile(self, member: Member) -> None:
        if member.ready and member is not self.aside:
            del self._by_load[len(member.flying)][member.number]
