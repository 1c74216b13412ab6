"""Axial-DeepLab networks by name. A variant is a row of numbers, not a subclass."""

from dataclasses import dataclass, replace

from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab, TrunkClassifier
from hmsa_label.labelers.heads.panoptic_deeplab import INSTANCE, SEMANTIC, DecoderWidths, PanopticDeepLabHead
from hmsa_label.labelers.layers.axial_attention import AttentionSettings
from hmsa_label.labelers.trunks.axial_resnet import CONVOLUTIONAL, AxialResNet, AxialResNetConfig


@dataclass(frozen=True, kw_only=True)
class AxialDeepLabNumbers:
    """Numbers of one network: its trunk, and the widths of its two decoders."""

    trunk: AxialResNetConfig
    semantic: DecoderWidths = SEMANTIC
    instance: DecoderWidths = INSTANCE


# Small enough for a CPU; of the same shape with attention from stride 16 on, and without any.
_SMALL = AxialDeepLabNumbers(
    trunk=AxialResNetConfig(width=32, blocks=(2, 3, 4, 2), axial_from=16),
    semantic=DecoderWidths(first=128, fused=128, middle=32, fine=16, head=64),
    instance=DecoderWidths(first=128, fused=64, middle=16, fine=8, head=32),
)
_TINY = AxialDeepLabNumbers(
    trunk=AxialResNetConfig(width=16, blocks=(1, 1, 2, 1), attention=AttentionSettings(span=17, table_len=33)),
    semantic=DecoderWidths(first=32, fused=32, middle=16, fine=8, head=16),
    instance=DecoderWidths(first=16, fused=16, middle=8, fine=8, head=8),
)


def _published(width: int, axial_from: int = 4) -> AxialDeepLabNumbers:
    """A network of the paper; its multiply-adds fit a stem of three convolutions that follows the width."""
    return AxialDeepLabNumbers(trunk=AxialResNetConfig(width=width, stem="three_convs", axial_from=axial_from))


def _without_attention(numbers: AxialDeepLabNumbers) -> AxialDeepLabNumbers:
    return replace(numbers, trunk=replace(numbers.trunk, axial_from=CONVOLUTIONAL))


MODELS: dict[str, AxialDeepLabNumbers] = {
    "axial_deeplab_s": _published(64),
    "axial_deeplab_m": _published(96),
    "axial_deeplab_l": _published(128),
    "axial_deeplab_xl": _published(256),
    "axial_deeplab_26s": AxialDeepLabNumbers(trunk=AxialResNetConfig(width=64, blocks=(1, 2, 4, 1), striding="pool")),
    "axial_deeplab_hybrid_l": _published(128, axial_from=16),
    "axial_deeplab_hybrid_s": _SMALL,
    "axial_deeplab_tiny": _TINY,
    "panoptic_deeplab_r50": _without_attention(_published(128)),
    "panoptic_deeplab_s": _without_attention(_SMALL),
    "panoptic_deeplab_tiny": _without_attention(_TINY),
}

# Trunks with a layer for image classes, by the network that they are the trunk of.
CLASSIFIERS = {
    name.replace("axial_deeplab", "axial_resnet").replace("panoptic_deeplab", "conv_resnet"): name for name in MODELS
}


def numbers_of(name: str) -> AxialDeepLabNumbers:
    """The numbers of a network.

    Raises:
        ValueError: unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}")
    return MODELS[name]


def build_axial_deeplab(name: str, num_classes: int) -> AxialDeepLab:
    """A network with fresh weights, in training mode.

    Args:
        name: a key of `MODELS`. `axial_deeplab_s`, `_m`, `_l` and `_xl` are the paper's; `_26s` has the trunk of the
            released ImageNet weights; the hybrids attend from stride 16 on, `_hybrid_s` trains on a CPU;
            `panoptic_deeplab_...` are convolutional, `_r50` on ResNet-50; `..._tiny` are for tests.
        num_classes: K, channels of the semantic logits.

    Raises:
        ValueError: unknown name.
    """
    numbers = numbers_of(name)
    trunk = AxialResNet(numbers.trunk)
    return AxialDeepLab(trunk, PanopticDeepLabHead(trunk.channels, num_classes, numbers.semantic, numbers.instance))


def build_classifier(name: str, num_classes: int) -> TrunkClassifier:
    """The trunk of a network at output stride 32, with a layer for K image classes; fresh weights, in training mode.

    The tensors of the trunk are those of the network at output stride 16.

    Args:
        name: a key of `CLASSIFIERS`, such as axial_resnet_s, the trunk of axial_deeplab_s.
        num_classes: K.

    Raises:
        ValueError: unknown name.
    """
    if name not in CLASSIFIERS:
        raise ValueError(f"unknown trunk {name!r}; known are {', '.join(sorted(CLASSIFIERS))}")
    trunk = AxialResNet(replace(MODELS[CLASSIFIERS[name]].trunk, output_stride=32))
    return TrunkClassifier(trunk, num_classes)
