"""Pixels to instances: each pixel goes to the center that its offset points at (arXiv 1911.10194, section 3.2)."""

from collections.abc import Iterator

import torch
from torch import Tensor

_CPU_TILE_PX = (64, 128)  # small enough that most centers are out of reach of all its pixels
_GPU_ENTRIES = 2**26  # distances that a GPU holds at once


def group_pixels(centers: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """[H, W] int64, which center each pixel belongs to: 1..C in the order of `centers`, 0 outside of `mask`.

    It is the one that is nearest to where the pixel's offset points, of equally near ones the first. Without any center
    every pixel is 0. Distances are computed tile by tile, and only to centers that may be the nearest there.

    Args:
        centers: [C, 2] (y, x).
        offset: [2, H, W] (dy, dx) from a pixel to its center, px.
        mask: [H, W] bool, which pixels belong to instances at all.
    """
    groups = torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
    if len(centers):
        for rows, columns in _tiles(mask, len(centers)):
            tile = mask[rows, columns]
            pixels = tile.nonzero()
            if len(pixels):
                corner = pixels.new_tensor([rows.start, columns.start])
                targets = (pixels + corner) + offset[:, rows, columns][:, tile].T.float()
                groups[rows, columns][tile] = _nearest(targets, centers.float()) + 1
    return groups


def _tiles(mask: Tensor, num_centers: int) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of tiles that cover the image."""
    height, width = mask.shape
    tall, wide = _CPU_TILE_PX if mask.device.type == "cpu" else (max(1, _GPU_ENTRIES // (num_centers * width)), width)
    for top in range(0, height, tall):
        for left in range(0, width, wide):
            yield slice(top, top + tall), slice(left, left + wide)


def _nearest(targets: Tensor, centers: Tensor) -> Tensor:
    """[P] index of the nearest center for [P, 2] points; squares of distances are compared, so no two become one."""
    near = _in_reach(targets, centers)
    center_y, center_x = centers[near].unbind(1)
    distance = (targets[:, :1] - center_y).square_()
    other = targets[:, 1:] - center_x
    return near[distance.addcmul_(other, other).argmin(1)]


def _in_reach(targets: Tensor, centers: Tensor) -> Tensor:
    """Ascending indices of the centers that can be the nearest of any of the points; all others lie farther from each.

    Some center is no farther than `bound` from every point of the box around them.
    """
    low, high = targets.amin(0), targets.amax(0)
    at_least = (centers - centers.clamp(low, high)).square().sum(1)
    bound = torch.maximum((centers - low).abs(), (centers - high).abs()).square().sum(1).min()
    return (~(at_least > bound * 1.001 + 1)).nonzero()[:, 0]  # with room for rounding; NaN leaves all
