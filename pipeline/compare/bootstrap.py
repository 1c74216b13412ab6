"""How sure a difference between trainings is: a paired bootstrap over the scored images and the seeds.

Efron's percentile bootstrap (Annals of Statistics 7, 1979). A resample draws N of the N scored images and S of the S
seeds, with replacement; the same draws serve all arms, so that what makes an image hard, or a seed lucky, cancels in
their difference. The confusion matrices of the drawn images are summed for each seed, IoU is taken from the sums, and
averaged over the drawn seeds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure, the range that holds the asked share of its resamples, and how many of them lie above zero, 0..1."""

    value: float
    low: float
    high: float
    above_zero: float


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How often each image and each seed is in each resample; the first one is the data as they are.

    Attributes:
        images: [1 + R, N] counts that sum to N. seeds: [1 + R, S] counts that sum to S.
    """

    images: F64
    seeds: F64


def draw(num_images: int, num_seeds: int, resamples: int, seed: int = 0) -> Draws:
    """`resamples` draws with replacement, the same for the same numbers and seed."""
    rng = np.random.default_rng(seed)
    images = rng.multinomial(num_images, np.full(num_images, 1 / num_images), resamples)
    seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), resamples)
    return Draws(
        images=np.vstack([np.ones((1, num_images)), images]), seeds=np.vstack([np.ones((1, num_seeds)), seeds])
    )


def resampled_iou(confusions: NDArray[np.int64], draws: Draws) -> F64:
    """[1 + R, K] IoU by class in each resample, averaged over its seeds.

    A class counts in a resample if the labels of the drawn images hold it, whatever was predicted; elsewhere it is NaN.
    So the mean over classes is over the same ones for every arm and seed.

    Args:
        confusions: [S, N, K, K] pixels by seed, image, label and prediction.
    """
    num_seeds, num_images, num_classes, _ = confusions.shape
    flat = confusions.transpose(1, 0, 2, 3).reshape(num_images, -1).astype(np.float64)  # exact below 2**53 pixels
    counts = (draws.images @ flat).reshape(-1, num_seeds, num_classes, num_classes)
    hits, labeled = np.einsum("rskk->rsk", counts), counts.sum(3)
    union = labeled + counts.sum(2) - hits
    iou = np.divide(hits, union, out=np.full_like(hits, np.nan), where=labeled > 0)
    weights = draws.seeds / num_seeds
    return np.asarray(np.einsum("rs,rsk->rk", weights, iou))


def mean_iou(iou: F64) -> F64:
    """[1 + R] mean over the classes of `resampled_iou` that count; NaN where none does."""
    counted = ~np.isnan(iou)
    return np.asarray(np.where(counted, iou, 0).sum(1) / np.where(counted.any(1), counted.sum(1), np.nan))


def interval(figures: F64, confidence: float) -> Interval | None:
    """The first of [1 + R] figures with the percentile interval of the others; None if it is NaN.

    Resamples in which the figure has no value, because no drawn image holds the class, are left out.
    """
    others = figures[1:][~np.isnan(figures[1:])]
    if np.isnan(figures[0]) or not len(others):
        return None
    low, high = np.quantile(others, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=float(figures[0]), low=float(low), high=float(high), above_zero=float(np.mean(others > 0)))
