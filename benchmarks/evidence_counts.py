"""Pixels of labeled images by confidence or margin, disagreement and whether they are right; rules applied to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.layout import IGNORE_INDEX, U8

# Levels of confidence and of margin that rules may ask for; 0 is below the first.
LEVELS = np.unique(
    np.round([*np.arange(0.2, 0.9, 0.01), *np.arange(0.9, 0.99, 0.0025), *np.arange(0.99, 1, 0.001)], 4).astype(
        np.float32
    )
)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pixels with a fine label, of each of I images.

    Attributes:
        pixels: [I, K, 1 + L, 1 + V, 2] by predicted class, level reached, views that disagree, and wrong or right.
    """

    pixels: NDArray[np.int64]

    def of(self, images: slice) -> "Counts":
        return Counts(pixels=self.pixels[images])

    def kept(self, levels: NDArray[np.int64] | int, most: int) -> NDArray[np.int64]:
        """[I, K, 2] pixels that reach a level, or that of their class [K], with at most so many views against them.

        A level above all, 1 + L, keeps nothing.
        """
        reached = self.pixels[:, :, ::-1, : most + 1].sum(3).cumsum(2)[:, :, ::-1]
        reached = np.concatenate([reached, np.zeros_like(reached[:, :, :1])], 2)
        least = np.broadcast_to(np.asarray(levels), reached.shape[1:2])
        return np.take_along_axis(reached, least[None, :, None, None], 2)[:, :, 0]

    @property
    def total(self) -> int:
        """All of them."""
        return int(self.pixels.sum())


def count(top1: U8, level: U8, disagreement: U8, fine: U8, num_classes: int, num_views: int) -> NDArray[np.int64]:
    """[K, 1 + L, 1 + V, 2] of one image; all maps [H, W]."""
    shape = num_classes, len(LEVELS) + 1, num_views + 1, 2
    known = (fine != IGNORE_INDEX) & (top1 != IGNORE_INDEX)
    cells = np.ravel_multi_index(
        tuple(values[known].astype(np.int64) for values in (top1, level, disagreement, top1 == fine)), shape
    )
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)


def precision(kept: NDArray[np.int64]) -> float:
    """Share of right ones among pixels [..., 2]; NaN of none."""
    wrong, right = kept.reshape(-1, 2).sum(0)
    return float(right / (wrong + right)) if wrong + right else float("nan")


def level_for(counts: Counts, target: float, most: int, train_id: int | None = None) -> int | None:
    """The lowest level whose kept pixels, of one class or all, have a precision of `target`; None if there is none."""
    classes = slice(None) if train_id is None else slice(train_id, train_id + 1)
    one = Counts(pixels=counts.pixels[:, classes].sum(0, keepdims=True))
    found = (level for level in range(len(LEVELS) + 1) if precision(one.kept(level, most)) >= target)
    return next(found, None)


def levels_for(counts: Counts, target: float, most: int) -> NDArray[np.int64]:
    """[K] `level_for` of each class; above all levels where there is none, or no pixel to choose by."""
    found = [level_for(counts, target, most, train_id) for train_id in range(counts.pixels.shape[1])]
    return np.array([len(LEVELS) + 1 if level is None else level for level in found])


def level_of_share(counts: Counts, pixels: int, most: int) -> int:
    """The level that keeps nearest to so many pixels."""
    kept = [int(counts.kept(level, most).sum()) for level in range(len(LEVELS) + 1)]
    return int(np.argmin(np.abs(np.array(kept) - pixels)))


def difference(one: NDArray[np.int64], other: NDArray[np.int64], resamples: int = 2000) -> tuple[float, float, float]:
    """Precision of `one` minus that of `other`, both [I, K, 2], and its 95 % interval over images, in points."""
    pair = np.stack([one.sum(1), other.sum(1)], 1)  # [I, 2, 2]
    drawn = np.random.default_rng(0).integers(0, len(pair), (resamples, len(pair)))
    sums = pair[drawn].sum(1)
    shares = 100 * sums[:, :, 1] / sums.sum(2)
    low, high = np.percentile(shares[:, 0] - shares[:, 1], (2.5, 97.5))
    return 100 * (precision(one) - precision(other)), float(low), float(high)


def ranking_area(counts: Counts, order: Sequence[tuple[int, int]]) -> float:
    """Area under the ROC curve of telling right from wrong pixels by cells (level, disagreement), worst cell first."""
    cells = counts.pixels.sum((0, 1))
    wrong, right = np.array([cells[cell] for cell in order], np.float64).T
    below = np.concatenate([[0.0], np.cumsum(wrong)[:-1]])
    return float((right * (below + wrong / 2)).sum() / (right.sum() * wrong.sum()))


def by_level(num_views: int) -> list[tuple[int, int]]:
    """Cells by level, those with more views against them first within one: disagreement breaks ties alone."""
    return [(level, views) for level in range(len(LEVELS) + 1) for views in range(num_views, -1, -1)]


def by_precision(counts: Counts, num_views: int, bins: int = 24) -> list[tuple[int, int]]:
    """Cells by how often they were right in `counts`, in `bins` bins of levels that hold equally many pixels."""
    cells = counts.pixels.sum((0, 1))
    share = np.cumsum(cells.sum((1, 2))) / cells.sum()
    bin_of = np.minimum((share * bins).astype(int), bins - 1)
    right = np.zeros(cells.shape[:2])
    for number in range(bins):
        inside = cells[bin_of == number].sum(0)
        right[bin_of == number] = (inside[:, 1] + 1) / (inside.sum(1) + 2)
    return sorted(by_level(num_views), key=lambda cell: (right[cell], cell[0], -cell[1]))
