"""Bilinear resizing as banded matrices, so that several resizes become one and any rows can be had alone.

A resize is linear and separable: R(x) = A_y x A_x^T. Two in a row are the product of their matrices, and row r of the
result needs only the few input rows where row r of A_y is not zero. A matrix is kept as the few entries of each row;
blocks of it are made dense when they are needed.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

_BLOCK_PX = 128  # output columns that are computed at once; wider blocks multiply more zeros


class Entries:
    """A matrix by the entries of its rows.

    Attributes:
        columns: [out, n] int64, of the entries of each row; a column may occur twice, its weights then add up.
        weights: [out, n] float64.
    """

    def __init__(self, columns: Tensor, weights: Tensor) -> None:
        self.columns, self.weights = columns, weights

    def after(self, first: "Entries") -> "Entries":
        """The product self @ first: `first` is applied first."""
        columns = first.columns[self.columns]  # [out, n, m]
        weights = self.weights[:, :, None] * first.weights[self.columns]
        return Entries(columns.flatten(1), weights.flatten(1))

    def shifted(self, by_px: int) -> "Entries":
        """Row r is row r + by_px, zero where there is none."""
        rows = torch.arange(len(self.columns)) + by_px
        inside = (rows >= 0) & (rows < len(self.columns))
        rows = rows.clamp(0, len(self.columns) - 1)
        return Entries(self.columns[rows], self.weights[rows] * inside[:, None])


def resize_entries(size_px: int, new_size_px: int) -> Entries:
    """One axis of `layers.resize`: two neighbors of each output position, in float32 arithmetic as torch does it."""
    scale = torch.tensor(size_px, dtype=torch.float32) / new_size_px
    position = ((torch.arange(new_size_px, dtype=torch.float32) + 0.5) * scale - 0.5).clamp(min=0)
    left = position.long().clamp(max=size_px - 1)
    share = (position - left).double()
    right = (left + 1).clamp(max=size_px - 1)
    return Entries(torch.stack([left, right], 1), torch.stack([1 - share, share], 1))


class Resampler:
    """Dense blocks of the matrix of one or several resizes along one axis, on one device.

    Attributes:
        size_px: of the output.
    """

    def __init__(self, entries: Entries, dtype: torch.dtype, device: torch.device) -> None:
        self.size_px = len(entries.columns)
        self._entries, self._dtype, self._device = entries, dtype, device
        self._bands: dict[tuple[int, int], tuple[Tensor, int, int]] = {}

    def band(self, start: int, stop: int) -> tuple[Tensor, int, int]:
        """(matrix [stop - start, last - first], first, last): what makes output rows start..stop, ends excluded."""
        if (start, stop) not in self._bands:
            columns, weights = self._entries.columns[start:stop], self._entries.weights[start:stop]
            first, last = int(columns.min()), int(columns.max()) + 1
            dense = torch.zeros(stop - start, last - first, dtype=torch.float64)
            dense.scatter_add_(1, columns - first, weights)
            self._bands[start, stop] = dense.to(device=self._device, dtype=self._dtype), first, last
        return self._bands[start, stop]

    def blocks(self, width_px: int = _BLOCK_PX) -> list[tuple[int, int]]:
        """(start, stop) of consecutive blocks of the output."""
        return [(start, min(start + width_px, self.size_px)) for start in range(0, self.size_px, width_px)]


def composed(sizes_px: Sequence[int]) -> Entries:
    """Resizes through all of `sizes_px`, first to last."""
    entries = resize_entries(sizes_px[0], sizes_px[1])
    for size, new_size in pairwise(sizes_px[1:]):
        entries = resize_entries(size, new_size).after(entries)
    return entries


@lru_cache(maxsize=64)  # about what images of three sizes need at three scales
def resampler(sizes_px: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Resampler:
    """Resampler through all of `sizes_px`, first to last."""
    return Resampler(composed(sizes_px), dtype, device)


def resize_rows(maps: Tensor, rows: tuple[Tensor, int, int], columns: Resampler, offset_px: int = 0) -> Tensor:
    """Rows [C, R, W] of the resized `maps`.

    Args:
        maps: [C, h, w]; its first row is row `offset_px` of the whole image.
        rows: band of the rows asked for, as `Resampler.band` gives it.
        columns: how the columns are resized.
    """
    matrix, first, last = rows
    tall = torch.matmul(matrix, maps[:, first - offset_px : last - offset_px])
    wide = tall.new_empty(*tall.shape[:2], columns.size_px)
    for start, stop in columns.blocks():
        block, left, right = columns.band(start, stop)
        wide[..., start:stop] = torch.matmul(tall[..., left:right], block.T)
    return wide
