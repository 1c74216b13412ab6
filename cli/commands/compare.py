"""`hmsa-label compare`: what auto labels buy, by training the same student with and without them."""

from collections.abc import Callable

import hmsa_label
from hmsa_label import (
    AugmentConfig,
    AutoLabels,
    CoarseLabels,
    CompareConfig,
    DataConfig,
    ModelConfig,
    TrainConfig,
    pipeline,
)
from hmsa_label.cli import output
from hmsa_label.cli.commands.train import preset
from hmsa_label.cli.options import command, settings


class Watcher:
    """Says on stderr which training is at work, and shows each as a training of its own is shown."""

    def __init__(self) -> None:
        self._current: tuple[str, int] | None = None
        self._display: Callable[[hmsa_label.TrainEvent], None] = pipeline.open_training_display()

    def __call__(self, arm: str, seed: int, event: "hmsa_label.TrainEvent") -> None:
        if self._current != (arm, seed):
            self._current, self._display = (arm, seed), pipeline.open_training_display()
            output.say(f"{arm}, seed {seed}:")
        self._display(event)


@command(
    "compare",
    example="hmsa-label compare --data /data/cityscapes --store labels --output compared --max-steps 4000",
)
@preset
@settings(DataConfig, "data", split="train")
@settings(ModelConfig, "model")
@settings(AugmentConfig, "augment")
@settings(AutoLabels, "auto")
@settings(CoarseLabels, "coarse", split="train_extra")
@settings(TrainConfig, "train", skip=("seed", "resume", "validate_every", "poly_by_epoch"))
@settings(CompareConfig, "config")
def compare(config: CompareConfig, as_json: bool) -> None:
    """Show what auto labels buy: train the same student with and without them.

    For every seed one training on fine labels alone, one with coarse polygons mixed in, one with auto labels; start,
    schedule and number of steps are the same. The last weights are scored on --val-split. A page with intervals,
    classes and cost goes to --output and is renewed after every seed; the same call goes on after an interruption.
    With --score-split it scores the same students on another split, which no choice was made on, in a page of its own.
    """
    found = hmsa_label.compare(config, Watcher())
    if as_json:
        output.show_json(found)
        return
    columns = ("arm", *(f"seed {seed}" for seed in found.seeds), "mean mIoU", "interval", "CPU time")
    output.show_table(columns, [_arm(found, arm) for arm in found.arms])
    output.show("")
    output.show_table(("difference", "mIoU", "interval", "above 0"), map(_difference, found.differences))
    output.show("")
    output.show_facts({"page": found.page})


def _arm(found: "hmsa_label.Comparison", arm: str) -> list[object]:
    miou = found.miou[arm]
    return [arm, *miou.seeds.values(), miou.mean, f"{miou.low:.4f} to {miou.high:.4f}",
            f"{found.cost[arm]['cpu_seconds'] / 60:.1f} min"]  # fmt: skip


def _difference(entry: "hmsa_label.Difference") -> list[object]:
    miou = entry.miou
    span = f"{miou.low:+.4f} to {miou.high:+.4f}"
    return [f"{entry.arm} - {entry.against}", f"{miou.value:+.4f}", span, output.percent(miou.above_zero)]
