"""DeepLabV3+ head (arXiv 1802.02611) with the numbers of the HMSA paper's ablation."""

import torch
from torch import Tensor, nn

from hmsa_label.labelers.heads.ocr import HeadOutput
from hmsa_label.labelers.layers.blocks import conv_bn_relu, resize
from hmsa_label.labelers.trunks.resnet import TwoLevels

ASPP_RATES_PX = (12, 24, 36)  # dilation at output stride 8


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: [N, C, h, w] -> [N, out_channels, h, w], the pooled image first."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.out_channels = width * (len(ASPP_RATES_PX) + 2)
        dilated = (_dilated_conv(in_channels, width, rate) for rate in ASPP_RATES_PX)
        self.branches = nn.ModuleList([conv_bn_relu(in_channels, width, 1), *dilated])
        self.image_pool = conv_bn_relu(in_channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.image_pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[-2:])
        return torch.cat([pooled, *(branch(x) for branch in self.branches)], dim=1)


def _dilated_conv(in_channels: int, out_channels: int, rate: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class DeepLabV3PlusHead(nn.Module):
    """Head over a trunk's two levels; it has no auxiliary logits.

    Attributes:
        out_channels: channels of the features that attention looks at (304).
    """

    def __init__(self, fine_channels: int, deep_channels: int, num_classes: int, width: int = 256) -> None:
        super().__init__()
        fine_width = 48
        self.out_channels = fine_width + width
        self.aspp = AtrousPyramid(deep_channels, width)
        self.reduce_fine = nn.Conv2d(fine_channels, fine_width, 1, bias=False)
        self.reduce_aspp = nn.Conv2d(self.aspp.out_channels, width, 1, bias=False)
        self.layers = nn.Sequential(
            conv_bn_relu(self.out_channels, width, 3),
            conv_bn_relu(width, width, 3),
            nn.Conv2d(width, num_classes, 1, bias=False),
        )

    def forward(self, x: TwoLevels) -> HeadOutput:
        """Head output at stride 4 for the levels of a trunk."""
        deep = resize(self.reduce_aspp(self.aspp(x.deep)), x.fine.shape[-2:])
        features = torch.cat([self.reduce_fine(x.fine), deep], dim=1)
        return HeadOutput(self.layers(features), None, features)
