"""Images with labels as map-style data sets, for this package's training and for anybody's PyTorch code."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.auto_images import AutoImages, ImageRoot
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.data.label_files import label_content, read_raw_ids
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class, read_panoptic
from hmsa_label.pipeline.data.scores import labeled_images, read_pair
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import BadImage, ImageSource
from hmsa_label.stores.location import Location
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import recut

T = TypeVar("T")
Transform = Callable[[U8, U8], Any]
Weights = NDArray[np.float32]
Evidence = tuple[U8, U8, tuple[float, ...]]
READERS = 4


class FineLabelDataset:
    """Item i: (image [H, W, 3] uint8 RGB, trainIds [H, W] uint8, 255 ignored) of the i-th labeled image of a split.

    Args:
        data: root of the images, a path or URL. dataset: how it is laid out.
        split, labels: which part, and which label type. limit: only the first of them.
        transform: called with (image, label); its result is the item.

    Raises:
        ValueError: the split has no labeled image.
    """

    def __init__(
        self,
        data: Location,
        *,
        dataset: str = "cityscapes",
        split: str = "train",
        labels: str = "gtFine",
        limit: int | None = None,
        transform: Transform | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.source: ImageSource = open_images(dataset, data, storage_options or {})
        self.classes = classes_of(self.source)
        self.refs = labeled_images(self.source, split, labels, limit)
        self.keys = [ref.key for ref in self.refs]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> Any:
        image, label = self.pair(index)
        return self.transform(image, label) if self.transform else (image, label)

    def pair(self, index: int) -> tuple[U8, U8]:
        """(image, label) of an item, before any transform."""
        return read_pair(self.source, self.refs[index], self.classes)

    def panoptic_pair(self, index: int) -> tuple[U8, NDArray[np.int32]]:
        """(image, panoptic map [H, W] int32) of an item that has a file of instances; see `labelers.panoptic.ids`."""
        return read_panoptic(self.source, self.refs[index], self.classes)

    def label(self, index: int) -> U8:
        """[H, W] uint8 trainIds of an item, without its image."""
        return self.classes.train_id_of[read_raw_ids(self.source, str(self.refs[index].labels))]

    def weights(self, index: int) -> None:
        """None: every pixel of a label drawn by hand counts in full."""

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over key and label file of every item."""
        return _files_digest([(ref.key, self.source, str(ref.labels)) for ref in self.refs])

    @cached_property
    def instances_digest(self) -> str:
        """Hex sha256 over key and file of instances of every item."""
        return _files_digest([(ref.key, self.source, str(ref.instances)) for ref in self.refs])


