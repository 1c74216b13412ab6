"""Dual decoders and heads of Panoptic-DeepLab (arXiv 1911.10194, section 3) as Axial-DeepLab uses them.

One 1x1 convolution stands where Panoptic-DeepLab has its atrous pyramid (arXiv 2003.07853). Everything here is at
stride 4; `upsample` brings it to the size of the image. Axes of an offset are (dy, dx).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import conv_bn_relu, resize


@dataclass(frozen=True, kw_only=True)
class DecoderWidths:
    """Channels of one decoder and of its heads.

    Attributes:
        first: of the 1x1 convolution on the features at stride 16; fused: after each fusion.
        middle: what the features at stride 8 are reduced to; fine: those at stride 4.
        head: between the two convolutions of a head.
    """

    first: int
    fused: int
    middle: int
    fine: int
    head: int


SEMANTIC = DecoderWidths(first=256, fused=256, middle=64, fine=32, head=256)
INSTANCE = DecoderWidths(first=256, fused=128, middle=32, fine=16, head=32)


class PanopticMaps(NamedTuple):
    """What the heads say of a batch of images, all of one size.

    Attributes:
        logits: [N, K, h, w] of the semantic classes.
        center: [N, 1, h, w] heat map of the centers of instances; linear, near 0..1.
        offset: [N, 2, h, w] (dy, dx) from a pixel to the center of its instance, in pixels of these maps.
    """

    logits: Tensor
    center: Tensor
    offset: Tensor


class PanopticDeepLabHead(nn.Module):
    """Semantic logits, center heat map and offsets from the features of a trunk at strides 4, 8 and 16."""

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        semantic: DecoderWidths = SEMANTIC,
        instance: DecoderWidths = INSTANCE,
    ) -> None:
        """With `channels` of the features at strides 4, 8 and 16; the defaults of the widths are the published ones."""
        super().__init__()
        self.semantic_decoder = _Decoder(channels, semantic)
        self.semantic_head = _head(semantic, num_classes)
        self.instance_decoder = _Decoder(channels, instance)
        self.center_head = _head(instance, 1)
        self.offset_head = _head(instance, 2)

    def forward(self, features: Sequence[Tensor]) -> PanopticMaps:
        """Maps at stride 4.

        Args:
            features: [N, C, h, w] at strides 4, 8 and 16, in this order; their sizes need not be multiples.
        """
        instance = self.instance_decoder(features)
        return PanopticMaps(
            self.semantic_head(self.semantic_decoder(features)), self.center_head(instance), self.offset_head(instance)
        )


class _Decoder(nn.Module):
    """[N, fused, h, w] at stride 4: coarse features brought to the finer sizes one after the other."""

    def __init__(self, channels: Sequence[int], widths: DecoderWidths) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.first = conv_bn_relu(coarse, widths.first, 1)
        self.reduce_middle = conv_bn_relu(middle, widths.middle, 1)
        self.reduce_fine = conv_bn_relu(fine, widths.fine, 1)
        self.fuse_middle = separable_conv(widths.first + widths.middle, widths.fused)
        self.fuse_fine = separable_conv(widths.fused + widths.fine, widths.fused)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        fine, middle, coarse = features
        x = _joined(self.first(coarse), self.reduce_middle(middle))
        x = _joined(self.fuse_middle(x), self.reduce_fine(fine))
        return self.fuse_fine(x)


def _joined(coarse: Tensor, fine: Tensor) -> Tensor:
    return torch.cat([resize(coarse, fine.shape[-2:], align_corners=True), fine], dim=1)


def separable_conv(in_channels: int, out_channels: int, kernel: int = 5) -> nn.Sequential:
    """Depthwise and pointwise convolution, each with batch norm and ReLU; the output keeps H, W."""
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False)
    return nn.Sequential(
        nn.Sequential(depthwise, nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)),
        conv_bn_relu(in_channels, out_channels, 1),
    )


def _head(widths: DecoderWidths, out_channels: int) -> nn.Sequential:
    return nn.Sequential(separable_conv(widths.fused, widths.head), nn.Conv2d(widths.head, out_channels, 1))


def upsample(maps: PanopticMaps, size_px: tuple[int, int] | torch.Size) -> PanopticMaps:
    """The maps at (height, width), bilinear with aligned corners; offsets are then in pixels of that size."""
    logits, center, offset = (resize(values, size_px, align_corners=True) for values in maps)
    return PanopticMaps(logits, center, offset * offset_factors(maps.offset, size_px))


def offset_factors(offset: Tensor, size_px: tuple[int, int] | torch.Size) -> Tensor:
    """[2, 1, 1] by which dy and dx of [N, 2, h, w] grow with the map: the ratios of the distances between corners."""
    ratios = [(new - 1) / max(1, old - 1) for old, new in zip(offset.shape[-2:], size_px, strict=True)]
    return offset.new_tensor(ratios).view(2, 1, 1)
