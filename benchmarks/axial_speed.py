"""Axial attention of the product against the equation as it is written and against convolution, on one CPU thread.

`layer` is the pair of height and width attention, `block` the residual block around it. `equation` computes the layer
as it stands in the paper: 24 channels of logits, gathered rows of the tables, norms on their own, NCHW. `bottleneck` is
1x1, 3x3, 1x1 with the same channels in, inside and out, norms folded, channels last: as torch runs it, and with the 1x1
convolutions by oneDNN as the product runs its own (`torch` and `oneDNN`). Every round runs each form once, one after
the other; figures are medians of CPU seconds over the rounds, so that a change of the machine's load meets all alike.

    python benchmarks/axial_speed.py --output benchmarks/results/axial_speed.md
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from results_page import markdown, page, publish
from torch import Tensor, nn

from hmsa_label.labelers.inference.axial_attention import AttentionKernel, FoldedAttention
from hmsa_label.labelers.inference.folding import fold
from hmsa_label.labelers.inference.image_conv import pointwise_by_onednn
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.labelers.layers.axial_attention import AttentionSettings
from hmsa_label.labelers.layers.blocks import conv_bn, conv_bn_relu
from hmsa_label.labelers.trunks.axial_block import AxialBlock
from tests.labelers.plain_axial import plain

SPANS = (65, None)


class ConvBlock(nn.Module):
    """A bottleneck of the channels of an axial block: twice the width outside, the width inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn_relu(2 * width, width, 1), conv_bn_relu(width, width, 3), conv_bn(width, 2 * width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.convs(x) + x).relu_()


def axial_block(width: int, span: int | None) -> AxialBlock:
    """A block without a projected shortcut, with statistics of norms that keep logits near unit size."""
    torch.manual_seed(0)
    block = AxialBlock(2 * width, width, AttentionSettings(span=span))
    for layer in (block.height, block.width):
        layer.bn_similarity.running_var.fill_(width / 16)
    return block.eval()


def in_plain_form(block: AxialBlock) -> AxialBlock:
    """The block with both layers as the equation is written."""
    for name in ("height", "width"):
        setattr(block, name, plain(getattr(block, name)))
    return block


def in_fast_form(block: AxialBlock, kernel: AttentionKernel | None = None) -> AxialBlock:
    """The block as a labeler runs it."""
    for name in ("height", "width"):
        setattr(block, name, FoldedAttention(getattr(block, name), kernel))
    folded = fold(block).to(memory_format=torch.channels_last)
    pointwise_by_onednn(folded)
    return folded


def bottleneck(width: int, onednn: bool) -> nn.Module:
    """The convolutional block, folded."""
    folded = fold(ConvBlock(width).eval()).to(memory_format=torch.channels_last)
    if onednn:
        pointwise_by_onednn(folded)
    return folded


