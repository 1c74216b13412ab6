"""Which stored threshold reaches a precision.

The lowest one whose interval lies at or above the target as a whole, if the precision does not fall below the target at
any higher one. To ask for the precision alone would take whichever threshold chance has lifted above the target; the
lower end of the interval is passed by chance at one threshold in forty (at 95 %), and as the pixels of a higher
threshold are a part of those of a lower one, the thresholds of a class pass together more than one by one. Bounds on
what is kept, instead of its estimate: Geifman and El-Yaniv (arXiv 1705.08500); a family of nested choices: Angelopoulos
et al. (arXiv 2110.01052).
"""

from collections.abc import Sequence

import numpy as np

from hmsa_label.pipeline.calibrate.bootstrap import LEAST_UNITS, Precision
from hmsa_label.pipeline.calibrate.records import OFF

LEAST_PX = 1000  # kept pixels that a choice may rest on


def choose(
    thresholds: Sequence[float], found: Precision, target: float, predicted_px: int
) -> tuple[float | str, str | None]:
    """(the threshold, None) or ("off", why).

    Args:
        thresholds: [T] stored ones, ascending. found: what they keep of the `predicted_px` pixels of the class.
    """
    enough = (found.kept_px >= LEAST_PX) & (found.units >= LEAST_UNITS)
    chosen = None
    for place in np.flatnonzero(enough)[::-1]:
        if found.value[place] < target:
            break
        if found.low[place] >= target:
            chosen = place
    if chosen is not None:
        return thresholds[chosen], None
    if not predicted_px:
        return OFF, "no pixel is predicted as it"
    if not enough.any():
        few = "pixels" if found.kept_px[0] < LEAST_PX else "images"
        return OFF, f"too few {few}: {found.kept_px[0]:,} of {predicted_px:,} predicted px reach {thresholds[0]:g}"
    return OFF, _reason(thresholds, found, target, enough)


def _reason(thresholds: Sequence[float], found: Precision, target: float, enough: np.ndarray) -> str:
    best = int(np.argmax(np.where(enough, found.value, -1)))
    if found.value[best] < target:
        return f"never that precise: at most {found.value[best]:.4f}, at {thresholds[best]:g}"
    surest = int(np.argmax(np.where(enough, found.low, -1)))
    value, low, high = found.value[surest], found.low[surest], found.high[surest]
    if low >= target:
        return f"less precise at a higher threshold than the {value:.4f} at {thresholds[surest]:g}"
    return f"not surely that precise: {value:.4f} at {thresholds[surest]:g}, with an interval {low:.4f} to {high:.4f}"
