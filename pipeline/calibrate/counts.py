"""Pixels by image, class and level of confidence: all that a calibration is computed from.

A level is the number of edges that a confidence reaches, as float32, so level 0 lies below all of them. Counts are kept
for each image, because pixels of one image are not independent and whole images are drawn for the intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

# Where a teacher's own confidence is counted beside the stored thresholds: closer together near 1, where most of it is.
FINE_EDGES = (*(5 * number / 100 for number in range(1, 20)), 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCounts:
    """Pixels of one image that have a fine label, L levels.

    Attributes:
        labeled: [K] int64 by class of the label.
        predicted, right: [K, L] int32 by predicted class; of these, the label has the same class.
        missed: [K, L] int32 by class of the label, where the prediction is another class.
        confidence: [K, L] float64 sum of the confidence of the predicted ones; None if only levels are known.
    """

    labeled: I64
    predicted: I32
    right: I32
    missed: I32
    confidence: F64 | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Those of N images.

    Attributes:
        keys: of the images. names: of the K classes.
        edges: [L - 1] float32, ascending. grid: those of them that are stored thresholds.
        labeled: [N, K]. predicted, right, missed: [N, K, L]. confidence: [K, L], over all images; see `ImageCounts`.
    """

    keys: list[str]
    names: tuple[str, ...]
    edges: NDArray[np.float32]
    grid: tuple[float, ...]
    labeled: I64
    predicted: I32
    right: I32
    missed: I32
    confidence: F64 | None

    def kept(self, of: I32, thresholds: Sequence[float]) -> I64:
        """[N, K, T] int64 pixels of `predicted`, `right` or `missed` whose confidence reaches each threshold.

        Args:
            thresholds: each an edge, or 0 for all pixels.
        """
        reached = np.flip(np.flip(of, -1).cumsum(-1, dtype=np.int64), -1)
        return reached[..., [self._level(value) for value in thresholds]]

    def _level(self, threshold: float) -> int:
        if threshold == 0:
            return 0
        places = np.flatnonzero(self.edges == np.float32(threshold))
        assert len(places) == 1, threshold
        return int(places[0]) + 1


def fine_edges(grid: Sequence[float]) -> NDArray[np.float32]:
    """[E] float32 ascending: `FINE_EDGES` and the stored thresholds, each value once."""
    return np.unique(np.asarray([*FINE_EDGES, *grid], np.float32))


def levels_of(confidence: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.intp]:
    """How many of the ascending edges each float32 confidence reaches; NaN reaches none."""
    return np.where(np.isnan(confidence), 0, np.searchsorted(edges, confidence, side="right"))


def levels_of_code(code: U8, stored: Sequence[float], edges: NDArray[np.float32]) -> NDArray[np.intp]:
    """The same of a stored code, which counts the thresholds `stored`; `edges` are some of these."""
    least = np.asarray(stored, np.float32)  # of a confidence with code n: the n-th threshold
    return np.r_[0, np.searchsorted(edges, least, side="right")][code]


def count_image(
    labels: U8,
    top1: U8,
    level: NDArray[np.intp],
    num_classes: int,
    num_levels: int,
    confidence: NDArray[np.float32] | None = None,
) -> ImageCounts:
    """Counts one image.

    Pixels whose label is not a class are left out. Those with a label and no predicted class (255) count as labeled.

    Args:
        labels, top1: [H, W] uint8 trainIds. level: [H, W] of the confidence. confidence: [H, W] float32; None if only
            its level is known.

    Raises:
        ValueError: the shapes differ.
    """
    if labels.shape != top1.shape:
        raise ValueError(f"its fine labels have {_size(labels)} px, its prediction {_size(top1)} px")
    known = labels < num_classes
    both = known & (top1 < num_classes)
    truth, said, at = labels[both].astype(np.intp), top1[both].astype(np.intp), level[both]
    right, shape = truth == said, (num_classes, num_levels)
    place = said * num_levels + at

    def tally(places: NDArray[np.intp], weights: NDArray[np.float32] | None = None) -> NDArray[np.generic]:
        return np.bincount(places, weights, num_classes * num_levels).reshape(shape)

    return ImageCounts(
        labeled=np.bincount(labels[known], minlength=num_classes).astype(np.int64),
        predicted=tally(place).astype(np.int32),
        right=tally(place[right]).astype(np.int32),
        missed=tally((truth * num_levels + at)[~right]).astype(np.int32),
        confidence=None if confidence is None else tally(place, confidence[both]).astype(np.float64),
    )


def stack(
    keys: list[str],
    names: tuple[str, ...],
    edges: NDArray[np.float32],
    grid: Sequence[float],
    images: Sequence[ImageCounts],
) -> Counts:
    """The counts of all images together."""
    sums = [image.confidence for image in images if image.confidence is not None]
    return Counts(
        keys=keys,
        names=names,
        edges=edges,
        grid=tuple(grid),
        labeled=np.stack([image.labeled for image in images]),
        predicted=np.stack([image.predicted for image in images]),
        right=np.stack([image.right for image in images]),
        missed=np.stack([image.missed for image in images]),
        confidence=np.sum(sums, axis=0) if sums else None,
    )


def _size(pixels: U8) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"