def interleaved(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each form."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for index in range(rounds + 1):
        for name, work in forms.items():
            started = time.process_time()
            work()
            if index:  # the first round warms up
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


@torch.inference_mode()
def forward_row(width: int, size_px: tuple[int, int], span: int | None, rounds: int) -> list[str]:
    """Cells of one width, size and span."""
    ours, equation = in_fast_form(axial_block(width, span)), in_plain_form(axial_block(width, span))
    convs, convs_onednn = bottleneck(width, False), bottleneck(width, True)
    nchw, inside = torch.randn(1, 2 * width, *size_px), torch.randn(1, width, *size_px)
    nhwc, inside_nhwc = (x.contiguous(memory_format=torch.channels_last) for x in (nchw, inside))
    difference = float((ours.attend(inside_nhwc) - equation.attend(inside)).abs().max())
    assert difference < 1e-4, f"the forms differ by {difference}"
    found = interleaved(
        {
            "ours": lambda: ours(nhwc),
            "equation": lambda: equation(nchw),
            "torch": lambda: convs(nhwc),
            "onednn": lambda: convs_onednn(nhwc),
            "our pair": lambda: ours.attend(inside_nhwc),
            "pair": lambda: equation.attend(inside),
        },
        rounds,
    )
    block, pair = found["ours"], found["our pair"]
    ratios = [found["pair"] / pair, found["equation"] / block, block / found["torch"], block / found["onednn"]]
    cells = [f"{1000 * found[name]:.0f}" for name in ("our pair", "pair", "ours", "equation", "torch", "onednn")]
    return [_case(width, size_px, span), *cells, *(f"{ratio:.2f}" for ratio in ratios)]


def _case(width: int, size_px: tuple[int, int], span: int | None) -> str:
    return f"{width}, {size_px[0]}x{size_px[1]}, {span or 'whole line'}"


def step_row(width: int, size_px: tuple[int, int], span: int | None, rounds: int) -> list[str]:
    """Cells of a forward and backward pass in training."""
    ours, equation = axial_block(width, span).train(), in_plain_form(axial_block(width, span)).train()
    convs = ConvBlock(width).train().to(memory_format=torch.channels_last)
    nchw = torch.randn(1, 2 * width, *size_px, requires_grad=True)
    nhwc = nchw.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    forms = {
        "ours": lambda: ours(nhwc).sum().backward(),
        "equation": lambda: equation(nchw).sum().backward(),
        "convs": lambda: convs(nhwc).sum().backward(),
    }
    found, peaks = interleaved(forms, rounds), []
    for name in ("ours", "equation"):
        with LiveBytes() as live:
            forms[name]()
        peaks.append(f"{live.peak / 2**20:.0f}")
    ratios = [found["equation"] / found["ours"], found["ours"] / found["convs"]]
    seconds = [f"{1000 * found[name]:.0f}" for name in forms]
    return [_case(width, size_px, span), *seconds, *(f"{ratio:.2f}" for ratio in ratios), *peaks]


@torch.inference_mode()
def memory_rows(width: int, sizes: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Most bytes of tensors alive in the pair of layers, beside its input, at span 65."""
    ours, equation = in_fast_form(axial_block(width, 65)), in_plain_form(axial_block(width, 65)).to("meta")
    rows = []
    for height, columns in sizes:
        peaks = []
        x = torch.randn(1, width, height, columns)
        # the equation at the larger sizes is counted by its shapes: it does not fit
        for block, image in ((ours, x.contiguous(memory_format=torch.channels_last)), (equation, x.to("meta"))):
            with LiveBytes() as live:
                block.attend(image)
            peaks.append(live.peak)
        each = [f"{peak / (height * columns):,.0f}" for peak in peaks]
        rows.append([f"{height}x{columns}", *(f"{peak / 2**20:,.1f}" for peak in peaks), *each])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024], help="of stages 4 and 5 of S and L")
    parser.add_argument("--sizes", nargs="+", default=["64x128", "128x256"], help="of the maps, height x width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="write the tables there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [tuple(int(part) for part in size.split("x")) for size in arguments.sizes]
    cases = [(width, size, span) for width in arguments.widths for size in sizes for span in SPANS]
    forward = [forward_row(*case, arguments.rounds) for case in cases]
    steps = [step_row(*case, arguments.rounds) for case in cases if case[1] == sizes[0] and case[0] < 1024]
    grown = [(sizes[0][0] << shift, sizes[0][1] << shift) for shift in range(4)]
    memory = memory_rows(arguments.widths[0], grown)
    columns = ["width, map, span", "our pair ms", "equation ms", "our block ms", "equation ms", "torch ms", "oneDNN ms"]
    columns += ["pair: times faster", "block: times faster", "of torch's bottleneck", "of oneDNN's"]
    step_columns = ["width, map, span", "our step ms", "equation ms", "bottleneck ms"]
    step_columns += ["times faster", "of the bottleneck", "our peak MiB", "equation MiB"]
    memory_columns = ["map", "our peak MiB", "equation MiB", "our bytes/pixel", "equation bytes/pixel"]
    text = page(
        "Speed and memory of axial attention",
        ".",
        f"One CPU thread, float32, torch {torch.__version__}, one image.\n\n" + str(__doc__).split("\n\n")[1],
        "## Inference\n\n" + markdown(columns, forward),
        "## A step of training (forward and backward of the block)\n\n" + markdown(step_columns, steps),
        f"## Peak of the pair's tensors in inference, width {arguments.widths[0]}, span 65\n\n"
        + markdown(memory_columns, memory),
    )
    publish(text, arguments.output)


if __name__ == "__main__":
    main()
