"""What a panoptic network learns, from panoptic maps (arXiv 1911.10194, section 3; numbers of its released code)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.taxonomy import IGNORE_INDEX


class Targets(NamedTuple):
    """Targets of a batch at full size.

    Attributes:
        semantic: [N, H, W] int64 trainIds, 255 ignored.
        semantic_weight: [N, H, W] float32, factor of each pixel's semantic loss.
        center: [N, 1, H, W] float32 heat map, 0..1.
        center_mask: [N, H, W] bool, where the heat map is known: labeled pixels that are not of a crowd.
        offset: [N, 2, H, W] float32 (dy, dx) to the center of mass of the pixel's instance, px; 0 elsewhere.
        offset_mask: [N, H, W] bool, pixels of instances.
    """

    semantic: Tensor
    semantic_weight: Tensor
    center: Tensor
    center_mask: Tensor
    offset: Tensor
    offset_mask: Tensor


def make_targets(
    maps: Tensor,
    things: Sequence[int],
    *,
    sigma_px: float = 8.0,
    small_area_px: int = 4096,
    small_weight: float = 3.0,
) -> Targets:
    """Targets of panoptic maps [N, H, W] int64, on their device.

    An instance is what of it is inside of the map. A crowd has its class, and neither center nor offset: both are
    unknown there.

    Args:
        things: trainIds of thing classes.
        sigma_px: of the Gaussian around a center; it ends at a square of 3 sigma + 1 px around it, and where several
            overlap, the highest counts.
        small_area_px: instances with fewer pixels have `small_weight` in the semantic loss.
    """
    semantic, instance, crowd = _split(maps, things)
    center = torch.zeros(maps.shape, device=maps.device)
    offset = torch.zeros(len(maps), 2, *maps.shape[1:], device=maps.device)
    weight = torch.ones(maps.shape, device=maps.device)
    for i in range(len(maps)):
        y, x = instance[i].nonzero().unbind(1)
        _, own, area = maps[i, y, x].unique(return_inverse=True, return_counts=True)
        means = torch.stack([torch.bincount(own, axis.double(), len(area)) / area for axis in (y, x)])
        offset[i, :, y, x] = (means[:, own] - torch.stack([y, x])).float()
        weight[i, y, x] = torch.where(area < small_area_px, small_weight, 1.0)[own]
        for row, column in means.T.long().tolist():
            _draw_peak(center[i], row, column, sigma_px)
    return Targets(semantic, weight, center[:, None], (semantic != IGNORE_INDEX) & ~crowd, offset, instance)


def _split(maps: Tensor, things: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """(trainIds int64, which pixels are of instances, which of crowds), each of the shape of the maps."""
    semantic = maps.long() // DIVISOR
    table = torch.zeros(IGNORE_INDEX + 1, dtype=torch.bool, device=maps.device)
    table[list(things)] = True
    thing, numbered = table[semantic], maps % DIVISOR > 0
    return semantic, thing & numbered, thing & ~numbered


def _draw_peak(heatmap: Tensor, row: int, column: int, sigma_px: float) -> None:
    """Raises [H, W] to a Gaussian of height 1 around a pixel, inside its square."""
    reach = round(3 * sigma_px) + 1
    y = torch.arange(max(0, row - reach), min(heatmap.shape[0], row + reach + 1), device=heatmap.device)
    x = torch.arange(max(0, column - reach), min(heatmap.shape[1], column + reach + 1), device=heatmap.device)
    square = (y - row).square()[:, None] + (x - column).square()
    part = heatmap[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    torch.maximum(part, torch.exp(square / (-2 * sigma_px**2)), out=part)
