"""What each scale says about an image and how much of it enters the result (arXiv 2005.10821, figure 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hmsa_label.labelers.inference.fused_rows import (
    ChainRows,
    PooledRows,
    Rows,
    Size,
    WeightedRows,
    arg_max_alone,
    resized_rows,
    row_blocks,
)
from hmsa_label.labelers.inference.net import InferenceNet


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleView:
    """One scale's part in a prediction, at the size of the image.

    Attributes:
        scale: factor of the image size.
        top1: [H, W] uint8 arg-max trainId of this scale alone.
        share: [H, W] float32, what the fusion takes of this scale; over all scales they add up to 1, except for
            explicit attention, whose weights are free.
    """

    scale: float
    top1: Tensor
    share: Tensor


def explain(net: InferenceNet, image: Tensor, scales: Sequence[float], fusion: str) -> list[ScaleView]:
    """Every scale's view, ascending, of an image [H, W, 3] uint8 RGB that is not mirrored.

    In a chain the share of a scale is its attention times what all lower scales leave over; the highest scale gets the
    rest. The shares are taken after resizing attention to the image, so that they picture the fusion to a pixel or two.

    Raises:
        ValueError: as `InferenceNet.fused_rows`.
    """
    x = net.normalize(image[None])
    size_px = (int(x.shape[2]), int(x.shape[3]))
    (rows,) = net.fused_rows(x, scales, fusion)
    views = []
    for level, share in zip(rows.levels, _shares(rows, size_px), strict=True):
        blocks = [arg_max_alone(level, size_px, block) for block in row_blocks(*size_px)]
        views.append(ScaleView(scale=level.scale, top1=torch.cat(blocks), share=share))
    return sorted(views, key=lambda view: view.scale)


def _shares(rows: Rows, size_px: Size) -> list[Tensor]:
    """[H, W] float32 share of each of the levels of `rows`, in their order."""
    whole = (0, size_px[0])
    if isinstance(rows, WeightedRows):
        return list(resized_rows(rows.weights, [size_px], whole))
    if isinstance(rows, PooledRows):
        return [torch.full(size_px, 1 / len(rows.levels))] * len(rows.levels)
    return _chain_shares(rows, size_px)


def _chain_shares(rows: ChainRows, size_px: Size) -> list[Tensor]:
    shares, left = [], torch.ones(size_px, device=rows.levels[0].logits.device)
    for level in reversed(rows.levels[1:]):
        assert level.attention is not None, "only the highest scale goes without attention"
        attention = resized_rows(level.attention, [level.size_px, size_px], (0, size_px[0]))[0]
        shares.append(left * attention)
        left = left * (1 - attention)
    return [left, *reversed(shares)]
