"""Images with labels as map-style data sets, for this package's training and for anybody's PyTorch code."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import IGNORE_INDEX, ClassTable
from hmsa_label.pipeline.data.auto_images import AutoImages, ImageRoot
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.data.label_files import label_content, read_raw_ids
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class, read_panoptic
from hmsa_label.pipeline.data.scores import labeled_images, read_pair
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.format.bounds import CODE, Pixels
from hmsa_label.stores.format.cut import Cut, cut
from hmsa_label.stores.format.origin import TEACHER
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import BadImage, ImageSource
from hmsa_label.stores.location import Location
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import sources_of
from hmsa_label.stores.versions.rethreshold import rule_of_labels

T = TypeVar("T")
Transform = Callable[[U8, U8], Any]
Weights = NDArray[np.float32]
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
        threshold: another stored threshold than that of the version's rule. class_thresholds: others of single classes,
            by name, in place of those of the rule; "off" keeps no pixel of a class. Labels are then cut from the
            evidence; all else that the rule says holds, polygons among it.
        keep_empty: whether images without a labeled pixel are items, too.
        transform: called with (image, label); its result is the item.
        storage_options: fsspec options of the images' storage.
        near: where to look for the images before that, such as beside fine labels.

    Attributes:
        keys: of the items. left_out: of the images that are none, as no pixel of theirs is labeled.

    Raises:
        ThresholdNotStored: a threshold is not on the grid of the evidence.
        ValueError: images that are not there, or an unknown class name.
        LabelMissing: another threshold is asked for, and the store keeps no evidence.
    """

    def __init__(
        self,
        store: LabelStore,
        data: Location | None = None,
        *,
        dataset: str | None = None,
        threshold: float | None = None,
        class_thresholds: Mapping[str, float | str] | None = None,
        keep_empty: bool = True,
        transform: Transform | None = None,
        storage_options: dict[str, Any] | None = None,
        near: ImageRoot | None = None,
    ) -> None:
        self.store, self.classes = store, ClassTable.from_dict(store.classes)
        given = ImageRoot(root=data, dataset=dataset, options=storage_options or {}) if data else None
        self.images = AutoImages(store, given, options=storage_options, near=near)
        asked = {"threshold": threshold, "class_thresholds": class_thresholds}
        self.changes: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
        self.transform = transform
        self._last: _Last[tuple[Mapping[str, Pixels], Cut]] = _Last()
        keys = store.keys()
        if self.changes and keys:
            self._cut(keys[0])  # refuses what cannot be had of the store
        empty = set() if keep_empty else self._empty(keys)
        self._places = [place for place, key in enumerate(keys) if key not in empty]
        self.keys, self.left_out = [keys[place] for place in self._places], sorted(empty)

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
        key = self.keys[index]
        return self._cut(key).label if self.changes else self.store.read(key)

    @property
    def rule(self) -> Rule | None:
        """The rule of the version, with what is changed of it; None if the version has no images."""
        own = rule_of_labels(self.store)
        return own and replace(own, **self.changes)

    def origin(self, index: int) -> U8:
        """[H, W] uint8 who said each pixel of an item's label, by the codes of `stores.format.origin`."""
        key = self.keys[index]
        return self._cut(key).origins if self.changes else self.store.origin(key)

    @property
    def has_instances(self) -> bool:
        """Whether the labels tell instances apart."""
        return self.store.has_instances

    def panoptic(self, index: int) -> NDArray[np.int32]:
        """[H, W] int32 panoptic map of an item, without its image; see `labelers.panoptic.ids`.

        Instances are numbered per class. A pixel belongs to the instance that the teacher put it into if that is of the
        label's class and the rule keeps it, whoever said the class. Other pixels of a thing are a crowd.

        Raises:
            LabelMissing: the labels have no instances.
            ValueError: more instances of one class than a panoptic map holds.
        """
        key, label = self.keys[index], self.label(index)
        rule = self._rule_of(key) if self.changes else None
        try:
            return numbered_per_class(label, self.store.instance_map(key, label, rule))
        except BadImage as error:
            raise ValueError(f"{key}: {error}") from error

    def weights(self, index: int) -> Weights:
        """[H, W] float32, 0..1: the lowest confidence that each pixel's code allows, the highest threshold it reached.

        1 where somebody else than the teacher said the label, of whose class the confidence says nothing.

        Raises:
            LabelMissing: the store keeps no evidence for the item.
        """
        key = self.keys[index]
        code = self._recut(key)[0][CODE] if self.changes else self.store.read_array(key, CODE)
        weights = np.array((0.0, *self.store.bounds(key).thresholds), np.float32)[code]
        told = self._cut(key).origin is not None if self.changes else self.store.has_origin(key)
        return np.where(self.origin(index) > TEACHER, np.float32(1), weights) if told else weights

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over the content digest of the store's version, and what is changed of its rule."""
        changed = self.changes and [json.dumps(self.changes, sort_keys=True)]
        return _digest([self.store.digest, *changed])

    def _image(self, index: int, shape: tuple[int, ...]) -> U8:
        """[H, W, 3] uint8 RGB of an item, which must have its label's shape."""
        image = decode_image(self.images.read(self._places[index]))
        if image.shape[:2] != shape:
            key = self.keys[index]
            raise ValueError(f"{key}: the image is {image.shape[:2]} px, its label {shape} px; was it replaced?")
        return image

    def _rule_of(self, key: str) -> Rule:
        """What decides the label of an item."""
        return replace(self.store.rule(key), **self.changes)

    def _cut(self, key: str) -> Cut:
        """What the changed rule makes of an image."""
        return self._recut(key)[1]

    def _recut(self, key: str) -> tuple[Mapping[str, Pixels], Cut]:
        """The arrays of an image that the changed rule looks at, and what it makes of them."""

        def made() -> tuple[Mapping[str, Pixels], Cut]:
            rule = self._rule_of(key)
            sources = sources_of(self.store, key, rule)
            return sources, cut(sources, rule, self.store.bounds(key))

        return self._last.of(key, made)

    def _empty(self, keys: list[str]) -> set[str]:
        """The images without a labeled pixel."""
        if not self.changes:
            labeled = self.store.table(["key", "valid_px"]).to_pylist()
            return {row["key"] for row in labeled if not row["valid_px"]}
        kept = map_threads(lambda key: bool((self._cut(key).label != IGNORE_INDEX).any()), keys, READERS)
        return {key for key, labeled in zip(keys, kept, strict=True) if not labeled}


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


def _files_digest(files: Iterable[tuple[str, ImageSource, str]]) -> str:
    """Hex sha256 over the keys and contents of (key, source, path)."""

    def line(file: tuple[str, ImageSource, str]) -> str:
        key, source, path = file
        return f"{key}\t{hashlib.sha256(label_content(source, path)).hexdigest()}"

    return _digest(map_threads(line, files, READERS))


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
