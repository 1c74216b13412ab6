"""Building blocks that every trunk and head shares."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias and batch norm; the output keeps H, W at stride 1."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out_channels)
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution, batch norm and ReLU; the output keeps H, W at stride 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def resize(x: Tensor, size_px: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear resize of [N, C, H, W] to (height, width), corners not aligned, no antialiasing.

    The ratio is that of the two sizes, never a nominal factor. A tensor of the asked size is returned as it is.
    """
    if tuple(x.shape[-2:]) == tuple(size_px):
        return x
    return F.interpolate(x, size=tuple(size_px), mode="bilinear", align_corners=False)
