"""Building blocks that every trunk and head shares."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageDropout2d(nn.Dropout2d):
    """Dropout of whole channels, drawn for each image of a batch from a generator of its own where one is set.

    What is dropped then depends on the image alone, not on the batch, the pass or the process that it is in, nor on the
    device.
    """

    generators: Sequence[torch.Generator] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W], in training with N generators set or none."""
        if not self.training or self.generators is None:
            return super().forward(x)
        draws = torch.stack([torch.rand(x.shape[1], generator=own) for own in self.generators])
        kept = (draws >= self.p).to(x.device, x.dtype) / (1 - self.p)
        return x * kept[:, :, None, None]


class ImageDropPath(ImageDropout2d):
    """Leaves out all channels of an image at once (stochastic depth, arXiv 1603.09382), drawn as its base does."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same, in training zero for some images and 1 / (1 - p) as large for the others."""
        if not self.training or self.p == 0:
            return x
        return x * super().forward(x.new_ones(len(x), 1, 1, 1))


@contextmanager
def dropout_drawn_by_image(net: nn.Module, seeds: Iterable[int]) -> Iterator[None]:
    """Inside, a network in training drops channels of the i-th image of its batch by the i-th seed, pass after pass."""
    layers = [layer for layer in net.modules() if isinstance(layer, ImageDropout2d)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    for layer in layers:
        layer.generators = generators
    try:
        yield
    finally:
        for layer in layers:
            layer.generators = None


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


def resize(x: Tensor, size_px: tuple[int, int] | torch.Size, *, align_corners: bool = False) -> Tensor:
    """Bilinear resize of [N, C, H, W] to (height, width) without antialiasing.

    The ratio is that of the two sizes, never a nominal factor. A tensor of the asked size is returned as it is.

    Args:
        align_corners: the centers of the corner pixels stay where they are; else the outer edges of the image do.
    """
    if tuple(x.shape[-2:]) == tuple(size_px):
        return x
    return F.interpolate(x, size=tuple(size_px), mode="bilinear", align_corners=align_corners)
