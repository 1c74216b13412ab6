"""How much memory a pass takes, measured, and which windows of an image fit into what is there.

Decided before an image is labelled, from its size alone, and recorded with it: an image is never cut silently. What was
measured is rounded up in steps of a tenth, so that small differences between two measurements rarely change the cut.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hmsa_label.labelers.tiling import ALIGN_PX, OVERLAP_PX, spans
from hmsa_label.stores.images import BadImage

PROBE_SIZES_PX = ((256, 256), (512, 512))
STEP = 1.1  # measured figures are rounded up to a power of this
SMALLEST_WINDOW_PX = 2 * OVERLAP_PX


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Peak memory of a pass above the loaded model, a line in the number of pixels of the image."""

    base_bytes: float
    bytes_per_pixel: float

    def peak_bytes(self, size_px: tuple[int, int]) -> float:
        """Projected peak for an image of (height, width)."""
        return self.base_bytes + self.bytes_per_pixel * size_px[0] * size_px[1]


def measure(peak_of: Callable[[tuple[int, int]], int]) -> MemoryModel:
    """The line through two measured passes, rounded up.

    Args:
        peak_of: peak in bytes of a pass over an image of (height, width).
    """
    (small, large), (low, high) = (
        (height * width for height, width in PROBE_SIZES_PX),
        (peak_of(size) for size in PROBE_SIZES_PX),
    )
    slope = max(high - low, 0) / (large - small)
    return MemoryModel(base_bytes=_round_up(low - slope * small), bytes_per_pixel=_round_up(slope))


def window_for(size_px: tuple[int, int], model: MemoryModel, budget_bytes: float) -> tuple[int, int]:
    """(height, width) of the windows with which an image of `size_px` fits: all of it, or the fewest equal ones.

    Raises:
        BadImage: not even the smallest window fits; the message names both sizes and what would help.
    """
    height, width = size_px
    if model.peak_bytes(size_px) <= budget_bytes:
        return size_px
    candidates = {
        (_window(height, rows), _window(width, columns))
        for rows in range(1, _most(height) + 1)
        for columns in range(1, _most(width) + 1)
    }
    fitting = [window for window in candidates if model.peak_bytes(window) <= budget_bytes]
    if not fitting:
        least = min(model.peak_bytes(window) for window in candidates)
        raise BadImage(
            f"an image of {height} x {width} px needs {_mib(least)} even in the smallest windows, and "
            f"{_mib(budget_bytes)} are allowed; use fewer scales, or raise --max-memory"
        )
    return min(fitting, key=lambda window: (_count(size_px, window), window[0] * window[1], window))


def describe(size_px: tuple[int, int], window_px: tuple[int, int]) -> str | None:
    """`2 x 3 tiles of 640 x 768 px`, to be recorded with an image; None for one that was not cut."""
    rows, columns = (len(spans(length, window)) for length, window in zip(size_px, window_px, strict=True))
    if rows * columns == 1:
        return None
    return f"{rows} x {columns} tiles of {window_px[0]} x {window_px[1]} px"


def high_water_bytes() -> int:
    """Highest resident memory of this process since `forget_high_water`; Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_high_water() -> None:
    """Starts the highest resident memory anew from the present one; Linux only."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _round_up(value: float) -> float:
    return float(STEP ** math.ceil(math.log(value, STEP))) if value > 0 else 0.0


def _window(length_px: int, count: int) -> int:
    """The smallest aligned window that covers a length in `count` overlapping windows."""
    if count == 1:
        return length_px
    exact = (length_px + (count - 1) * OVERLAP_PX) / count
    return max(SMALLEST_WINDOW_PX, math.ceil(exact / ALIGN_PX) * ALIGN_PX)


def _most(length_px: int) -> int:
    """How many windows of the smallest size cover a length."""
    return len(spans(length_px, SMALLEST_WINDOW_PX))


def _count(size_px: tuple[int, int], window_px: tuple[int, int]) -> int:
    return math.prod(len(spans(length, window)) for length, window in zip(size_px, window_px, strict=True))


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"
