"""Run-length codes of COCO masks, as numbers or in the compressed text form, and polygons, to pixels.

The form is that of the COCO API: runs of 0 and 1 in turn, 0 first, down the columns from left to right. In the text,
each number is in groups of five bits with the lowest first, a sixth bit says that another group follows, and 48 is
added to make a character; from the fourth number on, it is the difference from the number two before.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.images.source import BadImage

Mask = NDArray[np.bool_]


def mask_of(segmentation: Any, size: tuple[int, int]) -> Mask:
    """[H, W] bool pixels of one COCO segmentation.

    Args:
        segmentation: `{size, counts}` with counts as a list or as text, or a list of polygons [x1, y1, x2, y2, ...].
        size: (H, W) of the image.

    Raises:
        BadImage: if it is none of these, or of another size.
    """
    if isinstance(segmentation, Mapping):
        stated = segmentation.get("size")
        if stated != list(size):
            raise BadImage(f"a mask states the size {stated}; the image has {list(size)} (height, width)")
        return _from_runs(_runs(segmentation.get("counts")), size)
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, size)
    raise BadImage(f"a segmentation must be an RLE object or a list of polygons; got {segmentation!r:.60}")


def _runs(counts: Any) -> NDArray[np.int64]:
    try:
        if isinstance(counts, (str, bytes)):
            return _runs_of_text(counts.encode() if isinstance(counts, str) else counts)
        runs = np.asarray(counts)
        if runs.ndim == 1 and (runs.dtype.kind in "iu" or not runs.size):
            return runs.astype(np.int64)
    except (ValueError, OverflowError):
        pass
    raise BadImage(f"counts of an RLE mask must be whole numbers or their text; got {counts!r:.60}")


def _runs_of_text(text: bytes) -> NDArray[np.int64]:
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no such text")
    last = np.flatnonzero(codes & 32 == 0)  # the last group of each number
    first = np.r_[0, last[:-1] + 1]
    place = np.arange(codes.size) - np.repeat(first, last - first + 1)
    if place.max() > 11:
        raise ValueError("a number of more than 60 bits")
    numbers = np.add.reduceat((codes & 31) << (5 * place), first)
    numbers -= np.where(codes[last] & 16, 1 << (5 * (last - first + 1)), 0)  # the highest bit is the sign
    numbers[1::2], numbers[2::2] = np.cumsum(numbers[1::2]), np.cumsum(numbers[2::2])
    return np.asarray(numbers, np.int64)


def _from_runs(runs: NDArray[np.int64], size: tuple[int, int]) -> Mask:
    height, width = size
    if (runs < 0).any() or (runs > height * width).any() or int(runs.sum()) != height * width:
        raise BadImage(f"the runs of an RLE mask do not make up {height} x {width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def _from_polygons(polygons: list[Any], size: tuple[int, int]) -> Mask:
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        try:
            corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        except (ValueError, TypeError):
            corners = np.zeros((0, 2))
        if len(corners) < 3 or not np.isfinite(corners).all() or np.abs(corners).max() > 2**24:
            raise BadImage(f"a polygon must be a list of at least three x, y; got {polygon!r:.60}")
        # A corner counts from the corner of the first pixel, cv2's from its center.
        cv2.fillPoly(mask, [np.rint(corners - 0.5).astype(np.int32)], (1,))
    return mask.astype(bool)
