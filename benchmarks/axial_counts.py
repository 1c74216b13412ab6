"""Parameters and multiply-adds of Axial-DeepLab and Axial-ResNet against the tables of arXiv 2003.07853.

Nothing is computed: networks are built on the meta device. Counted are convolutions and linear layers (one multiply-add
per weight and output pixel, the stem included) and, for an axial layer of width W on P pixels with n keys in a span,
P n d for each product over the depth d of a head (q.k, q.r^q, k.r^k, w.v, w.r^v: 3.5 W P n in all with 8 heads) and
one per logit and term for its norm (24 P n). A span counts as n keys at the borders, too, and n is the line's length
where that is shorter. Other norms, additions, ReLU, pooling and resizing count nothing.

    python benchmarks/axial_counts.py --output benchmarks/results/axial_counts.md
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from results_page import markdown, publish
from torch import Tensor, nn

from hmsa_label.labelers.axial_deeplab.models import MODELS, build_axial_deeplab, build_classifier
from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab, TrunkClassifier
from hmsa_label.labelers.heads.panoptic_deeplab import PanopticDeepLabHead
from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention
from hmsa_label.labelers.trunks.axial_resnet import AxialResNet, AxialResNetConfig

SIZES = {"Cityscapes": ((1025, 2049), 19), "COCO": ((1025, 1025), 133), "Vistas": ((2177, 2177), 65)}
# M parameters, then B multiply-adds by data set (tables 6 and the COCO and Vistas tables)
NETWORKS = {
    "axial_deeplab_s": (12.1, {"Cityscapes": 220.8, "COCO": 110.4}),
    "axial_deeplab_m": (25.9, {"Cityscapes": 419.6, "COCO": 209.9}),
    "axial_deeplab_l": (44.9, {"Cityscapes": 687.4, "COCO": 343.9, "Vistas": 1550.0}),
    "axial_deeplab_xl": (173.0, {"Cityscapes": 2446.8}),
    "panoptic_deeplab_r50": (24.8, {"Cityscapes": 374.8}),
}
SPANS = {5: 617.4, 9: 622.1, 17: 631.5, 33: 650.2, 65: 687.4}  # table 7
VARIANTS: dict[str, tuple[str, ...]] = {
    "all position terms": ("query", "key", "value"),
    "query and key terms only": ("query", "key"),
    "no position terms": (),
}


class CountedAttention(nn.Module):
    """Stands where an axial layer was: gives a map of its size and adds up what it would have computed."""

    def __init__(self, layer: AxialAttention, add: Callable[[float], None]) -> None:
        super().__init__()
        self.layer, self.add = layer, add

    def forward(self, x: Tensor) -> Tensor:
        layer, pixels = self.layer, x.shape[0] * x.shape[2] * x.shape[3]
        heads, positions = layer.settings.heads, layer.settings.positions
        length = x.shape[2] if layer.axis == "height" else x.shape[3]
        keys = min(length, layer.settings.span or length)
        terms = 1 + ("query" in positions) + ("key" in positions)
        depth = terms * layer.key_depth + (1 + ("value" in positions)) * layer.value_depth
        self.add(pixels * (x.shape[1] * 2 * layer.width + keys * heads * (depth + terms)))
        return x.new_empty(x.shape[0], layer.width, *x.shape[2:])


@dataclass
class Counts:
    """Parameters and multiply-adds of one network on one image."""

    parameters: int = 0
    multiply_adds: float = 0.0

    def add(self, number: float) -> None:
        self.multiply_adds += number

    def after_layer(self, layer: nn.Module, _: object, output: Tensor) -> None:
        self.add(output.numel() * layer.weight[0].numel())


def counts(build: Callable[[], nn.Module], size_px: tuple[int, int]) -> Counts:
    """What a network has and does for one image of a size."""
    found = Counts()
    with torch.device("meta"):
        net = build().eval()
        found.parameters = sum(parameter.numel() for parameter in net.parameters())
        for parent in list(net.modules()):
            for name, child in parent.named_children():
                if isinstance(child, AxialAttention):
                    setattr(parent, name, CountedAttention(child, found.add))
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(found.after_layer)
        net(torch.empty(1, 3, *size_px))
    return found


def dense(config: AxialResNetConfig, num_classes: int = 19) -> AxialDeepLab:
    """A whole network on a trunk of its own."""
    trunk = AxialResNet(config)
    return AxialDeepLab(trunk, PanopticDeepLabHead(trunk.channels, num_classes))


def compared(ours: float, paper: float | None, digits: int = 1) -> list[str]:
    """Cells of one figure: ours, the paper's, and by how much ours differs."""
    if paper is None:
        return [f"{ours:,.{digits}f}", "", ""]
    return [f"{ours:,.{digits}f}", f"{paper:,.{digits}f}", f"{100 * (ours / paper - 1):+.1f} %"]


