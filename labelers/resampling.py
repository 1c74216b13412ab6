"""Bilinear resizing as banded matrices, so that several resizes become one and any rows can be had alone.

A resize is linear and separable: R(x) = A_y x A_x^T. Two in a row are the product of their matrices, and row r of the
result needs only the few input rows where row r of A_y is not zero.
"""

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

_BLOCK_PX = 128  # output columns that are computed at once; wider blocks multiply more zeros


def resize_matrix(size_px: int, new_size_px: int) -> Tensor:
    """[new_size, size] float32 matrix of `layers.resize` along one axis, taken from the resize itself."""
    identity = torch.eye(size_px)[None, :, :, None]
    columns = F.interpolate(identity, size=(new_size_px, 1), mode="bilinear", align_corners=False)
    return columns[0, :, :, 0].T.contiguous()


class Resampler:
    """Matrix of one or several resizes along one axis, with the band of non-zero columns of each row.

    Attributes:
        matrix: [out, in].
        size_px: out.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size_px = matrix.shape[0]
        used = matrix.cpu() != 0
        position = torch.arange(used.shape[1])
        self._first = torch.where(used, position, used.shape[1]).amin(1).tolist()
        self._last = torch.where(used, position, -1).amax(1).tolist()

    def band(self, start: int, stop: int) -> tuple[Tensor, int, int]:
        """(matrix [stop - start, last - first], first, last): what makes output rows start..stop, ends excluded."""
        first, last = min(self._first[start:stop]), max(self._last[start:stop]) + 1
        if first >= last:  # rows of zeros alone, outside a padded image
            first, last = 0, 1
        return self.matrix[start:stop, first:last], first, last

    def blocks(self, width_px: int = _BLOCK_PX) -> list[tuple[int, int]]:
        """(start, stop) of consecutive blocks of the output."""
        return [(start, min(start + width_px, self.size_px)) for start in range(0, self.size_px, width_px)]


@lru_cache(maxsize=256)
def resampler(sizes_px: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Resampler:
    """Resampler through all of `sizes_px`, first to last."""
    matrix = resize_matrix(sizes_px[0], sizes_px[1]).double()
    for size, new_size in pairwise(sizes_px[1:]):
        matrix = resize_matrix(size, new_size).double() @ matrix
    return Resampler(matrix.to(device=device, dtype=dtype))


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
