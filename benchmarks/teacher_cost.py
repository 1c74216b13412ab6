"""What multi-scale training costs relative to training on one scale: FLOPs and peak memory.

On DeepLabV3+ with ResNet-50, the network of the paper's ablation (arXiv 2005.10821, section 3.1: 1.25x for hierarchical
and 5.25x for explicit attention over 0.5, 1, 2). FLOPs are torch's own count of a forward and backward pass, without
running it: of the passes through trunk and head at every scale, which is what the paper's factors count, and of the
whole step with its attention head. Memory is the growth of the process in a step that is run, gradients held before.

    python benchmarks/teacher_cost.py --output benchmarks/results/teacher_cost.json
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hmsa_label.labelers import SegmentationNet, build_labeler
from hmsa_label.labelers.hmsa.training.losses import single_scale_loss, two_scale_loss

NUM_CLASSES = 65  # Mapillary Vistas, as in the paper's ablation
KINDS = {"single": "deeplabv3plus_r50", "hierarchical": "deeplabv3plus_r50", "explicit": "deeplabv3plus_r50_explicit"}
SCALES = {"single": (1.0,), "hierarchical": (0.5, 1.0), "explicit": (0.5, 1.0, 2.0)}
PAPER = {"single": 1.0, "hierarchical": 1.25, "explicit": 5.25}


def network(kind: str) -> SegmentationNet:
    """The network of one kind of training; batch norms use running statistics, so that one image is a batch."""
    return build_labeler(KINDS[kind], NUM_CLASSES, multi_scale=kind != "single").eval()


def loss_of(net: SegmentationNet, kind: str, x: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of one training step."""
    if kind == "single":
        return single_scale_loss(net(x), labels, loss="ce")
    prediction = net.forward_explicit(x) if kind == "explicit" else net.forward_two_scales(x)
    return two_scale_loss(prediction, labels, loss="ce", side_weight=0)


def flops(kind: str, size_px: int) -> int:
    """FLOPs of a training step, forward and backward, for a square crop."""
    with torch.device("meta"):
        net = network(kind)
        x = torch.empty(1, 3, size_px, size_px)
        logits_like = torch.empty(1, NUM_CLASSES, size_px, size_px)
    counter = FlopCounterMode(display=False)
    with counter:
        if kind == "single":
            logits = net(x).logits
        else:
            prediction = net.forward_explicit(x) if kind == "explicit" else net.forward_two_scales(x)
            logits = prediction.logits
        logits.backward(logits_like)
    return counter.get_total_flops()


def measure_memory(kind: str, size_px: int) -> int:
    """Bytes by which this process grows in a training step; to be called in a fresh process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = network(kind)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    x, labels = torch.randn(1, 3, size_px, size_px), torch.randint(0, NUM_CLASSES, (1, size_px, size_px))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    loss_of(net, kind, x, labels).backward()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _memory(kind: str, size_px: int) -> int:
    command = [sys.executable, __file__, "--measure", kind, "--size", str(size_px)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def table(rows: list[dict]) -> str:
    """The figures as Markdown."""
    lines = [
        "| training | paper | FLOPs of the passes | with the attention head | peak memory | MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['kind']} | {row['paper']:.2f}x | {row['flops_passes']:.3f}x | {row['flops_all']:.3f}x "
        f"| {row['memory']:.2f}x | {row['memory_bytes'] / 2**20:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="side of the square crop in px")
    parser.add_argument("--output", help="write the figures there as JSON")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure_memory(arguments.measure, arguments.size))
        return
    whole = {kind: flops(kind, arguments.size) for kind in KINDS}
    passes = {
        kind: sum(flops("single", int(arguments.size * scale)) for scale in scales) for kind, scales in SCALES.items()
    }
    memory = {kind: _memory(kind, arguments.size) for kind in KINDS}
    base = whole["single"]
    rows = [
        {
            "kind": kind,
            "paper": PAPER[kind],
            "flops": whole[kind],
            "flops_passes": passes[kind] / base,
            "flops_all": whole[kind] / base,
            "memory_bytes": memory[kind],
            "memory": memory[kind] / memory["single"],
        }
        for kind in KINDS
    ]
    if arguments.output:
        document = {"crop_px": arguments.size, "num_classes": NUM_CLASSES, "torch": torch.__version__, "rows": rows}
        Path(arguments.output).write_text(json.dumps(document, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