def network_rows() -> list[list[str]]:
    """The whole networks at output stride 16 and span 65."""
    rows = []
    for name, (parameters, multiply_adds) in NETWORKS.items():
        for data, paper in multiply_adds.items():
            size_px, num_classes = SIZES[data]
            found = counts(lambda name=name, k=num_classes: build_axial_deeplab(name, k), size_px)
            cells = compared(found.multiply_adds / 1e9, paper)
            of_cityscapes = parameters if data == "Cityscapes" else None
            size = f"{size_px[0]}x{size_px[1]}"
            rows.append([name, data, size, *compared(found.parameters / 1e6, of_cityscapes), *cells])
    return rows


def span_rows() -> list[list[str]]:
    """L on Cityscapes with other spans."""
    trunk = MODELS["axial_deeplab_l"].trunk
    rows = []
    for span, paper in SPANS.items():
        config = replace(trunk, attention=replace(trunk.attention, span=span))
        found = counts(lambda config=config: dense(config), SIZES["Cityscapes"][0])
        rows.append([str(span), *compared(found.parameters / 1e6, 44.9), *compared(found.multiply_adds / 1e9, paper)])
    return rows


def variant_rows() -> list[list[str]]:
    """S on Cityscapes with fewer position terms; the paper's table has these for two-dimensional windows only."""
    trunk = MODELS["axial_deeplab_s"].trunk
    rows = []
    for words, positions in VARIANTS.items():
        config = replace(trunk, attention=replace(trunk.attention, positions=positions))
        found = counts(lambda config=config: dense(config), SIZES["Cityscapes"][0])
        rows.append([words, f"{found.parameters / 1e6:.1f}", f"{found.multiply_adds / 1e9:.1f}"])
    return rows


def classifier_rows() -> list[list[str]]:
    """Table 1 of the paper: classifiers of 224x224 pixels. Their figures fit a stride after both layers of a block."""
    whole, local = AttentionSettings(), AttentionSettings(span=15)
    numbers = AxialResNetConfig(width=64, output_stride=32, striding="pool", attention=whole)
    trunks = {
        "Axial-ResNet-S, conv stem, whole lines": (numbers, 12.4, 2.8),
        "Axial-ResNet-S, stand-alone, span 15": (replace(numbers, stem="axial", attention=local), 12.5, 3.3),
        "the first, strided by slicing": (replace(numbers, striding="slice"), 12.4, 2.8),
        "the second, strided by slicing": (
            replace(numbers, stem="axial", attention=local, striding="slice"), 12.5, 3.3,
        ),
        "ResNet-50": (replace(numbers, width=128, axial_from=64), 25.6, 4.1),
    }  # fmt: skip
    rows = []
    for words, (config, parameters, multiply_adds) in trunks.items():
        found = counts(lambda config=config: TrunkClassifier(AxialResNet(config), 1000), (224, 224))
        cells = compared(found.multiply_adds / 1e9, multiply_adds, 2)
        rows.append([words, *compared(found.parameters / 1e6, parameters), *cells])
    released = counts(lambda: build_classifier("axial_resnet_26s", 1000), (224, 224))
    # with tables of 509 rows; the released file has 27 to 111 of them
    rows.append(
        [
            "Axial-ResNet-26-S",
            *compared(released.parameters / 1e6, None),
            *compared(released.multiply_adds / 1e9, None, 2),
        ]
    )
    return rows


_REMARKS = (
    "The paper's classifiers fit blocks that halve their size after both layers of attention, its panoptic networks "
    "blocks that halve each axis after its own layer. Its ablation of the position terms is of two-dimensional "
    "windows, so there is nothing to compare the third table with. Whole networks have a stem of three convolutions "
    "that follows the width."
)
PARAMETERS = ("parameters, M", "paper", "")
MULTIPLY_ADDS = ("multiply-adds, B", "paper", "")


def section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"## {title}\n\n{markdown(columns, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="write the page there")
    arguments = parser.parse_args()
    rule = " ".join(str(__doc__).split("\n\n")[1].split())
    command = "`python benchmarks/axial_counts.py --output benchmarks/results/axial_counts.md`"
    parts = [
        "# Parameters and multiply-adds of Axial-DeepLab",
        f"{command}  \nCounts, not times: they are the same on every machine. {rule}",
        section("Whole networks", ("network", "data", "size, px", *PARAMETERS, *MULTIPLY_ADDS), network_rows()),
        section("Spans, `axial_deeplab_l` on Cityscapes", ("span, px", *PARAMETERS, *MULTIPLY_ADDS), span_rows()),
        section(
            "Position terms, `axial_deeplab_s` on Cityscapes",
            ("variant", "parameters, M", "multiply-adds, B"),
            variant_rows(),
        ),
        section("Classifiers, 224x224", ("network", *PARAMETERS, *MULTIPLY_ADDS), classifier_rows()),
        _REMARKS,
    ]
    publish("\n\n".join(parts) + "\n", arguments.output)


if __name__ == "__main__":
    main()
