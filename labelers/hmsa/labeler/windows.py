"""How much memory a pass takes, which windows of an image fit into what is there, and what to do where they did not.

Decided before an image is labeled, from its size alone, and recorded with it: an image is never cut silently. What was
measured is rounded up in steps of a tenth, so that small differences between two measurements rarely change the cut.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from hmsa_label.labelers.base import DoesNotFit
from hmsa_label.labelers.device_errors import is_out_of_memory, one_line
from hmsa_label.labelers.inference.tiling import ALIGN_PX, OVERLAP_PX

PROBE_SIZES_PX = ((256, 256), (512, 512))
STEP = 1.1  # measured figures are rounded up to a power of this
SMALLEST_WINDOW_PX = 2 * OVERLAP_PX
MOST_ATTEMPTS = 12  # halves of the largest image that is decoded reach the smallest window
WAYS_OUT = "use fewer scales, fewer workers, or raise --max-memory"

Size = tuple[int, int]  # (height, width) in px
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Upper bound of the peak memory of a pass above the loaded model, from passes over two sizes.

    A pass has a fixed part and parts that grow with the image at most in proportion. So a larger image takes at most
    its multiple of what the larger pass took, and a smaller one at most what the smaller took.

    Attributes:
        pixels: of the images of both passes, ascending.
        peaks: bytes that the passes took.
    """

    pixels: tuple[int, int]
    peaks: tuple[float, float]

    def peak_bytes(self, size_px: Size) -> float:
        """Highest memory that a pass over an image of (height, width) may take."""
        pixels = size_px[0] * size_px[1]
        return float(np.interp(pixels, self.pixels, self.peaks)) * max(1.0, pixels / self.pixels[1])


def measure(peak_of: Callable[[Size], float]) -> MemoryModel:
    """The bound that follows from two passes, rounded up.

    Args:
        peak_of: peak in bytes of a pass over an image of (height, width).
    """
    small, large = (_round_up(peak_of(size)) for size in PROBE_SIZES_PX)
    pixels = tuple(height * width for height, width in PROBE_SIZES_PX)
    return MemoryModel(pixels=(pixels[0], pixels[1]), peaks=(small, max(small, large)))


def window_for(size_px: Size, model: MemoryModel, budget_bytes: float) -> Size:
    """(height, width) of the windows with which an image of `size_px` fits: all of it, or the fewest equal ones.

    Raises:
        DoesNotFit: not even the smallest window fits; the message names both sizes and what would help.
    """
    if model.peak_bytes(size_px) <= budget_bytes:
        return size_px
    windows = _windows(size_px)
    fitting = [window for window in windows if model.peak_bytes(window) <= budget_bytes]
    if not fitting:
        least = min(model.peak_bytes(window) for window in windows)
        raise DoesNotFit(
            f"an image of {size_px[0]} x {size_px[1]} px needs {_mib(least)} even in the smallest windows, and "
            f"{_mib(max(budget_bytes, 0))} are allowed; {WAYS_OUT}"
        )
    return _fewest(size_px, fitting)


def smaller_window(size_px: Size, window_px: Size) -> Size | None:
    """The next windows to try where `window_px` took too much: of half the pixels, then the smallest, then None."""
    windows = _windows(size_px)
    halves = [window for window in windows if 2 * math.prod(window) <= math.prod(window_px)]
    if halves:
        return _fewest(size_px, halves)
    smallest = min(windows, key=math.prod)
    return smallest if math.prod(smallest) < math.prod(window_px) else None


def in_smaller_windows(
    size_px: Size, window_px: Size, work: Callable[[Size], Result], free: Callable[[], None]
) -> Result:
    """What `work` gives for `window_px`, or for smaller windows where it runs out of memory.

    Args:
        work: takes (height, width) of the windows in which to go over an image of `size_px`.
        free: gives back what a failed attempt left.

    Raises:
        DoesNotFit: it ran out of memory in the smallest windows too, or too often.
        Exception: whatever else `work` raises.
    """
    window: Size | None = window_px
    for _ in range(MOST_ATTEMPTS):
        assert window is not None
        try:
            return work(window)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = one_line(error)
        # Not inside `except`: there the error holds the frames of the failed attempt, and these its tensors.
        free()
        tried, window = window, smaller_window(size_px, window)
        if window is None:
            break
    raise DoesNotFit(
        f"an image of {size_px[0]} x {size_px[1]} px ran out of memory, at last in windows of {tried[0]} x {tried[1]} "
        f"px ({reason}); {WAYS_OUT}"
    )


def describe(size_px: Size, window_px: Size) -> str | None:
    """`2 x 3 tiles of 640 x 768 px`, to be recorded with an image; None for one that was not cut."""
    rows, columns = (_number(length, window) for length, window in zip(size_px, window_px, strict=True))
    if rows * columns == 1:
        return None
    return f"{rows} x {columns} tiles of {window_px[0]} x {window_px[1]} px"


def _round_up(value: float) -> float:
    return float(STEP ** math.ceil(math.log(value, STEP))) if value > 0 else 0.0


def _windows(size_px: Size) -> set[Size]:
    """All windows that cover an image in equal overlapping parts, the whole of it among them."""
    height, width = size_px
    return {
        (_window(height, rows), _window(width, columns))
        for rows in range(1, _most(height) + 1)
        for columns in range(1, _most(width) + 1)
    }


def _fewest(size_px: Size, windows: Collection[Size]) -> Size:
    return min(windows, key=lambda window: (_count(size_px, window), window[0] * window[1], window))


def _window(length_px: int, count: int) -> int:
    """The smallest aligned window that covers a length in `count` overlapping windows."""
    if count == 1:
        return length_px
    exact = (length_px + (count - 1) * OVERLAP_PX) / count
    return max(SMALLEST_WINDOW_PX, math.ceil(exact / ALIGN_PX) * ALIGN_PX)


def _most(length_px: int) -> int:
    """How many windows of the smallest size cover a length."""
    return _number(length_px, SMALLEST_WINDOW_PX)


def _count(size_px: Size, window_px: Size) -> int:
    return math.prod(_number(length, window) for length, window in zip(size_px, window_px, strict=True))


def _number(length_px: int, window_px: int) -> int:
    """`len(tiling.spans(...))` without making them: a strip of 100 million pixels has very many."""
    return 1 if window_px >= length_px else -(-(length_px - OVERLAP_PX) // (window_px - OVERLAP_PX))


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"
