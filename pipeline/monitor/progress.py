"""Shows a run's events to a person: a bar on a terminal, one plain line every 30 s anywhere else.

The unit is the image and the total is known from the start. Both write to stderr; stdout belongs to results.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from hmsa_label.pipeline.engine.events import (
    Committed,
    Draining,
    Event,
    FailuresKnown,
    ImageFailed,
    ImageLabeled,
    LabeledElsewhere,
    RunEnded,
    RunStarted,
    Settling,
    Tick,
    Warned,
    WorkerLost,
    WorkersStarting,
    WorkerStarted,
    WorkerUnusable,
)
from hmsa_label.pipeline.wording import counted

LINE_SECONDS = 30.0
WINDOW_SECONDS = 60.0


class Counter:
    """What a display needs to know, kept up to date by events.

    Attributes:
        done: images with a receipt, those of earlier runs and of other drivers included.
        failed: images given up.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = self.done = self.failed = self.labeled = 0
        self.workers = self.ready = 0
        self.version: int | None = None
        self._kept = 0.0
        self._clock = clock
        self._finished_at: deque[float] = deque()

    def update(self, event: Event) -> None:
        """Takes one event in."""
        if isinstance(event, WorkersStarting):
            self.workers = event.workers
        elif isinstance(event, RunStarted):
            self.total, self.done = event.images_total, event.images_done_before
        elif isinstance(event, ImageLabeled):
            self.done += 1
            self.labeled += 1
            self._kept += event.kept_share
            self._finished_at.append(self._clock())
        elif isinstance(event, ImageFailed):
            self.failed += 1
        elif isinstance(event, FailuresKnown):
            self.failed += len(event.failures)
        elif isinstance(event, LabeledElsewhere):
            self.done += event.images
        elif isinstance(event, Committed):
            self.version = event.version
        elif isinstance(event, Tick):
            self.ready, self.workers = event.workers_ready, event.workers

    @property
    def kept_share(self) -> float | None:
        """Mean kept share of the images labeled in this run, 0..1; None before the first."""
        return self._kept / self.labeled if self.labeled else None

    @property
    def images_per_second(self) -> float | None:
        """Rate over the last minute; None before two images."""
        now, times = self._clock(), self._finished_at
        while times and now - times[0] > WINDOW_SECONDS and len(times) > 2:
            times.popleft()
        return (len(times) - 1) / (now - times[0]) if len(times) > 1 and now > times[0] else None

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the rate of the last minute."""
        rate = self.images_per_second
        return (self.total - self.done - self.failed) / rate if rate else None

    def notes(self) -> dict[str, str]:
        """Short facts beside the count: workers ready, kept share, failed images."""
        notes = {"workers": f"{self.ready}/{self.workers}"}
        if self.kept_share is not None:
            notes["kept"] = f"{100 * self.kept_share:.1f}%"
        if self.failed:
            notes["failed"] = str(self.failed)
        return notes


class Display(Protocol):
    """Takes the events of one run."""

    def __call__(self, event: Event) -> None:
        """Shows an event."""


class Lines:
    """One line every 30 s, and one for everything out of the ordinary; for log files and cluster jobs."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._count = Counter(clock)
        self._due = clock() + LINE_SECONDS

    def __call__(self, event: Event) -> None:
        self._count.update(event)
        if remark := remark_on(event):
            self._print(remark)
        if isinstance(event, RunEnded) or self._clock() >= self._due:
            self._due = self._clock() + LINE_SECONDS
            self._print(self._state())

    def _state(self) -> str:
        count = self._count
        if count.workers and not count.ready and not count.labeled:
            return f"waiting for {counted(count.workers, 'worker')}, none is ready yet"
        rate, left = count.images_per_second, count.seconds_left
        parts = [f"{count.done}/{count.total} images"]
        parts += [f"{rate:.2f} images/s"] if rate else []
        parts += [f"{_clock_time(left)} left"] if left else []
        return ", ".join([*parts, *(f"{name} {value}" for name, value in count.notes().items())])

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Bar:
    """A tqdm bar over images; remarks are printed above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._count = Counter()
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        self._count.update(event)
        if isinstance(event, RunStarted):
            self._open()
        if remark := remark_on(event):
            self._write(remark)
        if self._bar is None:
            return
        self._bar.update(self._count.done + self._count.failed - self._bar.n)  # whoever labeled them, or could not
        if isinstance(event, ImageLabeled | Tick):
            self._bar.set_postfix(self._count.notes(), refresh=isinstance(event, Tick))
        if isinstance(event, RunEnded):
            self._bar.close()

    def _write(self, remark: str) -> None:
        if self._bar is None:
            print(remark, file=self._stream, flush=True)
        else:
            self._bar.write(remark, file=self._stream)

    def _open(self) -> None:
        from tqdm import tqdm

        # smoothing: mean over about the last 50 images, so that the ETA follows workers that come and go.
        self._bar = tqdm(
            total=self._count.total,
            initial=self._count.done,
            unit="image",
            desc="labeling",
            smoothing=0.02,
            dynamic_ncols=True,
            file=self._stream,
        )


def open_display(stream: TextIO | None = None) -> Display:
    """A bar if the stream (default stderr) is a terminal, else lines: a bar would flood a log."""
    stream = stream or sys.stderr
    return Bar(stream) if stream.isatty() else Lines(stream)


def remark_on(event: Event) -> str | None:
    """A sentence on an event that is out of the ordinary, None on all others."""
    if isinstance(event, WorkerLost):
        what = "while it loaded its teacher" if event.while_starting else "and is replaced"
        return f"worker {event.worker} was lost {what}: {event.reason}"
    if isinstance(event, WorkerUnusable):
        return f"worker {event.worker} on {event.host} cannot load its teacher and is left out: {event.reason}"
    if isinstance(event, ImageFailed):
        return f"failed {event.failure.key}: {event.failure.reason}"
    if isinstance(event, Warned):
        return f"Warning: {event.text}"
    if isinstance(event, Settling):
        return f"{counted(event.images, 'image')} predicted; settling the rule over them, and labeling by it"
    if isinstance(event, FailuresKnown):
        left_out = counted(len(event.failures), "image")
        return f"left out {left_out} that failed before and whose files are the same; --retry-failed tries them"
    if isinstance(event, Draining):
        if not event.images_in_flight:
            return "stopping; nothing is in flight any more"
        flying = counted(event.images_in_flight, "image")
        return f"stopping after the {flying} in flight, which are kept; press Ctrl-C again to leave at once"
    if isinstance(event, WorkersStarting):
        return f"starting {counted(event.workers, 'worker')} ({event.where})"
    if isinstance(event, RunStarted) and event.images_done_before == event.images_total:
        return f"nothing to do: all {event.images_total} images have labels"
    if isinstance(event, WorkerStarted):
        where = " ".join(str(event.info[name]) for name in ("host", "device") if name in event.info)
        return f"worker {event.worker} is ready on {where}" if where else None
    return None


def _clock_time(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
