"""Settings of every stage: frozen, validated on construction, saved with the run.

Defaults are written here once; the command line takes its own from these fields. This module imports nothing heavy.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

DATASETS = ("cityscapes", "mapillary", "folder")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FUSIONS = ("hierarchical", "explicit", "average", "max", "single")
EXECUTORS = ("ray", "local")
ON_ERROR = ("skip", "fail")
LOSSES = ("rmi", "ce")
AUX_LOSSES = ("side", "ce", "rmi")
OPTIMIZERS = ("sgd", "adamw")
ARMS = ("fine", "coarse", "auto")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from: any fsspec URL or path, and which part of it."""

    root: str
    dataset: str = "cityscapes"
    split: str = "train_extra"
    limit: int | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("dataset", self.dataset, DATASETS)
        if self.limit is not None:
            _at_least("limit", self.limit, 1)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which teacher looks at an image, and how.

    Attributes:
        scales: factors of the image size, each predicted once and fused; hierarchical fusion needs 1.0 among them.
        precision: `auto` is bf16 on a CUDA device that has it, else fp32; never changed silently during a run.
        device: `auto` is the first visible CUDA device, else the CPU.
        cpu_threads: torch threads of one teacher on a CPU; part of what makes labels reproducible bit by bit.
        max_memory_gb: what a pass may take beside the model, 10**9 bytes; larger images are labelled in overlapping
            tiles, which is recorded with each of them. None is nine tenths of a GPU's free memory, no bound on a CPU.
    """

    weights: str
    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    flip: bool = False
    fusion: str = "hierarchical"
    precision: str = "auto"
    device: str = "auto"
    cpu_threads: int = 1
    max_memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.max_memory_gb is not None and self.max_memory_gb <= 0:
            raise ValueError(f"max_memory_gb must be positive; got {self.max_memory_gb}")
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("fusion", self.fusion, FUSIONS)
        _at_least("cpu_threads", self.cpu_threads, 1)
        if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) != len(self.scales):
            raise ValueError(f"scales must be distinct and positive, such as 0.5,1.0,2.0; got {self.scales}")
        if self.fusion == "hierarchical" and 1.0 not in self.scales:
            raise ValueError(f"hierarchical fusion needs scale 1.0 among the scales; got {self.scales}")
        if self.fusion == "single" and len(self.scales) != 1:
            raise ValueError(f"single fusion takes exactly one scale; got {self.scales}")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How work is spread.

    Attributes:
        executor: `ray` runs one actor per GPU (or per share of the CPUs), `local` threads in this process.
        workers: number of teachers at work; None is one per GPU of the cluster, or one per CPU share without GPUs.
        threads: images in flight per worker; decoding and writing overlap the forward pass.
        item_timeout: seconds without any result after which a busy worker counts as hung.
        on_error: `skip` names images that cannot be labelled and goes on, `fail` ends the run at the first one.
        max_failures: more images than this that cannot be labelled end the run, earlier attempts' included; None is
            no bound.
    """

    executor: str = "ray"
    workers: int | None = None
    gpus_per_worker: float = 1.0
    cpus_per_worker: int = 1
    batch_size: int = 1
    threads: int = 4
    item_timeout: float = 600.0
    ray_address: str | None = None
    on_error: str = "skip"
    max_failures: int | None = None

    def __post_init__(self) -> None:
        _one_of("executor", self.executor, EXECUTORS)
        _one_of("on_error", self.on_error, ON_ERROR)
        if self.max_failures is not None:
            _at_least("max_failures", self.max_failures, 0)
        for name in ("cpus_per_worker", "batch_size", "threads"):
            _at_least(name, getattr(self, name), 1)
        if self.workers is not None:
            _at_least("workers", self.workers, 1)
        if self.gpus_per_worker <= 0 or self.item_timeout <= 0:
            raise ValueError("gpus_per_worker and item_timeout must be positive")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """One labelling run: data, teacher, threshold, store, engine.

    Attributes:
        only_new: also label images again whose files hold other bytes than when they were labelled, as a new version;
            without it images that the store has are not looked at.
        retry_failed: try images again that did not decode before although their files are still the same.
    """

    data: DataConfig
    teacher: TeacherConfig
    store: str
    threshold: float = 0.9
    keep_evidence: bool = True
    engine: EngineConfig = field(default_factory=EngineConfig)
    relabel: bool = False
    only_new: bool = False
    retry_failed: bool = False
    single_writer: bool = False
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold must lie between 0 and 1, both excluded; got {self.threshold}")
        if self.relabel and self.only_new:
            raise ValueError("--relabel labels every image again, --only-new those that changed; give one of them")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A network by name; `num_classes` follows the class table of the data.

    Attributes:
        init_weights: checkpoint to start from: a teacher of the same architecture, or an ImageNet trunk.
        new_class_heads: start the class heads afresh, for a checkpoint that knows other classes.
    """

    name: str = "hrnet_w48_ocr"
    init_weights: str | None = None
    new_class_heads: bool = False


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of a training image, in this order: scale, crop with padding, flip, colour, blur.

    Attributes:
        crop_px: (height, width) of a training crop.
        scale_range: factor drawn uniformly, applied to both sides.
        colour_jitter: brightness, contrast, saturation factors in 1 +- this; hue shift up to this share of the circle.
        blur_sigma_px: range of the Gaussian blur's sigma; None switches blur off.
        class_uniform: share of the crops centred on a class drawn uniformly among those present in the data, 0..1.
    """

    crop_px: tuple[int, int] = (1024, 2048)
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    colour_jitter: float = 0.25
    blur_sigma_px: tuple[float, float] | None = None
    class_uniform: float = 0.5

    def __post_init__(self) -> None:
        if min(self.crop_px) < 32:
            raise ValueError(f"crop_px must be at least 32 x 32; got {self.crop_px}")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range must be two positive factors in ascending order; got {self.scale_range}")
        if not 0.0 <= self.class_uniform <= 1.0:
            raise ValueError(f"class_uniform is a share between 0 and 1; got {self.class_uniform}")


