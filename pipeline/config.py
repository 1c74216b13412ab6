"""Settings of every stage: frozen, validated on construction, saved with the run.

Defaults are written here once; the command line takes its own from these fields. This module imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from hmsa_label.labelers.registry import DEFAULT_TEACHER, checked_options, place_of
from hmsa_label.pipeline.guard_config import GuardConfig
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.credentials import refuse_in_url
from hmsa_label.stores.location import Location, keep_as_text, location_text

DATASETS = ("cityscapes", "mapillary", "coco", "folder")
EXPORT_LAYOUTS = ("cityscapes", "coco", "zarr")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
EXECUTORS = ("ray", "local")
ON_ERROR = ("skip", "fail")
COARSE_LABELS = "gtCoarse"  # label type of polygons, unless another one is named
NO_EVIDENCE, CONFIDENCE, TOP2, DISAGREEMENT, GROWTH = "none", "confidence", "top2", "disagreement", "growth"
EVIDENCE = (CONFIDENCE, NO_EVIDENCE, TOP2, DISAGREEMENT, GROWTH)  # in the order that records have them
FLAT = {"flat": True}  # metadata of a field whose config is written among the fields beside it, not below its name


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {value!r}")


def at_least(option: str, value: float, least: float) -> None:
    if value < least:
        raise ValueError(f"{option} must be at least {least}; got {value}")


def evidence_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of evidence in the order of records, with confidence, which all others stand beside; `none` is one alone.

    Raises:
        ValueError: if one is unknown, none is named, or `none` is among others.
    """
    for kind in kinds:
        one_of("--evidence", kind, EVIDENCE)
    if not kinds or (NO_EVIDENCE in kinds and len(kinds) > 1):
        raise ValueError(
            f"--evidence takes none alone, or kinds such as confidence,top2; got {','.join(kinds) or 'nothing'}"
        )
    asked = kinds if NO_EVIDENCE in kinds else (CONFIDENCE, *kinds)
    return tuple(kind for kind in EVIDENCE if kind in asked)


def option_of(field: str) -> str:
    """The option of a field that is called like it."""
    return f"--{field.replace('_', '-')}"


def check_place(option: str, place: Location) -> None:
    """Refuses an empty path, as an unset variable of a shell gives it, and credentials in a URL."""
    if not place:
        raise ValueError(f"{option} is empty; give a path, or a URL such as s3://bucket/folder")
    refuse_in_url(str(place))


