"""`hmsa-label train-teacher`, `train-student` and `train-trunk`: one training each."""

import os
from collections.abc import Callable
from dataclasses import replace

import click

import hmsa_label
from hmsa_label import (
    AugmentConfig,
    AutoLabels,
    CoarseLabels,
    DataConfig,
    ModelConfig,
    RayTrainConfig,
    TrainConfig,
    TrunkLoss,
    pipeline,
)
from hmsa_label.cli import output
from hmsa_label.cli.errors import INTERRUPTED
from hmsa_label.cli.options import SETTINGS, command, flag, settings
from hmsa_label.cli.settings import use_preset

PRESET_NAMES = ("paper", "released-code", "axial-paper", "axial-code")

preset = flag(
    "--preset",
    "Values of a paper, or of the code released with it; axial-... are those of panoptic models.",
    type=click.Choice(PRESET_NAMES),
    is_eager=True,
    expose_value=False,
    callback=use_preset,
    section="Training",
)


@command("train-teacher", example="hmsa-label train-teacher --data /data/cityscapes --output teacher --batch-size 8")
@preset
@settings(DataConfig, "data", split="train")
@settings(ModelConfig, "model")
@settings(AugmentConfig, "augment")
@settings(CoarseLabels, "coarse")
@settings(TrainConfig, "config")
@settings(RayTrainConfig, "cluster")
@click.pass_context
def train_teacher(
    ctx: click.Context, config: TrainConfig, coarse: CoarseLabels, cluster: RayTrainConfig, as_json: bool
) -> None:
    """Train a teacher on fine labels, or on fine labels and coarse polygons.

    Checkpoints go to --output, the best one by validation mIoU (panoptic models: PQ) among them; call again with
    --resume to go on after an interruption. The defaults are those of a full training on GPUs; --preset takes a
    published recipe instead. For several GPUs of one machine call it by torchrun, for those of a Ray cluster give
    --train-workers.
    """
    second = coarse if coarse.split else None
    _finish(ctx, hmsa_label.train_teacher, replace(config, second=second), cluster, as_json)


@command(
    "train-student",
    example="hmsa-label train-student --data /data/cityscapes --store labels --output student --batch-size 8",
)
@preset
@settings(DataConfig, "data", split="train")
@settings(ModelConfig, "model")
@settings(AugmentConfig, "augment")
@settings(AutoLabels, "auto")
@settings(TrainConfig, "config")
@settings(RayTrainConfig, "cluster")
@click.pass_context
def train_student(
    ctx: click.Context, config: TrainConfig, auto: AutoLabels, cluster: RayTrainConfig, as_json: bool
) -> None:
    """Train a student on fine labels and the labels of a store.

    Each batch holds --mix of auto-labeled images; their files are looked for below --data and where they
    were labeled, or below --auto-data. The checkpoint names the
    version of the labels with its digest, so that 'hmsa-label audit trace' leads from the student back to the teacher's
    data. Images that are validated on must not be among those trained on.
    """
    _finish(ctx, hmsa_label.train_student, replace(config, second=auto), cluster, as_json)


# Of train-teacher's options, those that whole images have no use for.
PIXEL_OPTIONS = (
    "labels", "mix", "fine_tail", "poly_by_epoch",
    *(setting.field for setting in SETTINGS[TrainConfig][1] if setting.part is not None),
)  # fmt: skip


@command("train-trunk", example="hmsa-label train-trunk --data /data/imagenet --output trunk --model axial_resnet_s")
@settings(DataConfig, "data", skip=("dataset",), split="train")
@settings(ModelConfig, "model", name="axial_resnet_s")
@settings(
    AugmentConfig,
    "augment",
    skip=("scale_range", "colour_jitter", "blur_sigma_px", "class_uniform"),
    crop_px=(224, 224),
)
@settings(TrunkLoss, "loss")
@settings(
    TrainConfig,
    "config",
    skip=PIXEL_OPTIONS,
    learning_rate=0.05,
    nesterov=True,
    weight_decay=8e-5,
    schedule="cosine",
    warmup_share=0.077,
    epochs=130,
    batch_size=128,
)
@click.pass_context
def train_trunk(ctx: click.Context, config: TrainConfig, loss: TrunkLoss, as_json: bool) -> None:
    """Train a trunk on images in one folder per class, such as ImageNet.

    --data has a folder for each split, --split and --val-split, and there one for each class. A panoptic training then
    starts from the trunk: train-teacher --model axial_deeplab_s --init-weights trunk/best.safetensors. The defaults are
    the recipe of the released classifiers; the best checkpoint is that of the highest top-1 accuracy. For several GPUs
    call it by torchrun.
    """
    _finish(ctx, hmsa_label.train_trunk, replace(config, objective=loss), RayTrainConfig(), as_json)


Train = Callable[[TrainConfig, Callable[["hmsa_label.TrainEvent"], None] | None], "hmsa_label.TrainSummary"]


def _finish(ctx: click.Context, train: Train, config: TrainConfig, cluster: RayTrainConfig, as_json: bool) -> None:
    """Trains here or on a cluster, and shows what came out."""
    if cluster.workers:
        summary = hmsa_label.train_on_ray(config, cluster)
    else:
        summary = train(config, pipeline.open_training_display())
    best = summary.best_score
    if os.environ.get("RANK", "0") != "0":
        pass  # one of several processes under torchrun; the first one tells
    elif as_json:
        output.show_json(summary.figures)
    else:
        output.show_facts({
            "checkpoint": summary.checkpoint,
            f"best {summary.score}": "not validated" if best is None else f"{best:.4f}",
            "steps": f"{summary.steps} of {summary.total_steps}",
            "interrupted": "yes; the same call with --resume goes on" if summary.interrupted else None,
            "time": f"{summary.seconds:.1f} s",
        })  # fmt: skip
    ctx.exit(INTERRUPTED if summary.interrupted else 0)
