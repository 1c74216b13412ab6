"""`hmsa-label train-teacher`: train a teacher on fine labels."""

import time
from typing import Any

import click

from hmsa_label import pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import command, flag, settings
from hmsa_label.cli.settings import use_preset
from hmsa_label.pipeline import AugmentConfig, DataConfig, ModelConfig, TrainConfig

LINE_SECONDS = 10.0
PRESET_NAMES = ("paper", "released-code")


class Watcher:
    """Tells on stderr how a training goes: every validation, and the loss every ten seconds."""

    def __init__(self) -> None:
        self._due = 0.0

    def __call__(self, event: Any) -> None:
        where = f"step {event.step}/{event.total_steps}"
        if event.miou is not None:
            output.say(f"{where}, validation mIoU {event.miou:.4f}")
        elif time.monotonic() >= self._due or event.step == event.total_steps:
            self._due = time.monotonic() + LINE_SECONDS
            output.say(f"{where}, loss {event.loss:.4f}, {event.images_per_second:.2f} crops/s")


@command("train-teacher", example="hmsa-label train-teacher --data /data/cityscapes --output teacher --batch-size 8")
@flag(
    "--preset",
    "Values of the paper, or of the code released with it.",
    type=click.Choice(PRESET_NAMES),
    is_eager=True,
    expose_value=False,
    callback=use_preset,
    section="Training",
)
@settings(DataConfig, "data", split="train")
@settings(ModelConfig, "model")
@settings(AugmentConfig, "augment")
@settings(TrainConfig, "config")
def train_teacher(config: TrainConfig, as_json: bool) -> None:
    """Train a teacher on fine labels.

    Checkpoints go to --output, the best one by validation mIoU among them; call again with --resume to go on after an
    interruption. The defaults are those of a full training on GPUs; --preset takes a published recipe instead.
    """
    summary = pipeline.train_teacher(config, Watcher())
    if as_json:
        output.show_json(summary)
        return
    best = summary.best_miou
    output.show_facts({
        "checkpoint": summary.checkpoint,
        "best mIoU": "not validated" if best is None else f"{best:.4f}",
        "steps": summary.steps,
        "time": f"{summary.seconds:.1f} s",
    })  # fmt: skip
