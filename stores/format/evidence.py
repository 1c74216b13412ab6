"""Confidence as an ordinal code, so that the label at every stored threshold is exact without the teacher.

A pixel's code is the number of stored thresholds that its float32 confidence reaches. A threshold then asks only
whether
the code is large enough; nothing is rounded. `pipeline/teacher/threshold.py` holds the same rule for tensors.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8

DEFAULT_GRID: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
MAX_LEVELS = 253


def grid_with(threshold: float, grid: Sequence[float] = DEFAULT_GRID) -> tuple[float, ...]:
    """The grid with a run's own threshold added, ascending, each float32 value once.

    Raises:
        ValueError: if a threshold lies outside (0, 1), or more than 253 levels come together.
    """
    outside = [value for value in (*grid, threshold) if not 0.0 < value < 1.0]  # NaN is outside too
    if outside:
        raise ValueError(f"thresholds must lie between 0 and 1, both excluded; got {outside[0]}")
    values = {float(np.float32(value)): float(value) for value in (*grid, threshold)}
    merged = tuple(values[key] for key in sorted(values))
    if len(merged) > MAX_LEVELS:
        raise ValueError(f"at most {MAX_LEVELS} thresholds fit into one code; got {len(merged)}")
    return merged


def level_of(threshold: float, grid: Sequence[float]) -> int:
    """The smallest code that reaches `threshold`: its place in the grid, counted from 1.

    Raises:
        ThresholdNotStored: if the threshold is not on the grid; the message lists the grid.
    """
    stored = np.asarray(grid, np.float32)
    places = np.flatnonzero(stored == np.float32(threshold))
    if not len(places):
        listed = ", ".join(f"{value}" for value in grid)
        raise ThresholdNotStored(
            f"threshold {threshold} is not among the stored ones: {listed}; "
            "choose one of these or run the teacher again"
        )
    return int(places[0]) + 1


def label_at(top1: U8, code: U8, level: int, ignore_index: int = IGNORE_INDEX) -> U8:
    """[H, W] uint8 trainIds where the code reaches `level`, ignore_index elsewhere."""
    return np.where(code >= level, top1, np.uint8(ignore_index))


def code_of(confidence: NDArray[np.floating], grid: Sequence[float]) -> U8:
    """[H, W] uint8 number of thresholds that each confidence, as float32, reaches; NaN reaches none.

    A sum of compares: `searchsorted` would put NaN into the highest bin. Both sides are float32, because
    float32(0.9) is below the float64 of the same spelling.
    """
    values = np.asarray(confidence).astype(np.float32)
    code = np.zeros(values.shape, np.uint8)
    for threshold in np.asarray(grid, np.float32):
        code += values >= threshold
    return code
