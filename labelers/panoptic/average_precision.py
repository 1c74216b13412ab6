"""Average precision of instances as the Cityscapes benchmark defines it.

The score that ranks predicted instances is the product of class confidence and center score, as Axial-DeepLab's paper
reports it (arXiv 1911.10194, section 3.3, tells how an instance gets both).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.base import Instance
from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.panoptic.overlaps import Overlaps, overlaps
from hmsa_label.labelers.taxonomy import IGNORE_INDEX, ClassTable

THRESHOLDS = np.arange(0.5, 1.0, 0.05)  # of the IoU
_HIT, _FALSE, _IGNORED = 1, 0, -1


class AveragePrecision:
    """Compares predicted instances of images with labels, and scores all of them together.

    What no rule decides is left out: an instance that lies mostly on void, on a crowd of its class or on instances that
    are too small to be asked for is neither right nor wrong.
    """

    def __init__(self, classes: ClassTable, min_area_px: int = 100) -> None:
        """With the pixels that an instance of the labels needs to be asked for; the default is that of Cityscapes."""
        self.classes, self.min_area_px = classes, min_area_px
        self.num_instances = np.zeros(classes.num_classes, np.int64)
        self._classes: list[int] = []
        self._scores: list[float] = []
        self._outcomes: list[NDArray[np.int8]] = []

    def add(self, labels: NDArray[Any], predicted: NDArray[Any], instances: Sequence[Instance]) -> None:
        """Compares one image.

        Args:
            labels: [H, W] panoptic map; instance 0 of a thing class is a crowd.
            predicted: [H, W] integers, 0 or n for the n-th of `instances`.

        Raises:
            ValueError: the shapes differ.
        """
        found = overlaps(predicted, labels)
        train_ids, area_px = found.columns // DIVISOR, found.pixels.sum(0)
        asked = np.isin(train_ids, self.classes.things) & (found.columns % DIVISOR > 0) & (area_px >= self.min_area_px)
        np.add.at(self.num_instances, train_ids[asked], 1)
        for row, number in enumerate(found.rows.tolist()):
            if number:
                one = instances[number - 1]
                self._classes.append(one.train_id)
                self._scores.append(one.confidence * one.center_score)
                self._outcomes.append(self._outcome(found, row, one.train_id, asked))

    def _outcome(self, found: Overlaps, row: int, train_id: int, asked: NDArray[np.bool_]) -> NDArray[np.int8]:
        """[10] int8 of one predicted instance at each threshold of the IoU."""
        shared, area_px = found.pixels[row], found.pixels.sum(0)
        own_px = shared.sum()
        own_class = found.columns // DIVISOR == train_id
        crowd, small = found.columns % DIVISOR == 0, area_px < self.min_area_px
        iou = np.where(own_class, shared / (area_px + own_px - shared), 0.0)
        excused = shared[found.columns // DIVISOR == IGNORE_INDEX].sum()
        # the official script counts a crowd that is small twice, once for each reason
        excused += shared[own_class & crowd].sum() + shared[own_class & small].sum()
        best = iou.argmax()  # above 0.5 there is no other
        left_out = (iou[best] > THRESHOLDS) | (excused / own_px > THRESHOLDS)
        outcome = np.where(left_out, _IGNORED, _FALSE)
        return np.where((iou[best] > THRESHOLDS) & asked[best], _HIT, outcome).astype(np.int8)

    def by_class(self) -> NDArray[np.float64]:
        """[K, 10] float64 average precision at each threshold; NaN for a class without an instance in the labels."""
        table = np.full((self.classes.num_classes, len(THRESHOLDS)), np.nan)
        classes, scores = np.array(self._classes, np.int64), np.array(self._scores)
        outcomes = np.array(self._outcomes, np.int8).reshape(-1, len(THRESHOLDS))
        for train_id in np.flatnonzero(self.num_instances).tolist():
            own = classes == train_id
            for i in range(len(THRESHOLDS)):
                counted = outcomes[own, i] != _IGNORED
                hits = outcomes[own, i][counted] == _HIT
                table[train_id, i] = area_under_curve(scores[own][counted], hits, self.num_instances[train_id])
        return table

    def score(self) -> tuple[float, float]:
        """(AP, AP at IoU 0.5), means over the classes that have instances in the labels, 0..1; 0 if none has."""
        table = self.by_class()[self.num_instances > 0]
        return (float(table.mean()), float(table[:, 0].mean())) if len(table) else (0.0, 0.0)


def area_under_curve(scores: NDArray[np.float64], hits: NDArray[np.bool_], num_instances: int) -> float:
    """The area under precision over recall as Cityscapes integrates it: a point holds for half a step on either side.

    Args:
        scores: [P] of the predicted instances. hits: [P] bool, which of them are right.
        num_instances: that are to be found.
    """
    order = np.argsort(scores)
    _, first = np.unique(scores[order], return_index=True)  # one point for each score: all from there on are taken
    from_there = np.cumsum(hits[order][::-1])[::-1][first] if len(first) else np.zeros(0)
    precision = np.append(from_there / (len(scores) - first), 1.0)
    recall = np.append(from_there / num_instances, 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (padded[:-2] - padded[2:]) / 2)
