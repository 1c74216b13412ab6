"""What a training tells: one line of JSON per event, TensorBoard if it is wanted, and a picture of its curves."""

import io
import json
import math
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from hmsa_label.labelers.training import Score, score_key
from hmsa_label.pipeline.training.state import TrainFolder

CURVE_INCHES = (9.0, 4.0)
SMOOTHING = 0.95


@dataclass(frozen=True, kw_only=True)
class TrainEvent:
    """One line of the metrics log: a step's loss, or a validation when `score` is set; or what is expected.

    Attributes:
        loss: mean over the step's processes and passes.
        images_per_second: crops of all processes.
        score: on the validation split; the log has its figures among the other numbers.
        estimate: what the training will take, in words; sent once, before the first step, if it is a large one.
        note: what else is to be known of it, in words; sent before the first step.
    """

    step: int
    total_steps: int
    loss: float | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    score: Score | None = None
    estimate: str | None = None
    note: str | None = None


class TrainLog:
    """Writes the events of a training into its folder.

    Raises:
        ValueError: TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: TrainFolder, *, score: str, tensorboard: bool) -> None:
        """Opens TensorBoard's file if it is wanted.

        Args:
            score: name of the validation score, such as mIoU.
        """
        self.folder, self.score = folder, score
        self._board = _open_board(str(folder.path)) if tensorboard else None

    def __call__(self, event: TrainEvent) -> None:
        """Appends one event to `metrics.jsonl`, and its numbers to TensorBoard."""
        values = {part.name: getattr(event, part.name) for part in fields(event) if part.name != "score"}
        values |= event.score.figures if event.score is not None else {}
        values = {name: value for name, value in values.items() if value is not None}
        self.folder.log(values)
        if self._board is not None:
            for name in ("loss", "learning_rate", "images_per_second", score_key(self.score)):
                if name in values:
                    self._board.add_scalar(name, values[name], event.step)

    def close(self) -> None:
        """Writes the picture, and what TensorBoard's writer still holds."""
        self._draw()
        if self._board is not None:
            self._board.close()

    def _draw(self) -> None:
        """Writes `curve.png`: loss, learning rate and validation score over the steps."""
        events = [json.loads(line) for line in self.folder.read_metrics()]
        self.folder.write("curve.png", curve(events, self.score))


def curve(events: list[dict[str, Any]], score: str) -> bytes:
    """The PNG of a training's curves: loss with its running mean and the learning rate; the validation score beside it.

    Args:
        events: lines of the metrics log.
        score: name of the score.
    """
    from matplotlib.figure import Figure

    key = score_key(score)
    figure = Figure(figsize=CURVE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [event for event in events if "loss" in event]
    scored = [event for event in events if key in event]
    x, loss = [event["step"] for event in steps], [event["loss"] for event in steps]
    left.plot(x, loss, color="#c9d6e4", linewidth=0.8, label="loss of a step")
    left.plot(x, _running_mean(loss), color="#1f5fa8", linewidth=1.8, label="running mean")
    left.set(xlabel="step", ylabel="loss", title="Loss")
    left.legend(frameon=False)
    rate = left.twinx()
    rate.plot(x, [event["learning_rate"] for event in steps], color="#d08a2e", linewidth=1, linestyle="--")
    rate.set_ylabel("learning rate (dashed)", color="#a0661a")
    right.plot([event["step"] for event in scored], [event[key] for event in scored], "o-", color="#2e7d4f")
    for event in scored[-1:]:
        right.annotate(
            f"{event[key]:.3f}", (event["step"], event[key]), (-4, 7), textcoords="offset points", ha="right"
        )
    right.set(xlabel="step", ylabel=score, title="Validation" if scored else "Validation: none", ylim=(0, 1))
    for axis in (left, right):
        axis.spines["top"].set_visible(False)
        axis.set_xlim(0, max([*x, 1]))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _running_mean(values: list[float]) -> list[float]:
    """Exponential mean that does not start at zero; values that are no numbers are skipped."""
    sound = [value if math.isfinite(value) else 0.0 for value in values]
    sums = accumulate(sound, lambda mean, value: SMOOTHING * mean + (1 - SMOOTHING) * value, initial=0.0)
    return [total / (1 - SMOOTHING**count) for count, total in enumerate(list(sums)[1:], 1)]


def _open_board(folder: str) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("--tensorboard needs TensorBoard; install it with pip install 'hmsa-label[tb]'") from None
    return SummaryWriter(folder)