class AutoLabelDataset:
    """Item i: (image [H, W, 3] uint8 RGB, trainIds [H, W] uint8, 255 ignored) of the i-th key of a store's version.

    Safe in forked and spawned loader workers. The version does not change while others write to the store.

    Args:
        store: an open store, pinned at its version.
        data: root of the images that were labeled; None is where the runs of the store found them.
        dataset: how it is laid out; None as it was then.
        threshold: another stored threshold than the version's own, or one per class name (classes left out keep the
            version's own); read from the evidence. What the version's rule says of instances holds all the same.
        polygons: label type of polygons drawn by hand, such as gtCoarse: inside them their class counts, whatever the
            teacher said; images without any keep the teacher's labels. None leaves all polygons out.
        transform: called with (image, label); its result is the item.
        storage_options: fsspec options of the images' storage.
        near: where to look for the images before that, such as beside fine labels.

    Raises:
        ThresholdNotStored: a threshold is not on the grid of the evidence.
        ValueError: images that are not there, an unknown class name, or no labeled image has polygons of the type that
            is asked for.
    """

    def __init__(
        self,
        store: LabelStore,
        data: Location | None = None,
        *,
        dataset: str | None = None,
        threshold: float | Mapping[str, float] | None = None,
        polygons: str | None = None,
        transform: Transform | None = None,
        storage_options: dict[str, Any] | None = None,
        near: ImageRoot | None = None,
    ) -> None:
        self.store, self.keys = store, store.keys()
        self.classes = ClassTable.from_dict(store.classes)
        given = ImageRoot(root=data, dataset=dataset, options=storage_options or {}) if data else None
        self.images = AutoImages(store, given, options=storage_options, near=near)
        self.threshold = threshold
        self.transform = transform
        self._last_evidence: _Last[Evidence] = _Last()
        self._last_drawn: _Last[U8] = _Last()
        self._own_rules = store.table(["threshold", "rule"])
        self.polygons = polygons
        self._drawn_files = {} if polygons is None else _polygon_files(self.images, self.keys, polygons)
        names = list(store.classes["names"])
        unknown = sorted(set(threshold) - set(names)) if isinstance(threshold, Mapping) else []
        if unknown:
            raise ValueError(f"the store has no class {unknown[0]!r}; its classes are {', '.join(names)}")
        if threshold is not None and self.keys:
            self.label(0)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Any:
        image, label = self.pair(index)
        return self.transform(image, label) if self.transform else (image, label)

    def pair(self, index: int) -> tuple[U8, U8]:
        """(image, label) of an item, before any transform."""
        label = self.label(index)
        return self._image(index, label.shape), label

    def panoptic_pair(self, index: int) -> tuple[U8, NDArray[np.int32]]:
        """(image, panoptic map [H, W] int32) of an item."""
        label = self.panoptic(index)
        return self._image(index, label.shape), label

    def label(self, index: int) -> U8:
        """[H, W] uint8 trainIds of an item, without its image."""
        label = self._kept(index)
        drawn = self._drawn(index, label.shape)
        return label if drawn is None else np.where(drawn == self._ignored, label, drawn)

    @property
    def has_instances(self) -> bool:
        """Whether the labels tell instances apart."""
        return self.store.has_instances

    def panoptic(self, index: int) -> NDArray[np.int32]:
        """[H, W] int32 panoptic map of an item, without its image; see `labelers.panoptic.ids`.

        Instances are numbered per class. Pixels of a thing that belong to no instance, such as those in polygons drawn
        by hand where the teacher said something else, are a crowd.

        Raises:
            LabelMissing: the labels have no instances.
            ValueError: more instances of one class than a panoptic map holds.
        """
        key, kept = self.keys[index], self._kept(index)
        instance, drawn = self.store.instance_map(key, kept), self._drawn(index, kept.shape)
        label = kept if drawn is None else np.where(drawn == self._ignored, kept, drawn)
        try:
            return numbered_per_class(label, np.where(label == kept, instance, np.uint16(0)))
        except BadImage as error:
            raise ValueError(f"{key}: {error}") from error

    def weights(self, index: int) -> Weights:
        """[H, W] float32, 0..1: the lowest confidence that each pixel's code allows, the highest threshold it reached.

        1 inside polygons drawn by hand.

        Raises:
            LabelMissing: the store keeps no evidence for the item.
        """
        _, code, grid = self._evidence(self.keys[index])
        weights, drawn = np.array((0.0, *grid), np.float32)[code], self._drawn(index, code.shape)
        return weights if drawn is None else np.where(drawn == self._ignored, weights, np.float32(1))

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over the content digest of the store's version, the thresholds and the files of the polygons."""
        own = [] if self.threshold is None else [str(self.threshold)]
        if isinstance(self.threshold, Mapping):
            own = [f"{name}\t{value}" for name, value in sorted(self.threshold.items())]
        return _digest([self.store.digest, *own, *([self.polygons_digest] if self.polygons_digest else [])])

    @cached_property
    def polygons_digest(self) -> str | None:
        """Hex sha256 over key and polygon file of every item that has one; None if polygons are left out."""
        if self.polygons is None:
            return None
        drawn = [index for index, key in enumerate(self.keys) if key in self._drawn_files]
        files = [(self.keys[index], self.images.source(index), self._drawn_files[self.keys[index]]) for index in drawn]
        return _files_digest(files)

    @property
    def images_with_polygons(self) -> int:
        """How many items have polygons that count over the teacher."""
        return len(self._drawn_files)

    def _image(self, index: int, shape: tuple[int, ...]) -> U8:
        """[H, W, 3] uint8 RGB of an item, which must have its label's shape."""
        image = decode_image(self.images.read(index))
        if image.shape[:2] != shape:
            key = self.keys[index]
            raise ValueError(f"{key}: the image is {image.shape[:2]} px, its label {shape} px; was it replaced?")
        return image

    @property
    def _ignored(self) -> np.uint8:
        return np.uint8(self.store.classes["ignore_index"])

    def _kept(self, index: int) -> U8:
        """[H, W] uint8 trainIds of what the teacher was sure of."""
        key = self.keys[index]
        if self.threshold is None:
            return self.store.read(key)
        rule = Rule.parse(*(self._own_rules[name][index].as_py() for name in ("threshold", "rule")))
        if isinstance(self.threshold, Mapping):
            given = {name: value for name, value in self.threshold.items() if value is not None}
            rule = replace(rule, class_thresholds={**rule.class_thresholds, **given})
        else:
            rule = replace(rule, threshold=self.threshold)
        return recut(self.store, key, rule).label

    def _drawn(self, index: int, shape: tuple[int, ...]) -> U8 | None:
        """[H, W] uint8 trainIds of an item's polygons, which must have its label's shape; None if it has none."""
        path = self._drawn_files.get(self.keys[index])
        if path is None:
            return None
        source = self.images.source(index)
        drawn = self._last_drawn.of(path, lambda: self._train_ids_of(source)[read_raw_ids(source, path)])
        if drawn.shape != shape:
            raise ValueError(f"{path} has {drawn.shape} px, the label of its image {shape}")
        return drawn

    def _train_ids_of(self, source: ImageSource) -> U8:
        """[256] trainId of each id in a tree's label files; classes meet by name."""
        return self.classes.train_ids_from(classes_of(source))

    def _evidence(self, key: str) -> Evidence:
        return self._last_evidence.of(key, lambda: self.store.read_evidence(key))


