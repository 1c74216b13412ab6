"""ResNet-50 trunk with dilation instead of its last two strides (arXiv 1512.03385; dilation as in arXiv 1802.02611).

Module names follow the published checkpoints (`layer0.0`, `layer3.5.conv2`, ...).
"""

from typing import NamedTuple

from torch import Tensor, nn

from hmsa_label.labelers.trunks.bottleneck import Bottleneck


class TwoLevels(NamedTuple):
    """Features of a trunk whose head looks at two levels.

    Attributes:
        fine: [N, fine_channels, h, w] at stride 4.
        deep: [N, out_channels, h / 2, w / 2] at stride 8.
    """

    fine: Tensor
    deep: Tensor


class ResNet50(nn.Module):
    """Trunk: [N, 3, H, W] float -> `TwoLevels` at strides 4 and 8.

    Attributes:
        fine_channels, out_channels: 256 and 2048.
        output_stride: 8, of the deep features.
    """

    fine_channels = 256
    out_channels = 2048
    output_stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.layer0 = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.layer1 = _blocks(64, 64, 3)
        self.layer2 = _blocks(256, 128, 4, stride=2)
        self.layer3 = _blocks(512, 256, 6, dilation=2)
        self.layer4 = _blocks(1024, 512, 3, dilation=4)

    def forward(self, x: Tensor) -> TwoLevels:
        fine = self.layer1(self.layer0(x))
        return TwoLevels(fine, self.layer4(self.layer3(self.layer2(fine))))


def _blocks(in_channels: int, width: int, count: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(in_channels, width, stride=stride, dilation=dilation)
    rest = (Bottleneck(4 * width, width, dilation=dilation) for _ in range(count - 1))
    return nn.Sequential(first, *rest)
