"""HRNetV2 trunk (arXiv 1908.07919): parallel branches at strides 4 to 32 that exchange features after every module.

Module names follow the published checkpoints (`layer1`, `stage2.0.branches.1.3.conv2`, ...).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.blocks import conv_bn, conv_bn_relu, resize
from hmsa_label.labelers.trunks.bottleneck import Bottleneck


@dataclass(frozen=True, kw_only=True)
class HRNetConfig:
    """Numbers that make one HRNet.

    Attributes:
        widths: channels of the four branches, at strides 4, 8, 16, 32.
        num_modules: exchange modules of stages 2, 3 and 4.
        num_blocks: basic blocks of each branch of each module.
        stem_width: channels of the two stride-2 stem convolutions.
        stage1_width, stage1_blocks: bottleneck planes (output is four times as wide) and count of stage 1.
    """

    widths: tuple[int, int, int, int]
    num_modules: tuple[int, int, int] = (1, 4, 3)
    num_blocks: int = 4
    stem_width: int = 64
    stage1_width: int = 64
    stage1_blocks: int = 4


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity shortcut; [N, C, H, W] in and out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x
        return self.relu(y)


def _fuse_path(widths: Sequence[int], target: int, source: int) -> nn.Module:
    """The path from branch `source` to branch `target` inside a module (before any upsampling)."""
    if source == target:
        return nn.Identity()
    if source > target:
        return conv_bn(widths[source], widths[target], 1)
    steps: list[nn.Module] = [
        conv_bn_relu(widths[source], widths[source], 3, stride=2) for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, conv_bn(widths[source], widths[target], 3, stride=2))


class ExchangeModule(nn.Module):
    """Blocks on every branch, then each branch becomes the ReLU of the sum over all branches brought to its size."""

    def __init__(self, widths: Sequence[int], num_blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(num_blocks))) for width in widths
        )
        indices = range(len(widths))
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_fuse_path(widths, i, j) for j in indices) for i in indices)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features = [branch(x) for branch, x in zip(self.branches, features, strict=True)]
        return [
            self._fuse(cast(nn.ModuleList, paths), features, target) for target, paths in enumerate(self.fuse_layers)
        ]

    def _fuse(self, paths: Iterable[nn.Module], features: list[Tensor], target: int) -> Tensor:
        size_px = features[target].shape[-2:]
        moved = (resize(path(x), size_px) for path, x in zip(paths, features, strict=True))
        total = next(moved) + next(moved)  # a new tensor: the first term may be a feature that others still need
        for term in moved:
            total += term
        return self.relu(total)


class HRNet(nn.Module):
    """Trunk: [N, 3, H, W] float -> [N, out_channels, ceil(H / 4), ceil(W / 4)], the four branches concatenated.

    Attributes:
        widths: channels of the branches.
        out_channels: their sum (720 for W48).
        output_stride: 4.
    """

    output_stride = 4

    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        widths, stem, stage1 = config.widths, config.stem_width, 4 * config.stage1_width
        self.widths = widths
        self.out_channels = sum(widths)
        self.conv1 = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        blocks = [Bottleneck(stem if i == 0 else stage1, config.stage1_width) for i in range(config.stage1_blocks)]
        self.layer1 = nn.Sequential(*blocks)
        self.transition1 = self._transition((stage1,), widths[:2])
        self.stage2 = self._stage(config, 0)
        self.transition2 = self._transition(widths[:2], widths[:3])
        self.stage3 = self._stage(config, 1)
        self.transition3 = self._transition(widths[:3], widths)
        self.stage4 = self._stage(config, 2)

    @staticmethod
    def _stage(config: HRNetConfig, index: int) -> nn.Sequential:
        widths = config.widths[: index + 2]
        return nn.Sequential(*(ExchangeModule(widths, config.num_blocks) for _ in range(config.num_modules[index])))

    @staticmethod
    def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
        kept = [
            nn.Identity() if old == new else conv_bn_relu(old, new, 3) for old, new in zip(before, after, strict=False)
        ]
        new_branch = nn.Sequential(conv_bn_relu(before[-1], after[-1], 3, stride=2))
        return nn.ModuleList([*kept, new_branch])

    @staticmethod
    def _enter(transition: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
        """Features of the next stage; its new branch grows out of the last branch of this one."""
        inputs = [*features, features[-1]]
        return [layer(x) for layer, x in zip(transition, inputs, strict=True)]

    def branches(self, x: Tensor) -> list[Tensor]:
        """The four branches [N, widths[i], ...] at strides 4, 8, 16 and 32, before they are brought to one size."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        features = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            features = stage(self._enter(transition, features))
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = self.branches(x)
        size_px = features[0].shape[-2:]
        return torch.cat([resize(feature, size_px) for feature in features], dim=1)


def init_trunk(trunk: nn.Module) -> None:
    """Start values for training without an ImageNet checkpoint: He normal (fan out) convolutions, unit batch norms.

    The published code draws N(0, 0.001) and then always overwrites it by ImageNet weights; from such small
    values a trunk does not train, so scratch training departs from it here.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
