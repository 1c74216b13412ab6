"""`hmsa-label train-teacher`: train a teacher on fine labels."""

from hmsa_label import pipeline
from hmsa_label.cli import output
from hmsa_label.cli.options import command, settings
from hmsa_label.pipeline import AugmentConfig, DataConfig, ModelConfig, TrainConfig


@command("train-teacher", example="hmsa-label train-teacher --data /data/cityscapes --output teacher --batch-size 8")
@settings(DataConfig, "data", split="train")
@settings(ModelConfig, "model")
@settings(AugmentConfig, "augment")
@settings(TrainConfig, "config")
def train_teacher(config: TrainConfig, as_json: bool) -> None:
    """Train a teacher on images with fine labels.

    Checkpoints go to --output, the best one by validation mIoU among them; call again with --resume to go on after an
    interruption. The defaults are those of a full training on GPUs.
    """
    summary = pipeline.train_teacher(config)
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
