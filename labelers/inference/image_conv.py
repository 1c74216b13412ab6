"""Convolutions that give each image of a batch what it gets alone, bit by bit, on a CPU.

torch chooses who computes a convolution (oneDNN, or its own im2col and a matrix product) by the shape of the whole
input. In float32 one image of at most 20,480 values goes the second way and two such images the first, and the two sum
in another order. Each way by itself treats the images of a batch one like the other.
"""

import torch
from torch import Tensor, nn


class ImageConv2d(nn.Conv2d):
    """Convolution of [N, C, H, W] by the implementation that torch chooses for one image."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, O, h, w]; equal to that of every image alone."""
        if len(x) == 1 or self._implementation(x) == self._implementation(x[:1]):
            return super().forward(x)
        return torch.cat([super(ImageConv2d, self).forward(image) for image in x.split(1)])

    def _implementation(self, x: Tensor) -> object:
        # Asked, not rebuilt here: the rule differs by torch's version, the number of threads, kernel and stride.
        return torch._C._select_conv_backend(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        )


def as_alone(net: nn.Module) -> None:
    """Makes every plain convolution of `net` an `ImageConv2d`; the weights stay where they are."""
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = ImageConv2d
