"""Whether passes on a CPU stay within --max-memory: real peaks of resident memory against what was allowed.

Each row labels one image in a process of its own, with the weights of a seeded network. The budget is for a pass beside
the loaded model, so the peak is counted above the memory that the process holds before it.

    python benchmarks/memory_budget.py --output benchmarks/results/memory_budget.md
    python benchmarks/memory_budget.py --only hrnet_tiny_ocr
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from results_page import markdown, page, publish
from seeded_teacher import drawn_image
from teacher_speed import held_bytes, peak_bytes

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.rule import Rule

CPU = torch.device("cpu")
GRID = np.array([0.9], np.float32)
# (network, scales, flip, precision, (height, width), budgets in GB; None is the default)
CASES = [
    ("hrnet_tiny_ocr", (0.5, 1.0, 2.0), True, "fp32", (512, 1024), (None, 0.2, 0.15, 0.1, 0.05)),
    ("hrnet_tiny_ocr", (1.0,), False, "fp32", (2048, 4096), (None, 0.3, 0.1)),
    ("hrnet_s_ocr", (0.5, 1.0, 2.0), False, "fp32", (768, 1536), (None, 1.0, 0.5, 0.3)),
    ("hrnet_s_ocr", (0.5, 1.0), False, "bf16", (1024, 2048), (None, 0.5, 0.2)),
    ("deeplabv3plus_r50", (0.5, 1.0), False, "fp32", (768, 1024), (None, 1.0, 0.6)),
    ("hrnet_w48_ocr", (0.5, 1.0), False, "fp32", (1024, 1024), (None, 0.5)),
    ("hrnet_w48_ocr", (0.5, 1.0, 2.0), True, "bf16", (512, 640), (None, 0.25)),
]


def write_weights(name: str, folder: str) -> str:
    """A file of weights of the network, seeded."""
    file = Path(folder) / f"{name}.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        info = {"model": name, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        file.write_bytes(encode_checkpoint(build_labeler(name, 19), info))
    return str(file)


def measure(case: dict) -> dict:
    """Labels one image in this process; its peak above what was held before."""
    config = TeacherConfig(
        weights=case["weights"],
        options={"scales": tuple(case["scales"]), "flip": case["flip"]},
        precision=case["precision"],
        device="cpu",
        max_memory_gb=case["budget_gb"],
    )
    teacher = Teacher(config)
    image = drawn_image(*case["size_px"]).numpy()
    teacher.label([image[:64, :64]], GRID, Rule(0.9), True)  # what the first pass sets up is no part of the second
    held, started = held_bytes(CPU), time.process_time()
    try:
        tiles = teacher.label([image], GRID, Rule(0.9), True)[0].tiles or "whole"
    except ValueError as error:
        tiles = f"refused: {error}"
    return {"tiles": tiles, "peak": peak_bytes(CPU) - held, "cpu_s": time.process_time() - started}


def rows(only: str | None) -> list[list[str]]:
    """The table of all cases."""
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for name, scales, flip, precision, size_px, budgets in CASES:
            for budget_gb in budgets if only in (None, name) else ():
                case = {"scales": scales, "flip": flip, "precision": precision, "size_px": size_px}
                case |= {"weights": write_weights(name, folder), "budget_gb": budget_gb}
                command = [sys.executable, __file__, "--measure", json.dumps(case)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
                table.append(_row(name, case, found, done.stderr))
                print(" | ".join(table[-1]), file=sys.stderr, flush=True)
    return table


def _row(name: str, case: dict, found: dict | None, errors: str) -> list[str]:
    scales = ", ".join(f"{scale:g}" for scale in case["scales"]) + (" and mirror image" if case["flip"] else "")
    budget = case["budget_gb"]
    start = [
        name,
        scales,
        case["precision"],
        "x".join(map(str, case["size_px"])),
        "default" if budget is None else f"{budget:g}",
    ]
    if found is None:
        return [*start, f"failed: {errors.splitlines()[-1][:80]}", "", "", ""]
    peak = found["peak"] / 1e9
    share = "" if budget is None else f"{peak / budget:.2f}"
    return [*start, found["tiles"], f"{peak:.3f}", share, f"{found['cpu_s']:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="one network")
    parser.add_argument("--output", help="write the page there")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        torch.set_num_threads(1)
        print(json.dumps(measure(json.loads(arguments.measure))))
        return
    columns = ["network", "scales", "precision", "image", "allowed GB", "cut", "peak GB", "of allowed", "CPU s"]
    table = markdown(columns, rows(arguments.only))
    publish(page("Peaks of passes on a CPU against the memory allowed", tempfile.gettempdir(), table), arguments.output)


if __name__ == "__main__":
    main()
