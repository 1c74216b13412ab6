"""How sure a precision is: a percentile bootstrap over units of images (Efron, Annals of Statistics 7, 1979).

A resample draws U - 1 of the U units with replacement, so that the spread of few units is not understated (McCarthy and
Snowden, The Bootstrap and Finite Population Sampling, 1985), and divides their right pixels by their kept ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.calibrate.counts import F64, I64

LEAST_UNITS = 3  # with a kept pixel; fewer tell nothing of the spread between them


@dataclass(frozen=True, kw_only=True, eq=False)
class Precision:
    """Of T thresholds.

    Attributes:
        value: [T] right / kept, NaN without a kept pixel. low, high: [T] ends of the interval, NaN where it is unknown.
        kept_px: [T] int64. units: [T] units that keep a pixel.
    """

    value: F64
    low: F64
    high: F64
    kept_px: I64
    units: I64


class Resamples:
    """The same draws for every class and threshold.

    Args:
        unit_of_image: [N] unit of each image; units without an image are left out.
        resamples: how many. confidence: share of them that an interval holds, 0..1.
    """

    def __init__(self, unit_of_image: NDArray[np.int64], resamples: int, confidence: float, seed: int = 0) -> None:
        self._unit = np.unique(unit_of_image, return_inverse=True)[1]
        self.count = int(self._unit.max()) + 1
        rng = np.random.default_rng(seed)
        self._drawn = rng.multinomial(max(self.count - 1, 1), np.full(self.count, 1 / self.count), resamples)
        self._ends = (1 - confidence) / 2, (1 + confidence) / 2

    def precision(self, kept: I64, right: I64) -> Precision:
        """Precision and intervals of [N, T] kept and right pixels by image."""
        kept, right = self._by_unit(kept), self._by_unit(right)
        units, total = (kept > 0).sum(0), kept.sum(0)
        low, high = np.full((2, kept.shape[1]), np.nan)
        if (known := units >= LEAST_UNITS).any():
            shares = _ratio(self._drawn @ right[:, known], self._drawn @ kept[:, known])
            low[known], high[known] = np.nanquantile(shares, self._ends, axis=0)
        return Precision(value=_ratio(right.sum(0), total), low=low, high=high, kept_px=total, units=units)

    def _by_unit(self, pixels: I64) -> I64:
        sums = np.zeros((self.count, pixels.shape[1]), np.int64)
        np.add.at(sums, self._unit, pixels)
        return sums


def _ratio(part: I64, whole: I64) -> F64:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
