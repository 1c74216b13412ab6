"""Shows a training to a person: a bar on a terminal, one plain line every ten seconds anywhere else."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TextIO

from hmsa_label.labelers.training import Score
from hmsa_label.pipeline.training.log import TrainEvent

LINE_SECONDS = 10.0


class TrainLines:
    """A line every ten seconds with loss, last score, images per second and the time left; one for every validation."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self._due = 0.0
        self._score: Score | None = None

    def __call__(self, event: TrainEvent) -> None:
        if (words := event.estimate or event.note) is not None:
            print(words, file=self._stream, flush=True)
            return
        now = self._clock()
        self._began = self._began or (now, event.step)
        if event.score is not None:
            self._score = event.score
            self._print(event, [f"validation {event.score.name} {event.score.value:.4f}"])
        elif now >= self._due or event.step == event.total_steps:
            self._due = now + LINE_SECONDS
            self._print(
                event, [f"loss {event.loss:.4f}", f"{event.images_per_second:.2f} images/s", *self._left(event)]
            )

    def _left(self, event: TrainEvent) -> list[str]:
        """The time left, validations included, from the second step of this call on."""
        assert self._began is not None
        since, first = self._began
        if event.step <= first or event.step == event.total_steps:
            return []
        seconds = (self._clock() - since) / (event.step - first) * (event.total_steps - event.step)
        best = [] if self._score is None else [f"last {self._score.name} {self._score.value:.4f}"]
        return [*best, f"{timedelta(seconds=round(seconds))} left"]

    def _print(self, event: TrainEvent, parts: list[str]) -> None:
        print(", ".join([f"step {event.step}/{event.total_steps}", *parts]), file=self._stream, flush=True)


class TrainBar:
    """A tqdm bar over steps with loss, validation score and images per second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Any = None
        self._notes: dict[str, str] = {}

    def __call__(self, event: TrainEvent) -> None:
        if (words := event.estimate or event.note) is not None:
            print(words, file=self._stream, flush=True)
            return
        if self._bar is None:
            self._open(event)
        if event.score is not None:
            self._notes[event.score.name] = f"{event.score.value:.4f}"
        if event.loss is not None:
            self._notes |= {"loss": f"{event.loss:.3f}", "images/s": f"{event.images_per_second:.2f}"}
        self._bar.set_postfix(self._notes, refresh=False)
        self._bar.update(event.step - self._bar.n)
        if event.step == event.total_steps:
            self._bar.refresh()

    def _open(self, event: TrainEvent) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=event.total_steps,
            initial=event.step - 1,
            unit="step",
            desc="training",
            dynamic_ncols=True,
            file=self._stream,
        )


def open_training_display(stream: TextIO | None = None) -> Callable[[TrainEvent], None]:
    """A bar if the stream (default stderr) is a terminal, else lines: a bar would flood a log."""
    stream = stream or sys.stderr
    return TrainBar(stream) if stream.isatty() else TrainLines(stream)