@dataclass(frozen=True, kw_only=True)
class AutoLabels:
    """Labels of a store that a student trains on beside the fine ones; the images are those below the data root.

    Attributes:
        version: number or tag; None is the last finished version.
        threshold: another stored threshold than the labels' own; class_thresholds: one for some classes, by name.
        confidence_weight: weight each pixel's loss by the lowest confidence that its code allows.
        allow_leak: train although images that are validated on are among those trained on.
    """

    store: str
    version: str | None = None
    threshold: float | None = None
    class_thresholds: dict[str, float] = field(default_factory=dict)
    confidence_weight: bool = False
    allow_leak: bool = False
    storage_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CoarseLabels:
    """Coarse polygons that a training uses beside the fine labels; None as `split` uses none."""

    split: str | None = None
    labels: str = "gtCoarse"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training of a teacher (arXiv 2005.10821, section 4; defaults follow the paper where it and its code differ).

    Attributes:
        second: labels that are mixed with the fine ones; a student's are those of a store.
        mix: share of the images of each batch that come from `second`, 0..1.
        fine_tail: share of the steps, at the end, that see fine labels alone, 0..1.
        low_scale: the second scale of two-scale training (section 3.2); None trains a single-scale network.
        loss: `rmi` is sigmoid BCE + region mutual information, `ce` softmax cross-entropy.
        aux_weight: weight of the auxiliary head's loss; side_weight: of each single scale's own loss.
        aux_loss: of the auxiliary head; `side` is what single scales get: sigmoid BCE beside `rmi`, else `ce`.
        max_steps: optimizer steps; None is `epochs` passes over the fine images at their share of a batch.
        poly_power: learning rate = learning_rate * (1 - epoch / epochs) ** poly_power, by step within an epoch too.
        poly_by_epoch: the learning rate falls at the end of each epoch only, as in the released code.
        batch_size: crops of a step, over all processes; accumulate: passes that a process makes them in.
    """

    data: DataConfig
    output: str
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    second: AutoLabels | CoarseLabels | None = None
    mix: float = 0.5
    fine_tail: float = 0.0
    val_split: str = "val"
    labels: str = "gtFine"
    loss: str = "rmi"
    low_scale: float | None = 0.5
    aux_loss: str = "side"
    aux_weight: float = 0.4
    side_weight: float = 0.05
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    poly_power: float = 2.0
    poly_by_epoch: bool = False
    warmup_steps: int = 0
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
        _one_of("loss", self.loss, LOSSES)
        _one_of("aux_loss", self.aux_loss, AUX_LOSSES)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "accumulate"):
            _at_least(name, getattr(self, name), 1)
        for name in ("mix", "fine_tail"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share between 0 and 1; got {getattr(self, name)}")
        if (
            isinstance(self.second, AutoLabels)
            and self.second.confidence_weight
            and "rmi" in (self.loss, self.aux_loss)
        ):
            raise ValueError("confidence_weight needs --loss ce, which weighs single pixels; rmi weighs regions")

    @property
    def share_of_second(self) -> float:
        """Share of a batch that does not hold fine labels, 0..1."""
        return self.mix if self.second is not None else 0.0


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Scoring of a teacher or student on a split with fine labels."""

    data: DataConfig
    teacher: TeacherConfig
    labels: str = "gtFine"


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """The picture of one image's prediction, scale by scale."""

    teacher: TeacherConfig
    output: str = "explained.png"
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold must lie between 0 and 1, both excluded; got {self.threshold}")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Which label store to look into."""

    uri: str
    storage_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """Where the links of a checkpoint's chain are, if not where they were recorded.

    Attributes:
        teacher: weights file of the teacher. store: the label store. data: root of the fine images.
        deep: read and hash every label, not only what lists them.
    """

    teacher: str | None = None
    store: str | None = None
    data: str | None = None
    deep: bool = False
    store_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The same student trained on fine labels alone, on fine and coarse, and on fine and auto labels, seed by seed.

    Attributes:
        train: of every student; its output is the folder of the comparison, `second`, `seed` and `resume` are set here.
        auto: the auto labels. coarse_split, coarse_labels: where the coarse polygons are.
        arms: of fine, coarse, auto; empty is all that the data allows.
        resamples: of the bootstrap. confidence: of its intervals, 0..1.
    """

    train: TrainConfig
    auto: AutoLabels
    arms: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    coarse_split: str = "train_extra"
    coarse_labels: str = "gtCoarse"
    resamples: int = 2000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for arm in self.arms:
            _one_of("arms", arm, ARMS)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be distinct and not negative, such as 0,1,2; got {self.seeds}")
        if len(set(self.arms)) != len(self.arms):
            raise ValueError(f"arms must be distinct; got {self.arms}")
        _at_least("resamples", self.resamples, 100)
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence must lie between 0 and 1, both excluded; got {self.confidence}")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain, JSON-able form of a config dataclass, nested ones included; tuples become lists.

    Keys under `storage_options` may hold credentials and are left out.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(entry) for name, entry in value.items() if name != "storage_options"}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return value

    document: dict[str, Any] = plain(asdict(config))
    return document
