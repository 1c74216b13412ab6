"""Label files with instances -> panoptic maps: those of Cityscapes and Mapillary, and PNG files with a JSON file."""

from contextlib import suppress
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.decode import decode_colored_ids, decode_image, decode_instance_ids
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images.coco import CocoSource
from hmsa_label.stores.images.mapillary import INSTANCES_PER_LABEL, MapillarySource
from hmsa_label.stores.images.panoptic_json import NO_REGION, NUM_IDS, Regions
from hmsa_label.stores.images.source import BadImage, ImageRef, ImageSource

PanopticMap = NDArray[np.int32]
CITYSCAPES_DIVISOR = 1000  # a pixel of `*_instanceIds.png` is id * 1000 + instance, or a class id alone
MAX_INSTANCES = DIVISOR - 1  # of one class, in one image


def read_panoptic(source: ImageSource, ref: ImageRef, classes: ClassTable) -> tuple[U8, PanopticMap]:
    """(image [H, W, 3] uint8 RGB, panoptic map [H, W] int32) of an image that has instances.

    The map is trainId * 1000 + instance, see `labelers/panoptic/ids.py`; instances are numbered per class as the file
    has them. Pixels of no class are VOID.

    Args:
        classes: whose raw ids the files hold; `classes.things` says which of them have instances.

    Raises:
        ValueError: no file with instances, or the sizes differ; decode errors name the image.
    """
    try:
        image = decode_image(source.read(ref.image))
    except ValueError as error:
        raise ValueError(f"cannot read {ref.key}: {error}") from error
    panoptic = panoptic_map(source, ref, classes)
    if image.shape[:2] != panoptic.shape:
        raise ValueError(f"{ref.key}: the image is {image.shape[:2]} px, its instances are {panoptic.shape} px")
    return image, panoptic


def panoptic_map(source: ImageSource, ref: ImageRef, classes: ClassTable) -> PanopticMap:
    """The map of `read_panoptic`, without the image.

    Raises:
        ValueError: as there; the message names the image.
    """
    if ref.instances is None:
        raise ValueError(f"{ref.key} has no file with instances")
    try:
        data, regions = source.read(ref.instances), _regions(source, ref.instances)
        if regions is not None:
            return _from_regions(decode_colored_ids(data), regions, classes)
        per_class = _mapillary_table if isinstance(source, MapillarySource) else _cityscapes_table
        return _from_table(decode_instance_ids(data), per_class(classes))
    except ValueError as error:
        raise ValueError(f"cannot read {ref.key}: {ref.instances}: {error}") from error


def numbered_per_class(label: U8, instance: NDArray[np.uint16]) -> PanopticMap:
    """[H, W] panoptic map of trainIds [H, W] and of instances [H, W] that are numbered per image, 0 for none.

    Instances are numbered per class, in their order in the image.

    Args:
        label: one class all over an instance; 255 only where `instance` is 0.

    Raises:
        BadImage: more instances of one class than fit into a panoptic map.
    """
    class_of = np.zeros(int(instance.max()) + 1, np.uint8)
    class_of[instance] = label
    numbers = np.zeros(len(class_of), np.int32)
    present = np.flatnonzero(np.bincount(instance.ravel(), minlength=len(numbers))[1:]) + 1
    for thing in np.unique(class_of[present]):
        own = present[class_of[present] == thing]
        _check_count(len(own))
        numbers[own] = np.arange(1, len(own) + 1)
    return np.asarray(label.astype(np.int32) * DIVISOR + numbers[instance], np.int32)