class _Last(Generic[T]):
    """What was read last, so that the label and the weights of an item read it once; several threads may ask."""

    def __init__(self) -> None:
        self._kept: tuple[str, T] | None = None

    def of(self, key: str, read: Callable[[], T]) -> T:
        """What is kept of `key`, or else what `read` gives."""
        kept = self._kept  # another thread may replace it meanwhile
        if kept is None or kept[0] != key:
            kept = self._kept = (key, read())
        return kept[1]


def _polygon_files(images: AutoImages, keys: list[str], labels: str) -> dict[str, str]:
    """The polygon file of each key that has one, in the order of the keys, below the root that its image is in.

    Raises:
        ValueError: none has.
    """
    wanted: dict[tuple[int, str], list[int]] = {}
    for index, key in enumerate(keys):
        number = images.sources.index(images.source(index))
        wanted.setdefault((number, key.partition("/")[0]), []).append(index)
    found: dict[str, str] = {}
    for (number, split), indices in wanted.items():
        with suppress(NotAStore, ValueError):  # a split without any; a plain folder, which holds no labels
            files = {ref.key: ref.labels for ref in images.sources[number].list(split, labels=labels)}
            found |= {keys[index]: str(files[keys[index]]) for index in indices if files.get(keys[index])}
    if keys and not found:
        roots = " or ".join(source.root for source in images.sources)
        raise ValueError(
            f"none of {len(keys)} labeled images, such as {keys[0]}, has {labels} polygons in {roots}; leave out "
            "--polygons, or name the label type that they have"
        )
    return {key: found[key] for key in keys if key in found}


def _files_digest(files: Iterable[tuple[str, ImageSource, str]]) -> str:
    """Hex sha256 over the keys and contents of (key, source, path)."""

    def line(file: tuple[str, ImageSource, str]) -> str:
        key, source, path = file
        return f"{key}\t{hashlib.sha256(label_content(source, path)).hexdigest()}"

    return _digest(map_threads(line, files, READERS))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
