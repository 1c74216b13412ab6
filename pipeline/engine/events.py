"""What a running engine tells whoever watches it: small frozen dataclasses, sent to one callback in the driver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hmsa_label.pipeline.records import Failure


@dataclass(frozen=True, kw_only=True)
class WorkersStarting:
    """The images are listed and the workers load their teachers; `where` is the executor, or the cluster's address."""

    workers: int
    where: str


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """The store is open and what is left to do is known."""

    store: str
    run_id: str
    images_total: int
    images_done_before: int


@dataclass(frozen=True, kw_only=True)
class WorkerLoading:
    """A worker has found its place and begins to load its teacher."""

    worker: int


@dataclass(frozen=True, kw_only=True)
class WorkerUnusable:
    """A worker cannot load its teacher where it is; it is left out if others can.

    Attributes:
        reason: in one line. error: as the worker raised it.
    """

    worker: int
    host: str
    reason: str
    error: BaseException = field(compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class WorkerStarted:
    """A teacher is loaded and ready; `info` says which, and where it runs (host, pid, device)."""

    worker: int
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WorkerLost:
    """A worker's process is gone, with everything it was working on; it is being replaced."""

    worker: int
    reason: str
    while_starting: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageLabeled:
    """One image is on storage with its receipt.

    Attributes:
        kept_share: share of its pixels at or above the threshold, 0..1.
        seconds: from the first byte read to the last byte written, waiting included.
    """

    key: str
    kept_share: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ImageFailed:
    """One image is given up; the others go on."""

    failure: Failure


@dataclass(frozen=True, kw_only=True)
class FailuresKnown:
    """Images that failed in an earlier attempt, whose files are still the same; they are not tried again."""

    failures: Sequence[Failure]


@dataclass(frozen=True, kw_only=True)
class LabeledElsewhere:
    """Images of this run that another driver has labeled meanwhile."""

    images: int


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something about the run that nobody asked for, in one line; the run goes on."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Settling:
    """All images are predicted, and a rule that looks at the whole set is settled and applied, without the teacher."""

    images: int


@dataclass(frozen=True, kw_only=True)
class Committed:
    """Receipts became part of a version of the manifest."""

    version: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Draining:
    """Somebody asked to stop: nothing more is fed, what is on the devices is finished."""

    images_in_flight: int


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Sent about twice a second, whether or not something happened."""

    workers_ready: int
    workers: int
    images_in_flight: int


@dataclass(frozen=True, kw_only=True)
class RunEnded:
    """The run is over: finished, drained or failed."""

    images_labelled: int
    images_failed: int
    interrupted: bool


Event = (
    WorkersStarting
    | RunStarted
    | WorkerLoading
    | WorkerUnusable
    | WorkerStarted
    | WorkerLost
    | ImageLabeled
    | ImageFailed
    | FailuresKnown
    | LabeledElsewhere
    | Settling
    | Warned
    | Committed
    | Draining
    | Tick
    | RunEnded
)
OnEvent = Callable[[Event], None]
