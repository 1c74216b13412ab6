"""Settings of trainings: data to learn from, network, augmentation, schedule. This module imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hmsa_label.labelers.training import LossSettings
from hmsa_label.pipeline.config import (
    COARSE_LABELS,
    DATASETS,
    FLAT,
    PRECISIONS,
    DataConfig,
    at_least,
    check_device,
    one_of,
    option_of,
)
from hmsa_label.pipeline.rule_values import class_thresholds
from hmsa_label.stores.location import Location, keep_as_text

OPTIMIZERS = ("sgd", "adam", "adamw", "radam-lookahead")
SCHEDULES = ("poly", "cosine")
ARMS = ("fine", "coarse", "auto")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network by name; `num_classes` follows the class table of the data.

    Attributes:
        init_weights: checkpoint to start from: a teacher of the same architecture, or an ImageNet trunk.
        new_class_heads: start the class heads afresh, for a checkpoint that knows other classes.
    """

    name: str = "hrnet_w48_ocr"
    init_weights: Location | None = None
    new_class_heads: bool = False

    def __post_init__(self) -> None:
        keep_as_text(self, "init_weights")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of a training image, in this order: scale, crop with padding, flip, color, blur.

    Attributes:
        crop_px: (height, width) of a training crop.
        scale_range: factor drawn uniformly, applied to both sides.
        colour_jitter: brightness, contrast, saturation factors in 1 +- this; hue shift up to this share of the circle.
        blur_sigma_px: range of the Gaussian blur's sigma; None switches blur off.
        class_uniform: share of the crops centered on a class drawn uniformly among those present in the data, 0..1.
    """

    crop_px: tuple[int, int] = (1024, 2048)
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    colour_jitter: float = 0.25
    blur_sigma_px: tuple[float, float] | None = None
    class_uniform: float = 0.5

    def __post_init__(self) -> None:
        if min(self.crop_px) < 32:
            raise ValueError(f"--crop must be at least 32 x 32; got {'x'.join(map(str, self.crop_px))}")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"--scale-range must be two positive factors in ascending order; got {self.scale_range}")
        if not 0.0 <= self.class_uniform <= 1.0:
            raise ValueError(f"--class-uniform is a share between 0 and 1; got {self.class_uniform}")


@dataclass(frozen=True, kw_only=True)
class AutoLabels:
    """Labels of a store that a student trains on beside the fine ones.

    Attributes:
        data: root of the labeled images, a path or URL; None is that of the fine ones if they are there, or else where
            the runs of the store found them. dataset: how it is laid out; None as it was then.
        version: number or tag; None is the last finished version.
        threshold: another stored threshold than that of the labels' rule. class_thresholds: others of single classes,
            by name, in place of those of the rule, as in `RuleConfig`.
        confidence_weight: weight each pixel's loss by the lowest confidence that its code allows.
        allow_leak: train although images that are validated on are among those trained on.
    """

    store: Location
    data: Location | None = None
    dataset: str | None = None
    version: str | None = None
    threshold: float | None = None
    class_thresholds: Mapping[str, float | str] | Location | None = None
    confidence_weight: bool = False
    allow_leak: bool = False
    storage_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "store", "data")
        if self.dataset is not None:
            one_of("--auto-dataset", self.dataset, DATASETS)
        if self.class_thresholds is not None:
            given = class_thresholds("--class-thresholds", self.class_thresholds)
            object.__setattr__(self, "class_thresholds", given)

    @property
    def read_class_thresholds(self) -> dict[str, float | str] | None:
        """By class name, as they were given or read from the file; None if none were."""
        assert self.class_thresholds is None or isinstance(self.class_thresholds, dict)  # read on construction
        return self.class_thresholds


@dataclass(frozen=True, kw_only=True)
class CoarseLabels:
    """Coarse polygons that a training uses beside the fine labels; None as `split` uses none.

    Attributes:
        limit: only the first images by key; None takes all.
    """

    split: str | None = None
    labels: str = COARSE_LABELS
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            at_least("--coarse-limit", self.limit, 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training of a teacher (arXiv 2005.10821, section 4; defaults follow the paper where it and its code differ).

    Attributes:
        second: labels that are mixed with the fine ones; a student's are those of a store.
        mix: share of the images of each batch that come from `second`, 0..1.
        fine_tail: share of the steps, at the end, that see fine labels alone, 0..1.
        objective: settings of the loss, of the kind that the model takes; None is the model's own defaults.
        max_steps: optimizer steps; None is `epochs` passes over the fine images at their share of a batch.
        nesterov: SGD looks ahead along its momentum.
        schedule: how the learning rate falls: `poly`, or `cosine`, half a wave over all steps.
        poly_power: learning rate = learning_rate * (1 - epoch / epochs) ** poly_power, by step within an epoch too.
        poly_by_epoch: the learning rate falls at the end of each epoch only, as in the released code.
        warmup_share: share of all steps with a linear warm-up, 0..1; `warmup_steps` counts where it is given.
        batch_size: crops of a step, over all processes; accumulate: passes that a process makes them in.
    """

    data: DataConfig
    output: Location
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    second: AutoLabels | CoarseLabels | None = None
    mix: float = 0.5
    fine_tail: float = 0.0
    val_split: str = "val"
    labels: str = "gtFine"
    objective: LossSettings | None = field(default=None, metadata=FLAT)
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False
    schedule: str = "poly"
    poly_power: float = 2.0
    poly_by_epoch: bool = False
    warmup_steps: int = 0
    warmup_share: float = 0.0
    ema_decay: float | None = None
    epochs: int = 175
    max_steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    loader_workers: int = 0
    precision: str = "auto"
    device: str = "auto"
    cpu_threads: int | None = None
    seed: int = 0
    validate_every: int = 0
    save_every: int = 500
    tensorboard: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        keep_as_text(self, "output")
        check_device(self.device)
        one_of("--precision", self.precision, PRECISIONS)
        one_of("--optimizer", self.optimizer, OPTIMIZERS)
        one_of("--schedule", self.schedule, SCHEDULES)
        for name in ("epochs", "batch_size", "accumulate"):
            at_least(option_of(name), getattr(self, name), 1)
        for name in ("mix", "fine_tail", "warmup_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{option_of(name)} is a share between 0 and 1; got {getattr(self, name)}")
        if self.nesterov and self.optimizer == "sgd" and self.momentum <= 0:
            raise ValueError(f"--nesterov needs a --momentum above 0; got {self.momentum}")
        if self.poly_by_epoch and self.schedule != "poly":
            raise ValueError(f"--poly-by-epoch is for --schedule poly; got --schedule {self.schedule}")
        if self.objective is not None and self.objective != type(self.objective)():
            self.check_weights()  # else they are perhaps not those of the model, which is found later

    def check_weights(self) -> None:
        """Raises ValueError if pixels are to be weighted, and the loss cannot do it."""
        if isinstance(self.second, AutoLabels) and self.second.confidence_weight and self.objective is not None:
            self.objective.check_pixel_weights()

    @property
    def share_of_second(self) -> float:
        """Share of a batch that does not hold fine labels, 0..1."""
        return self.mix if self.second is not None else 0.0