def images_with_instances(
    source: ImageSource, split: str, labels: str = "gtFine", limit: int | None = None
) -> list[ImageRef]:
    """The images of a split that have a file with instances, sorted by key.

    What their JSON file says is read here, once, so that the processes of a data loader share it.

    Raises:
        ValueError: there is none, or the JSON file cannot be used.
    """
    refs = [ref for ref in source.list(split, labels=labels) if ref.instances is not None]
    if not refs:
        expected = "panoptic/ or instances/" if isinstance(source, MapillarySource) else f"*_{labels}_instanceIds.png"
        raise ValueError(f"split {split!r} of {source.root} has no image with instances; expected {expected} by labels")
    for first in {str(ref.instances).rpartition("/")[0]: ref for ref in refs}.values():
        with suppress(BadImage):  # one that is not listed is named when its turn comes
            _regions(source, str(first.instances))
    return refs[:limit]


def _regions(source: ImageSource, path: str) -> Regions | None:
    """What the ids in a PNG stand for; None where they tell it themselves."""
    return source.regions(path) if isinstance(source, CocoSource | MapillarySource) else None


def _from_regions(ids: NDArray[np.uint32], regions: Regions, classes: ClassTable) -> PanopticMap:
    train_ids = classes.train_id_of[regions.raw_ids]
    table = np.zeros(NUM_IDS, np.int32)  # value + 1 by id; 0 where there is no region
    table[regions.ids] = DIVISOR * train_ids.astype(np.int32) + _numbers(train_ids, regions, classes.things) + 1
    table[NO_REGION] = VOID + 1
    found = table[ids]
    if not found.all():
        raise BadImage(f"it holds id {ids[found == 0][0]}, which its JSON file does not list")
    return np.asarray(found - 1, np.int32)


def _numbers(train_ids: U8, regions: Regions, things: tuple[int, ...]) -> NDArray[np.int32]:
    """[S] number of each region among the instances of its class, in the order of the file; 0 for stuff and crowds."""
    numbers = np.zeros(len(train_ids), np.int32)
    for thing in things:
        places = np.flatnonzero((train_ids == thing) & ~regions.crowd)
        _check_count(len(places))
        numbers[places] = np.arange(1, len(places) + 1)
    return numbers


def _check_count(count: int) -> None:
    if count > MAX_INSTANCES:
        raise BadImage(f"it has {count} instances of one class; {MAX_INSTANCES} fit into a panoptic map")


def _from_table(ids: NDArray[np.uint16], table: PanopticMap) -> PanopticMap:
    panoptic = np.asarray(table[ids], np.int32)
    if panoptic.min(initial=0) < 0:
        raise BadImage(f"it holds {ids[panoptic < 0][0]}, which is no class id and no instance of a class")
    return panoptic


@lru_cache(maxsize=8)
def _cityscapes_table(classes: ClassTable) -> PanopticMap:
    """[65536] panoptic value of each number in an instanceIds file, -1 for what has no meaning.

    A class id alone is stuff, or a group of things that nobody told apart. Instances count from 0.
    """
    numbers = np.arange(1 << 16)
    alone = numbers < CITYSCAPES_DIVISOR
    raw_ids = np.where(alone, numbers, numbers // CITYSCAPES_DIVISOR)
    instances = np.where(alone, 0, numbers % CITYSCAPES_DIVISOR + 1)
    return _table(raw_ids, instances, classes)


@lru_cache(maxsize=8)
def _mapillary_table(classes: ClassTable) -> PanopticMap:
    """[65536] panoptic value of each number in a file of Mapillary's instances."""
    raw_ids, instances = np.divmod(np.arange(1 << 16), INSTANCES_PER_LABEL)
    return _table(raw_ids, instances + 1, classes)


def _table(raw_ids: NDArray[np.int64], instances: NDArray[np.int64], classes: ClassTable) -> PanopticMap:
    train_ids = classes.train_id_of[raw_ids.clip(max=255)].astype(np.int32)
    counted = np.where(np.isin(train_ids, classes.things), instances, 0)
    meaningless = (raw_ids > 255) | (counted > MAX_INSTANCES)
    return np.where(meaningless, -1, DIVISOR * train_ids + counted).astype(np.int32)
