"""Networks that label images: torch only, no paths, no Ray, no Zarr.

`build_labeler(name, num_classes)` makes a network; `MODELS` lists the names. A variant is a row of numbers.
"""

from dataclasses import dataclass

from hmsa_label.labelers.heads.ocr import OCRHead
from hmsa_label.labelers.heads.scale_attention import ScaleAttentionHead
from hmsa_label.labelers.hmsa import SegmentationNet
from hmsa_label.labelers.trunks.hrnet import HRNet, HRNetConfig, init_trunk

__all__ = ["MODELS", "SegmentationNet", "build_labeler"]


@dataclass(frozen=True, kw_only=True)
class _HRNetOCR:
    """Numbers of one HRNet-OCR: trunk, OCR mid and key channels, channels inside the attention head."""

    trunk: HRNetConfig
    mid_channels: int
    key_channels: int
    attention_channels: int


MODELS: dict[str, _HRNetOCR] = {
    "hrnet_w48_ocr": _HRNetOCR(
        trunk=HRNetConfig(widths=(48, 96, 192, 384)), mid_channels=512, key_channels=256, attention_channels=256
    ),
    "hrnet_w18_ocr": _HRNetOCR(
        trunk=HRNetConfig(widths=(18, 36, 72, 144)), mid_channels=512, key_channels=256, attention_channels=256
    ),
    "hrnet_s_ocr": _HRNetOCR(
        trunk=HRNetConfig(
            widths=(16, 32, 64, 128),
            num_modules=(1, 2, 1),
            num_blocks=2,
            stem_width=32,
            stage1_width=32,
            stage1_blocks=1,
        ),
        mid_channels=64,
        key_channels=32,
        attention_channels=32,
    ),
    "hrnet_tiny_ocr": _HRNetOCR(
        trunk=HRNetConfig(
            widths=(8, 16, 16, 32), num_modules=(1, 1, 1), num_blocks=1, stem_width=8, stage1_width=8, stage1_blocks=1
        ),
        mid_channels=32,
        key_channels=16,
        attention_channels=16,
    ),
}


def build_labeler(name: str, num_classes: int, *, multi_scale: bool = True) -> SegmentationNet:
    """A network with fresh weights, in training mode.

    Args:
        name: a key of `MODELS`; `hrnet_w48_ocr` is the published teacher (72.1 M parameters), `hrnet_s_ocr` trains on a
            CPU, `hrnet_tiny_ocr` is for tests.
        num_classes: K, the channels of the logits.
        multi_scale: with the scale-attention head.

    Raises:
        ValueError: unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}")
    numbers = MODELS[name]
    trunk = HRNet(numbers.trunk)
    init_trunk(trunk)
    head = OCRHead(trunk.out_channels, num_classes, numbers.mid_channels, numbers.key_channels)
    attention = ScaleAttentionHead(head.out_channels, numbers.attention_channels) if multi_scale else None
    return SegmentationNet(trunk, head, attention)
