"""Confidence and margin as ordinal codes, so that the label at every stored threshold is exact without the teacher.

A pixel's code is the number of stored thresholds that its float32 confidence reaches. A threshold then asks only
whether the code is large enough; nothing is rounded. Margins are stored in the same way.
`pipeline/teacher/threshold.py` holds the same rule for tensors.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8

# 128/255 and 230/255 are 0.5 and 0.9 of probabilities stored as trunc(255 p).
DEFAULT_GRID: tuple[float, ...] = (
    0.3, 0.4, 0.5, 128 / 255, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 230 / 255, 0.95, 0.97, 0.98, 0.99, 0.995,
)  # fmt: skip
MARGIN_GRID: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MAX_LEVELS = 253


def grid_with(own: float | Iterable[float], grid: Sequence[float] = DEFAULT_GRID) -> tuple[float, ...]:
    """The grid with a run's own thresholds (or margins) added, ascending, each float32 value once.

    Args:
        own: one or several; 0 needs no place on a grid and is left out.

    Raises:
        ValueError: if one lies outside [0, 1), or more than 253 levels come together.
    """
    added = [own] if isinstance(own, int | float | np.number) else list(own)
    outside = [value for value in (*grid, *added) if not 0.0 <= value < 1.0]  # NaN is outside too
    if outside:
        raise ValueError(f"thresholds must lie between 0 and 1, 1 excluded; got {outside[0]}")
    values = {float(np.float32(value)): float(value) for value in (*grid, *added) if value > 0}
    merged = tuple(values[key] for key in sorted(values))
    if len(merged) > MAX_LEVELS:
        raise ValueError(f"at most {MAX_LEVELS} thresholds fit into one code; got {len(merged)}")
    return merged


def level_of(threshold: float, grid: Sequence[float], what: str = "threshold") -> int:
    """The smallest code that reaches `threshold`: its place in the grid, counted from 1; 0 for 0, which keeps all.

    Args:
        what: is asked for, for the message.

    Raises:
        ThresholdNotStored: if it is not on the grid; the message lists the grid.
    """
    if threshold == 0:
        return 0
    stored = np.asarray(grid, np.float32)
    places = np.flatnonzero(stored == np.float32(threshold))
    if not len(grid) and what == "threshold":
        raise ThresholdNotStored(
            f"threshold {spelled(threshold)} asks for the confidence of pixels, and these labels came without "
            "confidences: only threshold 0 can be met"
        )
    if not len(places):
        listed = ", ".join(map(spelled, grid)) or "none"
        raise ThresholdNotStored(
            f"{what} {spelled(threshold)} is not among the stored ones: {listed}; "
            "choose one of these or run the teacher again"
        )
    return int(places[0]) + 1


def spelled(value: float) -> str:
    """A threshold in at most 6 digits if these say it exactly, as 128/255 if it is such a part, or else in full."""
    for text in (f"{value:.6g}", f"{round(value * 255)}/255"):
        number, _, parts = text.partition("/")
        if np.float32(float(number) / float(parts or 1)) == np.float32(value):
            return text
    return repr(float(value))


def label_at(top1: U8, code: U8, level: int | U8, ignore_index: int = IGNORE_INDEX) -> U8:
    """[H, W] uint8 trainIds where the code reaches `level`, one for all pixels or [H, W]; ignore_index elsewhere."""
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


def margin_code_of(
    top: NDArray[np.floating], second: NDArray[np.floating], margins: Sequence[float] = MARGIN_GRID
) -> U8:
    """[H, W] uint8 number of `margins` that float32(p1 - p2) reaches, of float32 probabilities; NaN reaches none."""
    return code_of(np.asarray(top).astype(np.float32) - np.asarray(second).astype(np.float32), margins)
