"""Panoptic quality (arXiv 1801.00868) with the rules of the official evaluators of Cityscapes and COCO.

A region of the prediction and one of the labels are a match if they have one class and their IoU is above 0.5:

- Pixels that are void in the labels do not count for the IoU of a predicted region.
- Crowds are never matched nor missed.
- A predicted region without a match is no false positive if more than half of it is void or crowd of its own class.
- Void in the prediction gets no favor: what it covers is missed.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.panoptic.overlaps import overlaps
from hmsa_label.labelers.taxonomy import IGNORE_INDEX, ClassTable

IOU, TP, FP, FN = range(4)  # columns of counts


class Quality(NamedTuple):
    """Panoptic quality, and the two factors that it is the product of for a single class; 0..1.

    Attributes:
        pq: panoptic quality. sq: mean IoU of the matches. rq: F1 score of finding regions.
    """

    pq: float
    sq: float
    rq: float


class PanopticQuality:
    """Counts regions of images, and scores all of them together.

    Attributes:
        counts: [K, 4] float64 by class: sum of the IoUs of matches, matches, false positives, false negatives. They add
            up over images and over processes that each see some of them.
    """

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.counts = np.zeros((classes.num_classes, 4))

    def add(self, labels: NDArray[Any], predicted: NDArray[Any]) -> None:
        """Counts one image by its panoptic maps [H, W]; see `count_regions`."""
        self.counts += count_regions(labels, predicted, self.classes)

    def by_class(self) -> dict[str, Quality | None]:
        """By class name; None for a class that neither labels nor predictions have."""
        qualities = _qualities(self.counts)
        return dict(zip(self.classes.names, qualities, strict=True))

    def mean(self, train_ids: Iterable[int] | None = None) -> Quality | None:
        """The mean over the classes that occur, or over those of them that are named; None if none occurs."""
        chosen = range(self.classes.num_classes) if train_ids is None else train_ids
        found = [one for one in _qualities(self.counts[list(chosen)]) if one is not None]
        return Quality(*np.mean(found, axis=0).tolist()) if found else None

    @property
    def of_things(self) -> Quality | None:
        """The mean over the thing classes that occur."""
        return self.mean(self.classes.things)

    @property
    def of_stuff(self) -> Quality | None:
        """The mean over all other classes that occur."""
        return self.mean(set(range(self.classes.num_classes)) - set(self.classes.things))


def count_regions(labels: NDArray[Any], predicted: NDArray[Any], classes: ClassTable) -> NDArray[np.float64]:
    """[K, 4] float64 of one image: sum of IoUs, matches, false positives, false negatives by class.

    Args:
        labels: [H, W] panoptic map; instance 0 of a thing class is a crowd.
        predicted: [H, W] panoptic map; numbers of instances need only differ within a class.

    Raises:
        ValueError: the shapes differ, or a map has a class that is not in the table.
    """
    found = overlaps(labels, predicted)
    known = _classes_of(found.rows, classes, "the labels") != IGNORE_INDEX
    given = _classes_of(found.columns, classes, "the prediction") != IGNORE_INDEX
    void_px = found.pixels[~known].sum(0)[given]
    rows, columns = found.rows[known], found.columns[given]
    area_px, predicted_px = found.pixels.sum(1)[known], found.pixels.sum(0)[given]
    shared = found.pixels[known][:, given]
    same = (rows // DIVISOR)[:, None] == columns // DIVISOR
    crowd = np.isin(rows // DIVISOR, classes.things) & (rows % DIVISOR == 0)
    iou = shared / (area_px[:, None] + predicted_px - shared - void_px)
    match = same & ~crowd[:, None] & (iou > 0.5)
    excused = void_px + (shared * (same & crowd[:, None])).sum(0)
    counts = np.zeros((classes.num_classes, 4))
    matched_rows, matched_columns = match.nonzero()
    np.add.at(counts[:, IOU], rows[matched_rows] // DIVISOR, iou[matched_rows, matched_columns])
    np.add.at(counts[:, TP], rows[matched_rows] // DIVISOR, 1)
    np.add.at(counts[:, FP], columns[~match.any(0) & (2 * excused <= predicted_px)] // DIVISOR, 1)
    np.add.at(counts[:, FN], rows[~match.any(1) & ~crowd] // DIVISOR, 1)
    return counts


def _classes_of(numbers: NDArray[np.int64], classes: ClassTable, where: str) -> NDArray[np.int64]:
    train_ids = numbers // DIVISOR
    strange = (train_ids >= classes.num_classes) & (train_ids != IGNORE_INDEX)
    if strange.any():
        last = classes.num_classes - 1
        raise ValueError(
            f"{where} has trainId {train_ids[strange][0]}; a panoptic map is trainId * {DIVISOR} + instance, with "
            f"trainIds 0..{last}, or {IGNORE_INDEX} for void"
        )
    return train_ids


def _qualities(counts: NDArray[np.float64]) -> list[Quality | None]:
    """Of each row of counts; None where there is no region at all."""
    found: list[Quality | None] = []
    for iou, tp, fp, fn in counts.tolist():
        regions = tp + fp / 2 + fn / 2
        found.append(Quality(iou / regions, iou / tp if tp else 0.0, tp / regions) if regions else None)
    return found
