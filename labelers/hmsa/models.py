"""Networks by name. A variant is a row of numbers, not a subclass."""

from dataclasses import dataclass, replace

from torch import nn

from hmsa_label.labelers.heads.deeplabv3plus import DeepLabV3PlusHead
from hmsa_label.labelers.heads.explicit_attention import ExplicitAttentionHead
from hmsa_label.labelers.heads.ocr import OCRHead
from hmsa_label.labelers.heads.scale_attention import ScaleAttentionHead
from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.trunks.hrnet import HRNet, HRNetConfig, init_trunk
from hmsa_label.labelers.trunks.resnet import ResNet50

EXPLICIT_SCALES = (0.5, 1.0, 2.0)  # of the paper's ablation, table 1


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """Numbers of an attention head; `scales` makes it an explicit one over these scales.

    `norm` is for explicit heads: two normalized 3x3 convolutions, else a bare one.
    """

    channels: int
    scales: tuple[float, ...] | None = None
    norm: bool = True

    def build(self, in_channels: int) -> nn.Module:
        if self.scales is None:
            return ScaleAttentionHead(in_channels, self.channels)
        return ExplicitAttentionHead(in_channels, self.scales, self.channels, self.norm)


@dataclass(frozen=True, kw_only=True)
class _HRNetOCR:
    """Numbers of one HRNet-OCR: trunk, OCR mid and key channels, attention head."""

    trunk: HRNetConfig
    mid_channels: int
    key_channels: int
    attention: _Attention

    def build(self, num_classes: int) -> tuple[HRNet, OCRHead]:
        trunk = HRNet(self.trunk)
        return trunk, OCRHead(trunk.out_channels, num_classes, self.mid_channels, self.key_channels)


@dataclass(frozen=True, kw_only=True)
class _DeepLabR50:
    """DeepLabV3+ on ResNet-50 at output stride 8, the network of the paper's ablation."""

    attention: _Attention

    def build(self, num_classes: int) -> tuple[ResNet50, DeepLabV3PlusHead]:
        trunk = ResNet50()
        return trunk, DeepLabV3PlusHead(trunk.fine_channels, trunk.out_channels, num_classes)


_SMALL = _HRNetOCR(
    trunk=HRNetConfig(
        widths=(16, 32, 64, 128), num_modules=(1, 2, 1), num_blocks=2, stem_width=32, stage1_width=32, stage1_blocks=1
    ),
    mid_channels=64,
    key_channels=32,
    attention=_Attention(channels=32),
)
_TINY = _HRNetOCR(
    trunk=HRNetConfig(
        widths=(8, 16, 16, 32), num_modules=(1, 1, 1), num_blocks=1, stem_width=8, stage1_width=8, stage1_blocks=1
    ),
    mid_channels=32,
    key_channels=16,
    attention=_Attention(channels=16),
)


def _published_ocr(*widths: int) -> _HRNetOCR:
    trunk = HRNetConfig(widths=(widths[0], widths[1], widths[2], widths[3]))
    return _HRNetOCR(trunk=trunk, mid_channels=512, key_channels=256, attention=_Attention(channels=256))


MODELS: dict[str, _HRNetOCR | _DeepLabR50] = {
    "hrnet_w48_ocr": _published_ocr(48, 96, 192, 384),
    "hrnet_w18_ocr": _published_ocr(18, 36, 72, 144),
    "hrnet_s_ocr": _SMALL,
    "hrnet_s_ocr_explicit": replace(_SMALL, attention=_Attention(channels=32, scales=EXPLICIT_SCALES)),
    "hrnet_tiny_ocr": _TINY,
    "hrnet_tiny_ocr_explicit": replace(_TINY, attention=_Attention(channels=16, scales=EXPLICIT_SCALES)),
    "deeplabv3plus_r50": _DeepLabR50(attention=_Attention(channels=256)),
    "deeplabv3plus_r50_explicit": _DeepLabR50(attention=_Attention(channels=256, scales=EXPLICIT_SCALES)),
    "deeplabv3plus_r50_explicit_plain": _DeepLabR50(
        attention=_Attention(channels=512, scales=EXPLICIT_SCALES, norm=False)
    ),
}


def build_labeler(name: str, num_classes: int, *, multi_scale: bool = True) -> SegmentationNet:
    """A network with fresh weights, in training mode.

    Args:
        name: a key of `MODELS`; `hrnet_w48_ocr` is the published teacher (72.1 M parameters), `hrnet_s_ocr` trains on a
            CPU, `hrnet_tiny_ocr` is for tests; `..._explicit` has explicit instead of hierarchical attention.
        num_classes: K, the channels of the logits.
        multi_scale: with the attention head.

    Raises:
        ValueError: unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}")
    numbers = MODELS[name]
    trunk, head = numbers.build(num_classes)
    init_trunk(trunk)
    attention = numbers.attention.build(head.out_channels) if multi_scale else None
    return SegmentationNet(trunk, head, attention)
