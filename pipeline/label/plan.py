"""What a labeling run would do, decided before anything starts: images, workers, devices, bytes."""

import os
from dataclasses import dataclass, replace
from typing import Any

from hmsa_label.labelers.registry import is_built_in
from hmsa_label.pipeline.config import (
    COARSE_LABELS,
    CONFIDENCE,
    DISAGREEMENT,
    GROWTH,
    TOP2,
    EngineConfig,
    LabelConfig,
    TeacherConfig,
)
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.data.selection import select_images
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.classes import classes_for
from hmsa_label.pipeline.imports.find import Found, find_labels
from hmsa_label.pipeline.label.keeping import keeping_of, refuse_without_polygons
from hmsa_label.pipeline.label.worklist import look_back
from hmsa_label.pipeline.teacher.user_code import find_teacher
from hmsa_label.stores.files import open_filesystem, public_uri
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import BadImage, ImageRef, ImageSource
from hmsa_label.stores.location import Location
from hmsa_label.stores.result import Result

# Measured on road scenes of 1024 x 2048: 25 KB of labels, 125 KB of evidence. The kinds on top of the confidence are by
# what they take beside it on scenes of 360 x 480.
LABEL_BYTES_PER_PIXEL = 0.012
EVIDENCE_BYTES_PER_PIXEL = {CONFIDENCE: 0.060, TOP2: 0.053, DISAGREEMENT: 0.009, GROWTH: 0.041}
SAMPLED_IMAGES = 3


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the workers go.

    Attributes:
        devices: device of each worker as its own process sees it.
        gpus_per_worker: what Ray reserves; 0 without GPUs. cpus_per_worker: likewise, 0 beside a GPU.
    """

    devices: tuple[str, ...]
    gpus_per_worker: float
    cpus_per_worker: int


@dataclass(frozen=True, kw_only=True)
class LabelPlan(Result):
    """The answer of `hmsa-label run --dry-run`.

    Attributes:
        images_changed: of those to do, images with a label whose files are others now; images_not_retried: those that
            failed before and whose files are the same.
        threshold, rule: what would decide which pixels become labels; rule is all but the threshold, None without more.
        evidence: kinds that would be stored beside the labels.
        workers: None if only the cluster, once asked, can tell; device likewise.
        estimated_store_bytes: what the images to do will take in the store, from the sizes of a few of them.
        estimated_buffer_bytes: pixels and labels in flight over all workers, without the teacher's own memory.
    """

    store: str
    data: str
    split: str
    images_total: int
    images_done: int
    images_to_do: int
    images_changed: int
    images_not_retried: int
    threshold: float
    rule: dict[str, Any] | None
    evidence: list[str]
    executor: str
    workers: int | None
    device: str | None
    estimated_store_bytes: int | None
    estimated_buffer_bytes: int | None


def plan_labels(config: LabelConfig) -> LabelPlan:
    """What `label_images` would do; reads listings and a few images (with `only_new` all that have a label).

    Raises:
        NotAStore: there is no folder at the data root.
        FileNotFoundError: there is no such weights file here; on a cluster only its hosts can tell.
        ValueError: no images, or devices that this machine does not have.
    """
    keeping = keeping_of(config)
    source, images = find_images(config)
    refuse_without_polygons(keeping, images, source.root)
    if cluster_address(config.engine) is None:
        _check_weights(config.teacher)
    before = look_back(config, images)
    left_out = before.left_out(() if config.relabel else before.stored - before.changed)
    todo = [image for image in images if image.key not in left_out]
    placement = _local_placement(config)
    pixels = _mean_pixels(source, todo)
    per_pixel = LABEL_BYTES_PER_PIXEL + sum(EVIDENCE_BYTES_PER_PIXEL.get(kind, 0.0) for kind in keeping.evidence)
    workers = len(placement.devices) if placement else config.engine.workers
    return LabelPlan(
        store=public_uri(config.store),
        data=source.root,
        split="" if config.data.dataset == "folder" else config.data.split,
        images_total=len(images),
        images_done=len(images) - len(todo) - len(before.known),
        images_to_do=len(todo),
        images_changed=len(before.changed),
        images_not_retried=len(before.known),
        threshold=keeping.rule.threshold,
        rule=keeping.rule.more or None,
        evidence=list(keeping.evidence),
        executor=config.engine.executor,
        workers=workers,
        device=placement.devices[0] if placement else None,
        estimated_store_bytes=None if pixels is None else round(len(todo) * pixels * per_pixel),
        estimated_buffer_bytes=None
        if pixels is None or workers is None
        else round(workers * images_in_flight(config.engine) * pixels * 6),  # RGB in, three maps out
    )


def find_images(config: LabelConfig) -> tuple[ImageSource, list[ImageRef]]:
    """The source and its images by key: those that the run is about, as many as the limit admits.

    Raises:
        NotAStore: there is no folder at the data root.
        ValueError: the split holds no images, or none of a name that is asked for, or there are no labels at all of the
            type that another one than gtCoarse was named as.
    """
    source, images = _list_split(config)
    if isinstance(config.teacher, ImportConfig):
        # Without a digest of the files: that takes reading all of them, and a run is given it.
        teacher = replace(config.teacher, sha256=config.teacher.sha256 or "")
        images = find_labels(teacher, images, classes_for(teacher, source)).images
    return source, select_images(images, config.keys)[: config.data.limit]


def find_imported(config: LabelConfig) -> Found:
    """The labels made elsewhere of all images of the split, with the digest of their files.

    Raises:
        NotAStore, ValueError: as `find_images`, `find_labels` and `classes_for`.
    """
    assert isinstance(config.teacher, ImportConfig)
    source, images = _list_split(config)
    return find_labels(config.teacher, images, classes_for(config.teacher, source))


def _list_split(config: LabelConfig) -> tuple[ImageSource, list[ImageRef]]:
    source = open_images(config.data.dataset, config.data.root, config.data.storage_options)
    if config.coarse_labels != COARSE_LABELS and not source.has_label_type(config.coarse_labels):
        raise ValueError(
            f"{source.root}, read as {config.data.dataset}, has no {config.coarse_labels} labels for any split; "
            "correct --coarse-labels, or leave it out"
        )
    images = source.list(config.data.split, coarse=config.coarse_labels)
    if not images:
        raise ValueError(f"no images of split {config.data.split!r} in {source.root}")
    return source, images


def images_in_flight(engine: EngineConfig) -> int:
    """Images that one worker has at once: enough to fill a batch while another one is on the device."""
    return max(engine.threads, 2 * engine.batch_size)


def place(engine: EngineConfig, teacher: TeacherConfig | ImportConfig, gpus: float, cpus: float) -> Placement:
    """Devices of the workers, given the GPUs and CPUs there are.

    Raises:
        ValueError: a device was asked for that is not there, or there is nothing to run on.
    """
    wants_gpu = teacher.device != "cpu"
    if wants_gpu and gpus > 0:
        workers = engine.workers or max(1, int(gpus / engine.gpus_per_worker + 1e-6))
        return Placement(
            devices=tuple(_cuda(engine, teacher, worker, gpus) for worker in range(workers)),
            gpus_per_worker=engine.gpus_per_worker,
            cpus_per_worker=0,
        )
    if wants_gpu and teacher.device != "auto" and not _may_grow(engine):
        raise ValueError(f"device {teacher.device} was asked for, but there is no GPU here; use --device cpu")
    if wants_gpu and teacher.device != "auto":
        # An autoscaler adds hosts for workers that wait, but it must be told how many.
        if engine.workers is None:
            raise ValueError("the cluster has no GPU yet; say with --workers how many GPU workers it shall grow to")
        return Placement(
            devices=("cuda:0",) * engine.workers, gpus_per_worker=engine.gpus_per_worker, cpus_per_worker=0
        )
    workers = engine.workers or int(cpus // engine.cpus_per_worker)
    if workers < 1:
        raise ValueError(
            f"{cpus:g} CPUs and no GPU are too few for one worker of {engine.cpus_per_worker} CPUs; "
            "lower --cpus-per-worker, or name --workers and --device cuda on a cluster that grows"
        )
    return Placement(devices=("cpu",) * workers, gpus_per_worker=0, cpus_per_worker=engine.cpus_per_worker)


def memory_share(engine: EngineConfig, placement: Placement) -> float | None:
    """Share of its device's memory that each worker may use, 0..1; None where only a cluster's hosts can tell."""
    if placement.gpus_per_worker and engine.executor == "ray":
        return min(1.0, placement.gpus_per_worker)
    if cluster_address(engine) is not None:
        return None
    return 1 / max(placement.devices.count(device) for device in placement.devices)


def cluster_address(engine: EngineConfig) -> str | None:
    """Address of the cluster to use; None for a Ray of our own on this machine, or no Ray at all."""
    if engine.executor != "ray":
        return None
    address = engine.ray_address or os.environ.get("RAY_ADDRESS")
    return None if address in (None, "", "local") else address


def visible_gpus(teacher: TeacherConfig | ImportConfig) -> int:
    """CUDA devices of this process; 0 without looking if the teacher would not use one."""
    if teacher.device == "cpu":
        return 0
    from hmsa_label.pipeline.teacher.devices import count_gpus  # loads torch

    return count_gpus()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def _may_grow(engine: EngineConfig) -> bool:
    return cluster_address(engine) is not None


def _cuda(engine: EngineConfig, teacher: TeacherConfig | ImportConfig, worker: int, gpus: float) -> str:
    """Device of one worker: Ray shows each process its own GPUs only, threads share all of them."""
    if engine.executor == "ray":
        if teacher.device not in ("auto", "cuda", "cuda:0"):
            raise ValueError(f"Ray chooses the GPU itself; use --device cuda instead of {teacher.device}")
        return "cuda:0"
    if teacher.device.startswith("cuda:"):
        return teacher.device
    return f"cuda:{worker % int(gpus)}"


def _local_placement(config: LabelConfig) -> Placement | None:
    """The placement on this machine; None if a cluster decides."""
    if cluster_address(config.engine) is not None:
        return None
    return place(config.engine, config.teacher, visible_gpus(config.teacher), usable_cores())


def check_here(config: LabelConfig) -> None:
    """Refuses, before any worker starts, what needs no worker to be seen; of a cluster only its hosts can tell.

    Raises:
        FileNotFoundError: there is no such weights file.
        ValueError: the weights are a folder, or a device is not there; the teacher's class cannot be imported.
    """
    if isinstance(config.teacher, ImportConfig):
        return
    for name in (config.teacher.teacher, config.teacher.semantic_teacher):
        if not is_built_in(name):
            find_teacher(name)
    if cluster_address(config.engine) is not None:
        return
    _check_weights(config.teacher)
    if config.teacher.device.startswith("cuda"):
        _local_placement(config)


def _check_weights(teacher: TeacherConfig | ImportConfig) -> None:
    if isinstance(teacher, ImportConfig):
        return
    for weights in (teacher.weights, teacher.semantic_from):
        if weights is not None:
            _check_file(weights)


def _check_file(weights: Location) -> None:
    filesystem, path = open_filesystem(weights)
    place = public_uri(weights)
    if filesystem.isdir(path):
        raise ValueError(f"the weights {place} are a folder; name a file in it, such as {place}/best.safetensors")
    if not filesystem.exists(path):
        raise FileNotFoundError(
            f"no weights file at {place}; train one with 'hmsa-label train-teacher', or correct --weights"
        )


def _mean_pixels(source: ImageSource, images: list[ImageRef]) -> float | None:
    """Mean number of pixels of a few images, spread over the list; None if none of them can be decoded."""
    sizes = []
    for image in images[:: max(1, len(images) // SAMPLED_IMAGES)][:SAMPLED_IMAGES]:
        try:
            height, width = decode_image(source.read(image.image)).shape[:2]
        except BadImage:
            continue  # the run itself will name it
        sizes.append(height * width)
    return sum(sizes) / len(sizes) if sizes else None