@dataclass(frozen=True, kw_only=True)
class RayTrainConfig:
    """A training on a Ray cluster.

    Attributes:
        workers: processes, each on a GPU of its own; 0 trains in this process.
    """

    workers: int = 0
    ray_address: str | None = None

    def __post_init__(self) -> None:
        at_least("--train-workers", self.workers, 0)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The same student trained on fine labels alone, on fine and coarse, and on fine and auto labels, seed by seed.

    Attributes:
        train: of every student; its output is the folder of the comparison; `second`, `seed`, `resume` and
            `validate_every` are set by it. The learning rate falls by step: epochs differ in length between arms.
        auto: the auto labels. coarse: where the coarse polygons are.
        arms: of fine, coarse, auto; empty is all that the data allows.
        score_split: split that students are scored on; None takes the one that they are validated on.
        resamples: of the bootstrap. confidence: of its intervals, 0..1.
    """

    train: TrainConfig
    auto: AutoLabels
    coarse: CoarseLabels = field(default_factory=lambda: CoarseLabels(split="train_extra"))
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    score_split: str | None = None
    resamples: int = 2000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for arm in self.arms:
            one_of("--arms", arm, ARMS)
        if self.train.poly_by_epoch:
            raise ValueError("--poly-by-epoch would give each arm another schedule; compare without it")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"--seeds must be distinct and not negative, such as 0,1,2; got {self.seeds}")
        if len(set(self.arms)) != len(self.arms):
            raise ValueError(f"--arms must be distinct; got {self.arms}")
        at_least("--resamples", self.resamples, 100)
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"--confidence must lie between 0 and 1, both excluded; got {self.confidence}")
