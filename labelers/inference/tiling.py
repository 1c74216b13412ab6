"""Windows that cover an image too large for one pass, and which part of each is kept.

Windows overlap, and each keeps what lies nearer to its own middle: the kept parts cover every pixel once, and no kept
pixel is nearer than half the overlap to a cut. Windows begin at multiples of `ALIGN_PX`, so that strides fall on the
same pixels as in the whole image. What differs is the context beyond a window, which the OCR head and the deepest
branch see: labels of a cut image are not those of the whole.
"""

from dataclasses import dataclass
from itertools import pairwise

ALIGN_PX = 64  # the deepest stride, 32, at scale 0.5
OVERLAP_PX = 256


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One window of an image and the part of it that is kept, as (start, stop) px of the whole image."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    kept_rows: tuple[int, int]
    kept_columns: tuple[int, int]


def spans(length_px: int, window_px: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """((start, stop), (first kept, last kept excluded)) of the windows along one axis.

    Args:
        window_px: a multiple of `ALIGN_PX` larger than the overlap, or at least `length_px` for a single window.
    """
    if window_px >= length_px:
        return [((0, length_px), (0, length_px))]
    assert window_px > OVERLAP_PX
    assert window_px % ALIGN_PX == 0
    step = window_px - OVERLAP_PX
    count = -(-(length_px - OVERLAP_PX) // step)
    windows = [(index * step, min(index * step + window_px, length_px)) for index in range(count)]
    cuts = [0, *((left[1] + right[0]) // 2 for left, right in pairwise(windows)), length_px]
    return list(zip(windows, pairwise(cuts), strict=True))


def tiles(size_px: tuple[int, int], window_px: tuple[int, int]) -> list[Tile]:
    """The tiles of an image of `size_px`, in rows from the top left; a single one where the window is large enough."""
    return [
        Tile(rows=rows, columns=columns, kept_rows=kept_rows, kept_columns=kept_columns)
        for rows, kept_rows in spans(size_px[0], window_px[0])
        for columns, kept_columns in spans(size_px[1], window_px[1])
    ]
