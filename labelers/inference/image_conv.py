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


class PointwiseConv2d(nn.Conv2d):
    """Convolution 1x1 of [N, C, H, W] by oneDNN, image by image.

    On one thread torch takes a matrix product of MKL instead, which takes twice as long on an AMD processor
    (benchmarks/axial_speed.py).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, O, h, w]; equal to that of every image alone."""
        if len(x) == 1:
            return self._of_image(x)
        return torch.cat([self._of_image(image) for image in x.split(1)])

    def _of_image(self, image: Tensor) -> Tensor:
        result: Tensor = torch.mkldnn_convolution(
            image, self.weight, self.bias, (0, 0), self.stride, self.dilation, self.groups
        )
        return result


def pointwise_by_onednn(net: nn.Module) -> None:
    """Makes every plain 1x1 convolution of `net` in float32 a `PointwiseConv2d`, where torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in net.modules():
        is_plain = type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.groups == 1
        if is_plain and module.weight.dtype == torch.float32:
            module.__class__ = PointwiseConv2d


def as_alone(net: nn.Module) -> None:
    """Makes every plain convolution of `net` an `ImageConv2d`; the weights stay where they are."""
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = ImageConv2d
