"""Seconds and peak memory of the teacher against the reference order of operations, on one CPU thread or one GPU.

Each variant labels the same image in a process of its own, in turn, so that neither memory nor a change of the
machine's load is counted for the wrong one. Without --weights the published architecture gets seeded weights that
spread activations and logits as training does. Seconds are CPU seconds on a CPU, wall seconds on a GPU.

    python benchmarks/teacher_speed.py --size 256x512 --size 512x1024 --output benchmarks/results/teacher_speed.json
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from naive_teacher import label as naive_label
from seeded_teacher import drawn_image, seeded_network

from hmsa_label.labelers import SegmentationNet
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.weights.networks import read_network
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.teacher.devices import describe_device, dtype_of, return_freed_memory
from hmsa_label.pipeline.teacher.threshold import evidence_of

SCALES = (0.5, 1.0, 2.0)
THRESHOLD = 0.9
VARIANTS = ("naive", "fp32", "bf16")


def network(weights: str | None) -> SegmentationNet:
    """The teacher of a file, or the published architecture with seeded weights."""
    return read_network(Path(weights).read_bytes(), weights)[0].eval() if weights else seeded_network("hrnet_w48_ocr")


def peak_bytes(device: torch.device) -> int:
    """Largest memory since `held_bytes` was called: allocated on the GPU, resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def held_bytes(device: torch.device) -> int:
    """Memory held now; from here on a new peak is counted."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading freed would otherwise hide what labeling takes
    Path("/proc/self/clear_refs").write_text("5")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fast_label(net: InferenceNet, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(top1, label) [H, W] uint8 by the path that the product takes."""
    grid = np.array([THRESHOLD], np.float32)
    parts = [evidence_of(logits[None], grid) for _, _, logits in net.logit_blocks(image, SCALES, "hierarchical", True)]
    top1 = torch.cat([part[0][0] for part in parts])
    kept = torch.cat([part[1][0] for part in parts]) > 0
    return top1, torch.where(kept, top1, 255)


@torch.inference_mode()
def measure(variant: str, image_file: str, weights: str | None, device_name: str, output: str) -> None:
    """Labels one image in this process; writes labels as .npz and prints the figures as JSON."""
    torch.set_num_threads(1)
    return_freed_memory()  # as the teacher does; for the baseline too, so that only the path makes the difference
    device = torch.device(device_name)
    image = torch.from_numpy(np.load(image_file)).to(device)
    net = network(weights)
    if variant == "naive":
        naive = net.to(device)
        run = lambda: naive_label(naive, image, SCALES, THRESHOLD)  # noqa: E731
    else:
        fast = InferenceNet(net, device, dtype_of(variant))
        del net
        run = lambda: fast_label(fast, image)  # noqa: E731
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        run()
        torch.cuda.synchronize()
    held = held_bytes(device)
    wall, cpu = time.perf_counter(), time.process_time()
    top1, label = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.savez(output, top1=top1.cpu().numpy(), label=label.cpu().numpy())
    peak = peak_bytes(device)
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_bytes": peak - held, "model_bytes": held}))


def in_own_process(variant: str, image: str, arguments: argparse.Namespace, output: str) -> dict[str, float]:
    """Figures of one variant on one image."""
    command = [sys.executable, __file__, "--measure", variant, "--image", image, "--device", arguments.device]
    command += ["--labels", output, *(["--weights", arguments.weights] if arguments.weights else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(name: str, image: np.ndarray, arguments: argparse.Namespace) -> dict[str, object]:
    """Every variant on one image: figures of the fastest repeat, and how its labels differ from the baseline's."""
    clock = "wall_s" if arguments.device != "cpu" else "cpu_s"
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/image.npy"
        np.save(file, image)
        runs = {variant: [] for variant in arguments.variants}
        for _ in range(arguments.repeats):
            for variant in arguments.variants:
                runs[variant].append(in_own_process(variant, file, arguments, f"{folder}/{variant}.npz"))
        best = {variant: min(figures, key=lambda entry: entry[clock]) for variant, figures in runs.items()}
        baseline = np.load(f"{folder}/naive.npz")
        for variant, figures in best.items():
            labels = np.load(f"{folder}/{variant}.npz")
            figures["times_faster"] = best["naive"][clock] / figures[clock]
            figures["peak_share"] = figures["peak_bytes"] / best["naive"]["peak_bytes"]
            figures["same_top1"] = float((labels["top1"] == baseline["top1"]).mean())
            figures["changed_labels"] = float((labels["label"] != baseline["label"]).mean())
            figures["kept_share"] = float((labels["label"] != 255).mean())
    result = {"image": name, "size_px": list(image.shape[:2]), **best}
    print(table([result]), file=sys.stderr)
    return result


def table(results: list[dict]) -> str:
    """The figures as Markdown."""
    lines = ["| image | size | variant | seconds | faster | peak MiB | of naive | same top-1 | changed at 0.9 |"]
    lines.append("| --- " * 9 + "|")
    for result in results:
        for variant in VARIANTS:
            if variant in result:
                row = result[variant]
                lines.append(
                    f"| {result['image']} | {'x'.join(map(str, result['size_px']))} | {variant} | {row['cpu_s']:.1f} "
                    f"| {row['times_faster']:.2f}x | {row['peak_bytes'] / 2**20:.0f} | {row['peak_share']:.2f} "
                    f"| {row['same_top1']:.5%} | {row['changed_labels']:.3%} |"
                )
    return "\n".join(lines)


def images(arguments: argparse.Namespace) -> list[tuple[str, np.ndarray]]:
    """(name, [H, W, 3] uint8) of what is to be labeled."""
    found = [(Path(file).stem, decode_image(Path(file).read_bytes())) for file in arguments.picture]
    for size in arguments.size:
        height, width = (int(part) for part in size.split("x"))
        found.append(("drawn", drawn_image(height, width).numpy()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", default=[], help="height x width of a drawn image, such as 256x512")
    parser.add_argument("--picture", action="append", default=[], help="an image file to label")
    parser.add_argument("--weights", help="a checkpoint; default: seeded weights of the published architecture")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--output", help="write the figures there as JSON")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--image", help=argparse.SUPPRESS)
    parser.add_argument("--labels", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.image, arguments.weights, arguments.device, arguments.labels)
        return
    results = [compare(name, image, arguments) for name, image in images(arguments)]
    document = {
        "device": describe_device(torch.device(arguments.device)),
        "torch": torch.__version__,
        "weights": Path(arguments.weights).name if arguments.weights else None,
        "scales": SCALES,
        "flip": True,
        "results": results,
    }
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(document, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