def check_device(name: str) -> None:
    if name not in ("auto", "cpu", "cuda") and not (name.startswith("cuda:") and name[5:].isdecimal()):
        raise ValueError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:N (an NVIDIA GPU is cuda)")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from: any fsspec URL or path, and which part of it."""

    root: Location
    dataset: str = "cityscapes"
    split: str = "train_extra"
    limit: int | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "root")
        check_place("--data", self.root)
        one_of("--dataset", self.dataset, DATASETS)
        if self.limit is not None:
            at_least("--limit", self.limit, 1)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Which teacher looks at an image, and how.

    Attributes:
        weights: path or URL of its checkpoint; None for a teacher that has none.
        teacher: name of a labeler (`labelers/registry.py`), or `module:Class` of anybody's own.
        options: of the labeler, by name; its dataclass of options serves too. They are recorded with the run.
        semantic_from: weights of another teacher that tells the classes, while this one tells instances apart; None
            if this one tells both. `semantic_teacher` is its name, `semantic_settings` its options. Device, precision,
            threads and memory are common to both.
        precision: `auto` is bf16 on a CUDA device where both compute in it, else fp32; never changed during a run.
        device: `auto` is the first visible CUDA device, else the CPU.
        cpu_threads: torch threads of one teacher on a CPU; part of what makes labels reproducible bit by bit.
        max_memory_gb: what a pass may take beside the model, 10**9 bytes; larger images are labeled in overlapping
            tiles, which is recorded with each of them. None shares nine tenths of a GPU, or three quarters of the main
            memory that is free, among the teachers on it.
    """

    weights: Location | None
    teacher: str = DEFAULT_TEACHER
    options: Mapping[str, Any] = field(default_factory=dict)
    semantic_from: Location | None = None
    semantic_teacher: str = DEFAULT_TEACHER
    semantic_settings: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "auto"
    device: str = "auto"
    cpu_threads: int = 1
    max_memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.max_memory_gb is not None and self.max_memory_gb <= 0:
            raise ValueError(f"--max-memory must be positive; got {self.max_memory_gb}")
        keep_as_text(self, "weights")
        if self.weights is not None:
            check_place("--weights", self.weights)
        elif self.teacher == DEFAULT_TEACHER:
            raise ValueError(f"the teacher {DEFAULT_TEACHER} needs a checkpoint; give it with --weights")
        check_device(self.device)
        one_of("--precision", self.precision, PRECISIONS)
        place_of(self.teacher)
        object.__setattr__(self, "options", checked_options(self.teacher, self.options))
        at_least("--cpu-threads", self.cpu_threads, 1)
        if self.semantic_from is None and (self.semantic_settings or self.semantic_teacher != DEFAULT_TEACHER):
            raise ValueError("--semantic-teacher and --semantic-options are about --semantic-from; give that too")
        if (semantics := self.semantics) is not None:
            object.__setattr__(self, "semantic_from", semantics.weights)
            object.__setattr__(self, "semantic_settings", semantics.options)

    @property
    def semantics(self) -> "TeacherConfig | None":
        """The teacher that tells the classes, if that is another one.

        Raises:
            ValueError: it or its options are unknown or unusable.
        """
        if self.semantic_from is None:
            return None
        return replace(
            self,
            weights=self.semantic_from,
            teacher=self.semantic_teacher,
            options=self.semantic_settings,
            semantic_from=None,
            semantic_teacher=DEFAULT_TEACHER,
            semantic_settings={},
        )


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How work is spread.

    Attributes:
        executor: `ray` runs one actor per GPU (or per share of the CPUs), `local` threads in this process.
        workers: number of teachers at work; None is one per GPU of the cluster, or one per CPU share without GPUs.
        batch_size: images of equal size that a teacher predicts together, as far as its memory allows. On a CPU the
            networks of this package give the same bits for every batch size; on a GPU a few pixels may differ.
        threads: images in flight per worker; decoding and writing overlap the forward pass.
        item_timeout: seconds without any result after which a busy worker counts as hung.
        start_timeout: seconds after which a worker that loads its teacher counts as hung.
        worker_timeout: seconds without any worker after which a run ends; a cluster may take long to bring hosts.
        on_error: `skip` names images that cannot be labeled and goes on, `fail` ends the run at the first one.
        max_failures: more images than this that cannot be labeled end the run, earlier attempts' included; None is
            no bound.
    """

    executor: str = "ray"
    workers: int | None = None
    gpus_per_worker: float = 1.0
    cpus_per_worker: int = 1
    batch_size: int = 1
    threads: int = 4
    item_timeout: float = 600.0
    start_timeout: float = 600.0
    worker_timeout: float = 3600.0
    ray_address: str | None = None
    on_error: str = "skip"
    max_failures: int | None = None

    def __post_init__(self) -> None:
        one_of("--executor", self.executor, EXECUTORS)
        one_of("--on-error", self.on_error, ON_ERROR)
        if self.max_failures is not None:
            at_least("--max-failures", self.max_failures, 0)
        for name in ("cpus_per_worker", "batch_size", "threads"):
            at_least(option_of(name), getattr(self, name), 1)
        if self.workers is not None:
            at_least("--workers", self.workers, 1)
        for name in ("gpus_per_worker", "item_timeout", "start_timeout", "worker_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{option_of(name)} must be positive; got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """One labeling run: data, teacher, rule, store, engine.

    Attributes:
        teacher: what labels; or labels that were made elsewhere, which `import_labels` takes in its place.
        rule: which pixels become labels; without a word those whose confidence is at least 0.9.
        guard: what happens if the rule leaves next to nothing of a class.
        evidence: what is stored beside the labels, so that `rethreshold` can change the rule: `confidence`, polygons
            included, and on top of it `top2`, `disagreement`, `growth`; or `none`.
        coarse_labels: label type of the polygons beside the images, such as gtCoarse; images may have none.
        keys: label only these images: keys, patterns, or `@FILE` with one per line (`data/selection.py`); empty is all.
        only_new: also label images again whose files hold other bytes than when they were labeled, as a new version;
            without it images that the store has are not looked at.
        join: share the work of an equal run that is live, instead of refusing to be the second one; a submitted Ray
            job always does.
        retry_failed: try images again that did not decode before although their files are still the same.
    """

    data: DataConfig
    teacher: TeacherConfig | ImportConfig
    store: Location
    rule: RuleConfig = field(default_factory=RuleConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    evidence: tuple[str, ...] = (CONFIDENCE,)
    coarse_labels: str = COARSE_LABELS
    keys: tuple[str, ...] = ()
    engine: EngineConfig = field(default_factory=EngineConfig)
    relabel: bool = False
    only_new: bool = False
    retry_failed: bool = False
    join: bool = False
    single_writer: bool = False
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "store")
        check_place("--store", self.store)
        object.__setattr__(self, "evidence", evidence_kinds(self.evidence))
        if self.relabel and self.only_new:
            raise ValueError("--relabel labels every image again, --only-new those that changed; give one of them")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Scoring of a teacher or student on a split with fine labels."""

    data: DataConfig
    teacher: TeacherConfig
    labels: str = "gtFine"


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """How precise a teacher's labels are at each threshold, measured on a split with fine labels.

    Attributes:
        teacher: that predicts the images; None counts what `store` holds of them.
        fold_weights: checkpoints of further teachers like it, each trained on other images. An image is then predicted
            by the first of all that was not trained on it.
        store: label stores of the images, made by teachers that were not trained on them.
        target_precision: propose a threshold for each class that reaches it, 0..1: a number, one by class name, or the
            path of a JSON file with one by class name. None proposes none.
        folds: into how many parts the images go, to measure thresholds on others than those they were chosen on.
        resamples: of the bootstrap. confidence: of its intervals, 0..1.
        allow_trained_on: count images all the same that their teacher was trained on; this is recorded.
        output: folder or URL for `calibration.json` and the page; None writes none.
    """

    data: DataConfig
    teacher: TeacherConfig | None = None
    fold_weights: tuple[Location, ...] = ()
    store: tuple[Location, ...] = ()
    labels: str = "gtFine"
    target_precision: str | float | Mapping[str, float] | None = None
    folds: int = 2
    resamples: int = 2000
    confidence: float = 0.95
    allow_trained_on: bool = False
    output: Location | None = None
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("store", "fold_weights"):
            given = getattr(self, name)
            places = (given,) if isinstance(given, (str, Path)) else given  # one alone serves too
            object.__setattr__(self, name, tuple(map(location_text, places)))
        keep_as_text(self, "output")
        if (self.teacher is None) == (not self.store):
            raise ValueError(
                "give either --weights, for a teacher to predict the images, or --store, to count its labels"
            )
        if self.fold_weights and self.teacher is None:
            raise ValueError("--fold-weights goes with --weights; give several stores as --store FIRST,SECOND")
        for option, places in (("--store", self.store), ("--fold-weights", self.fold_weights)):
            for place in places:
                check_place(option, place)
        if self.output is not None:
            check_place("--output", self.output)
        at_least("--folds", self.folds, 2)
        at_least("--resamples", self.resamples, 100)
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"--confidence must lie between 0 and 1, both excluded; got {self.confidence}")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """The picture of one image's prediction, of what it is taken from, and of the labels by a rule as that of a run."""

    teacher: TeacherConfig
    rule: RuleConfig = field(default_factory=RuleConfig)
    output: Location = "explained.png"

    def __post_init__(self) -> None:
        keep_as_text(self, "output")


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Which label store to look into."""

    uri: Location
    storage_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "uri")
        check_place("--store", self.uri)


StorePlace = StoreConfig | Location


def store_config(store: StorePlace) -> StoreConfig:
    """The settings of a store that may be given as a path or URL alone."""
    return store if isinstance(store, StoreConfig) else StoreConfig(uri=location_text(store))


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """Where the links of a checkpoint's chain are, if not where they were recorded.

    Attributes:
        teacher: weights file of the teacher. store: the label store. data: root of the fine images; auto_data: of those
            that were labeled.
        deep: read and hash every label and every held-out image, not only what lists them.
    """

    teacher: Location | None = None
    store: Location | None = None
    data: Location | None = None
    auto_data: Location | None = None
    deep: bool = False
    store_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keep_as_text(self, "teacher", "store", "data", "auto_data")


def to_dict(config: Any) -> dict[str, Any]:
    """The plain, JSON-able form of a config dataclass, nested ones included; tuples become lists.

    fsspec options (`storage_options`, `data_options` and the like) may hold credentials and are left out.
    """
    document: dict[str, Any] = {}
    for part in fields(config):
        value = getattr(config, part.name)
        if part.metadata.get("flat"):
            document |= {} if value is None else to_dict(value)
        elif not part.name.endswith("_options"):
            document[part.name] = _plain(value)
    return document


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items() if not name.endswith("_options")}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
