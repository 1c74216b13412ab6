"""The instances of an image: the table that stands in its manifest row, and where its map of them must agree with it.

Instance n of the map is the n-th of the table, counted from 1. The table holds all that the teacher found, whatever the
rule then kept.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmsa_label.stores.format.layout import IGNORE_INDEX, MAX_PIXELS, UNWRITTEN

MAX_INSTANCES = 65534  # of one image; 65535 is the fill value of the map
PART_PIXELS = 2**22  # looked at together

# One entry of the column `instances`, and of the bytes that its digest is taken from.
FIELDS: dict[str, Any] = {
    "train_id": pa.int32(),
    "center_score": pa.float32(),
    "confidence": pa.float32(),
    "area_px": pa.int64(),
    "x": pa.int32(),
    "y": pa.int32(),
    "width": pa.int32(),
    "height": pa.int32(),
}
TABLE = pa.list_(pa.struct(list(FIELDS.items())))
RECORD = np.dtype([(name, np.dtype(kind.to_pandas_dtype()).newbyteorder("<")) for name, kind in FIELDS.items()])


class StoredInstance(NamedTuple):
    """One thing of one image, as its manifest row has it.

    Attributes:
        train_id: its class.
        center_score: height of the heat map at its center, 0..1, a float32 value.
        confidence: mean confidence over its pixels, 0..1, a float32 value.
        area_px: number of its pixels.
        box: (x, y, width, height) in px, the smallest that holds its pixels.
    """

    train_id: int
    center_score: float
    confidence: float
    area_px: int
    box: tuple[int, int, int, int]


def exact(instances: Iterable[Any]) -> tuple[StoredInstance, ...]:
    """Instances as they are stored: plain numbers, both scores rounded to float32.

    Args:
        instances: `StoredInstance`s of this or of another module, with the same fields.
    """
    return tuple(
        StoredInstance(
            int(train_id),
            float(np.float32(center_score)),
            float(np.float32(confidence)),
            int(area_px),
            (int(box[0]), int(box[1]), int(box[2]), int(box[3])),
        )
        for train_id, center_score, confidence, area_px, box in instances
    )


def to_entries(instances: Iterable[StoredInstance]) -> list[dict[str, Any]]:
    """The table as JSON and the manifest's column have it."""
    return [dict(zip(FIELDS, (*instance[:4], *instance.box), strict=True)) for instance in instances]


def from_entries(entries: Iterable[Mapping[str, Any]]) -> tuple[StoredInstance, ...]:
    """The table that `to_entries` wrote."""
    rows = ([entry[name] for name in FIELDS] for entry in entries)
    return tuple(StoredInstance(a, b, c, d, (x, y, width, height)) for a, b, c, d, x, y, width, height in rows)


def table_digest(instances: Iterable[StoredInstance]) -> str:
    """Hex sha256 of the table as packed little-endian records of `FIELDS`, in the order of the instances."""
    rows = [(*instance[:4], *instance.box) for instance in instances]
    return hashlib.sha256(np.array(rows, RECORD).tobytes()).hexdigest()


def hard_instances(
    instance: NDArray[np.uint16], label: NDArray[np.uint8], instances: Sequence[StoredInstance], kept: NDArray[np.bool_]
) -> NDArray[np.uint16]:
    """[H, W] uint16 the instance of each pixel that has a label of the instance's class, 0 elsewhere.

    Args:
        instance: [H, W] all that the teacher found, by the place in `instances`, counted from 1.
        label: [H, W] trainIds, of the teacher or of polygons. kept: [1 + M] whether the rule keeps each instance.
    """
    class_of = np.array([UNWRITTEN, *(one.train_id for one in instances)], np.uint8)
    class_of[~kept] = UNWRITTEN
    return np.where(class_of[instance] == label, instance, np.uint16(0))


def range_fault(instance: NDArray[Any], count: int) -> str:
    """What is wrong with a map [H, W] of an image with `count` instances, by its values alone; empty if nothing is."""
    highest = int(instance.max())
    return "" if highest <= count else f"it holds {highest}, but its image has {count} instances"


def class_fault(instances: Iterable[StoredInstance], things: Sequence[int]) -> str:
    """Which instance is of a class that is no thing; empty if none is."""
    wrong = next((pair for pair in enumerate(instances, 1) if pair[1].train_id not in things), None)
    if wrong is None:
        return ""
    return (
        f"instance {wrong[0]} is of trainId {wrong[1].train_id}, which is no thing of the class table: {list(things)}"
    )


def map_faults(
    instance: NDArray[np.uint16], classes: Mapping[str, NDArray[np.uint8]], instances: Sequence[StoredInstance]
) -> Iterator[str]:
    """Where a map and the table of its image do not agree: areas, boxes, classes, ids that do not occur.

    Args:
        instance: [H, W], with values from 0 to the number of instances.
        classes: [H, W] trainIds of the same image by the name of their array; 255 agrees with every class.
    """
    found = _Extents(len(instances), instance.shape[1])
    class_of = np.array([IGNORE_INDEX, *(one.train_id for one in instances)], np.uint8)
    others = dict.fromkeys(classes, 0)
    flat = instance.ravel()
    for start in range(0, flat.size, PART_PIXELS):
        part = flat[start : start + PART_PIXELS]
        at = np.flatnonzero(part)
        ids = part[at]
        found.add(start + at, ids)
        expected = class_of[ids]
        for name, pixels in classes.items():
            given = pixels.ravel()[start : start + PART_PIXELS][at]
            others[name] += int(np.count_nonzero((given != expected) & (given != IGNORE_INDEX)))
    for name, count in others.items():
        if count:
            yield f"{count} pixels of instances have another class in {name} than their instance"
    yield from found.faults(instances)


class _Extents:
    """Area and box of every instance of a map, taken together part by part."""

    def __init__(self, count: int, width: int) -> None:
        self.width = width
        self.area = np.zeros(count + 1, np.int64)
        self.low = np.full((2, count + 1), MAX_PIXELS, np.int64)  # of y and x
        self.high = np.full((2, count + 1), -1, np.int64)

    def add(self, places: NDArray[np.int64], ids: NDArray[np.uint16]) -> None:
        """Pixels [P] of instances [P], by their place in the flattened map, ascending."""
        if not len(ids):
            return
        order = np.argsort(ids, kind="stable")
        ids, places = ids[order], places[order]
        first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        here = ids[first]
        self.area[here] += np.diff(np.r_[first, len(ids)])
        for axis, position in enumerate(np.divmod(places, self.width)):
            self.low[axis, here] = np.minimum(self.low[axis, here], np.minimum.reduceat(position, first))
            self.high[axis, here] = np.maximum(self.high[axis, here], np.maximum.reduceat(position, first))

    def faults(self, instances: Sequence[StoredInstance]) -> Iterator[str]:
        for number, instance in enumerate(instances, 1):
            area = int(self.area[number])
            (y, x), (bottom, right) = self.low[:, number].tolist(), self.high[:, number].tolist()
            box = (x, y, right - x + 1, bottom - y + 1)
            if not area:
                yield f"instance {number} has no pixel"
            elif area != instance.area_px:
                yield f"instance {number} has {area} pixels; its entry says {instance.area_px}"
            elif box != instance.box:
                yield f"instance {number} has the box {list(box)} (x, y, w, h); its entry says {list(instance.box)}"
