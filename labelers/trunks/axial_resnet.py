"""Axial-ResNet (arXiv 2003.07853, section 3.3): a residual network whose 3x3 convolutions are axial attention.

The same class makes the hybrid, with attention from stride 16 on, and the plain convolutional network of the same
channels, which is ResNet-50 at a width of 128. Stages keep the names of the published classifiers (`layer1.0`, ...).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from torch import Tensor, nn

from hmsa_label.labelers.layers.axial_attention import AttentionSettings
from hmsa_label.labelers.layers.blocks import conv_bn_relu
from hmsa_label.labelers.trunks.axial_block import AxialBlock, Striding
from hmsa_label.labelers.trunks.bottleneck import Bottleneck

CONVOLUTIONAL = 64  # a value of `axial_from` that no stage reaches
_STAGES = (4, 8, 16, 32)  # strides of the four stages
_ATTENTION = AttentionSettings(span=65)


@dataclass(frozen=True, kw_only=True)
class AxialResNetConfig:
    """Numbers that make one trunk.

    Attributes:
        width: channels inside a block of the first stage, a multiple of 16; each stage doubles them, and a block gives
            twice as many. 64, 96, 128 and 256 are the paper's S, M, L and XL.
        blocks: of the four stages.
        stem: `conv`, a 7x7 convolution of half the width; `three_convs`, of half, half and the whole; `axial`, three
            axial blocks. The first layer has stride 2 and a maximum over 3x3 pixels follows, with stride 2.
        axial_from: stride of the first stage with attention: 4 for all, 16 for the hybrid, `CONVOLUTIONAL` for none.
            The block of a hybrid that brings its maps to this stride is convolutional, too.
        output_stride: 16, or 32 for classification.
        attention: heads, span and position terms of every layer.
        striding: how a block of attention halves its size; see `AxialBlock`.
    """

    width: int
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    stem: Literal["conv", "three_convs", "axial"] = "conv"
    axial_from: int = 4
    output_stride: Literal[16, 32] = 16
    attention: AttentionSettings = _ATTENTION
    striding: Striding = "slice"

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels that the four stages give."""
        return (2 * self.width, 4 * self.width, 8 * self.width, 16 * self.width)

    def is_axial(self, stage: int, index: int) -> bool:
        """Whether a block of a stage, 0 to 3, attends; the same at both output strides."""
        enters = index == 0 and _STAGES[stage] == self.axial_from > _STAGES[0]
        return _STAGES[stage] >= self.axial_from and not enters


class Levels(NamedTuple):
    """Features of a trunk whose head looks at three levels.

    Attributes:
        res2: [N, C, H / 4, W / 4], sizes rounded up.
        res3: at stride 8.
        res5: at the output stride.
    """

    res2: Tensor
    res3: Tensor
    res5: Tensor


class AxialResNet(nn.Module):
    """Trunk: [N, 3, H, W] float -> `Levels`, for any H and W.

    Attributes:
        channels: of the three levels.
        output_stride: of the last one.
    """

    def __init__(self, config: AxialResNetConfig) -> None:
        super().__init__()
        self.config, self.output_stride = config, config.output_stride
        self.channels = (config.channels[0], config.channels[1], config.channels[3])
        self.stem, stem_channels = _stem(config)
        sizes = pairwise((stem_channels, *config.channels))
        stages = [nn.Sequential(*_blocks(config, stage, before)) for stage, (before, _) in enumerate(sizes)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        _init(self)

    def leave_out(self, share: float) -> None:
        """Lets training leave out blocks of attention, image by image: the last by this probability, others less often.

        The probability grows with the number of the block, convolutional ones counted (arXiv 1603.09382, section 3).
        """
        blocks = [*self.layer1, *self.layer2, *self.layer3, *self.layer4]
        for index, block in enumerate(blocks):
            if isinstance(block, AxialBlock):
                block.drop_path.p = share * index / max(1, len(blocks) - 1)

    def forward(self, x: Tensor) -> Levels:
        res2 = self.layer1(self.stem(x))
        res3 = self.layer2(res2)
        return Levels(res2, res3, self.layer4(self.layer3(res3)))


def _stem(config: AxialResNetConfig) -> tuple[nn.Sequential, int]:
    """The layers up to stride 4, and their channels."""
    half, pool = config.width // 2, nn.MaxPool2d(3, stride=2, padding=1)
    if config.stem == "conv":
        return nn.Sequential(*conv_bn_relu(3, half, 7, stride=2), pool), half
    if config.stem == "three_convs":
        layers = (conv_bn_relu(3, half, 3, stride=2), conv_bn_relu(half, half, 3), conv_bn_relu(half, 2 * half, 3))
        return nn.Sequential(*layers, pool), 2 * half
    blocks = [
        AxialBlock(3 if i == 0 else 2 * half, half, config.attention, stride=2 - min(i, 1), striding=config.striding)
        for i in range(3)
    ]
    return nn.Sequential(*blocks, pool), 2 * half


def _blocks(config: AxialResNetConfig, stage: int, in_channels: int) -> Iterator[nn.Module]:
    width = config.width << stage
    strided = stage > 0 and _STAGES[stage] <= config.output_stride
    for index in range(config.blocks[stage]):
        before, stride = (in_channels, 2 if strided else 1) if index == 0 else (2 * width, 1)
        if config.is_axial(stage, index):
            yield AxialBlock(before, width, config.attention, stride=stride, striding=config.striding)
        else:
            yield Bottleneck(before, width // 2, stride=stride)


def _init(trunk: AxialResNet) -> None:
    """He normal (fan out) convolutions, and every block starts as its shortcut.

    For the projections of attention, which double their channels, that is the spread 1 / sqrt(channels) that they have.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, AxialBlock):
            nn.init.zeros_(module.bn2.weight)
        elif isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
