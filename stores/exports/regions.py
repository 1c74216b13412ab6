"""The regions of an image, for files that hold instances: each instance, and what else each class has."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.versions.label_store import LabelStore

NUM_INSTANCES = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """What an image's pixels belong to; entry s of each array is region s, by class and then by instance.

    Attributes:
        region_of: [H, W] int64, the region of each pixel.
        train_ids: [S] their classes; 255 for the pixels that have no label, which are one region.
        instances: [S] the instance of each; 0 for stuff, and for things whose instances are not told apart.
        areas_px: [S] sizes. boxes: [S, 4] their (x, y, width, height), pixels.
    """

    region_of: NDArray[np.int64]
    train_ids: NDArray[np.int64]
    instances: NDArray[np.int64]
    areas_px: NDArray[np.int64]
    boxes: NDArray[np.int64]


def read_regions(store: LabelStore, key: str, *, panoptic: bool) -> Regions:
    """The regions of an image of a version.

    Args:
        panoptic: whether it tells instances apart; without them every class is one region.

    Raises:
        StoreError: as `LabelStore.read`.
    """
    label = store.read(key)
    return find_regions(label, store.instance_map(key, label) if panoptic else np.zeros(label.shape, np.uint16))


def find_regions(label: U8, instance: NDArray[np.uint16]) -> Regions:
    """The regions of a label [H, W] uint8 and the instances of its pixels [H, W] uint16."""
    values = label.astype(np.int64) * NUM_INSTANCES + np.where(label == IGNORE_INDEX, 0, instance)
    # A table of all values is quicker than sorting millions of pixels, and only its used pages take memory.
    seen = np.zeros((IGNORE_INDEX + 1) * NUM_INSTANCES, np.bool_)
    seen[values] = True
    present = np.flatnonzero(seen)
    places = np.zeros(seen.shape, np.int32)
    places[present] = np.arange(len(present))
    region_of = places[values].astype(np.int64)
    return Regions(
        region_of=region_of,
        train_ids=present // NUM_INSTANCES,
        instances=present % NUM_INSTANCES,
        areas_px=np.bincount(region_of.ravel(), minlength=len(present)),
        boxes=_boxes(region_of, len(present)),
    )


def _boxes(region_of: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    height, width = region_of.shape
    rows, columns = np.zeros((count, height), np.bool_), np.zeros((count, width), np.bool_)
    rows[region_of, np.arange(height)[:, None]] = True
    columns[region_of, np.arange(width)] = True
    left, top = columns.argmax(axis=1), rows.argmax(axis=1)
    right, bottom = width - columns[:, ::-1].argmax(axis=1), height - rows[:, ::-1].argmax(axis=1)
    return np.stack([left, top, right - left, bottom - top], axis=1)
