"""Images/s of `run` by --batch-size on a CPU, and whether the labels are the same bits.

Each row labels the same drawn images with a seeded network at the scales 0.5, 1 and 2, with one teacher: once by each
batch size, in turns, so that a change of the machine's load meets all of them. With one thread the time is that of the
processor, from the first image to the last, reading and writing included: what else runs on the machine then counts
little. With more it is wall time. `labels` compares the digests of the versions, and where they differ tells the share
of pixels that are equal.

    python benchmarks/batch_throughput.py --output benchmarks/results/batch_throughput.md
    python benchmarks/batch_throughput.py --only "bf16, 128x256"
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from results_page import markdown, page, publish
from seeded_teacher import drawn_image, seeded_network

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig
from hmsa_label.pipeline.engine.events import ImageLabeled, RunStarted
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.versions.label_store import LabelStore

BATCH_SIZES = (1, 4, 8)
PRECISIONS = ("fp32", "bf16")
IN_FLIGHT = 16  # for every batch size, so that only the batches differ


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: `turns` runs with each batch size over `images` images of `size_px` (height, width)."""

    network: str
    precision: str
    size_px: tuple[int, int]
    threads: int
    images: int
    turns: int

    @property
    def name(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.network}, {self.precision}, {self.size_px[0]}x{self.size_px[1]}, {threads}"


def _cases() -> list[Case]:
    sizes = (((64, 128), 32, 2), ((128, 256), 24, 2), ((256, 512), 16, 2), ((512, 1024), 8, 1))
    small = [
        Case(network="hrnet_s_ocr", precision=precision, size_px=size_px, threads=1, images=images, turns=turns)
        for size_px, images, turns in sizes
        for precision in PRECISIONS
    ]
    both_cores = [
        Case(network="hrnet_s_ocr", precision=precision, size_px=(128, 256), threads=2, images=24, turns=2)
        for precision in PRECISIONS
    ]
    large = [
        Case(network="hrnet_w48_ocr", precision=precision, size_px=size_px, threads=1, images=images, turns=1)
        for size_px, images in (((128, 256), 12), ((256, 512), 8))
        for precision in PRECISIONS
    ]
    return [*small, *large, *both_cores]


class Clock:
    """Seconds between the start of the work and the last image, of the processor or of the wall."""

    def __init__(self, threads: int) -> None:
        self._now = time.process_time if threads == 1 else time.monotonic
        self._began = self._ended = 0.0

    def __call__(self, event: object) -> None:
        if isinstance(event, RunStarted):
            self._began = self._now()
        if isinstance(event, ImageLabeled):
            self._ended = self._now()

    @property
    def seconds(self) -> float:
        return self._ended - self._began


def draw(folder: Path, case: Case) -> None:
    """Images of the case, each the same drawing moved by another 16 px."""
    (folder / "all").mkdir(parents=True)
    image = drawn_image(*case.size_px).numpy()
    for number in range(case.images):
        Image.fromarray(np.roll(image, 16 * number, 1)).save(folder / "all" / f"{number:03}.png")


def write_weights(network: str, folder: Path) -> Path:
    """A file of seeded weights of the network."""
    file = folder / f"{network}.safetensors"
    if not file.exists():
        info = {"model": network, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        file.write_bytes(encode_checkpoint(seeded_network(network), info))
    return file


def one_run(case: Case, weights: Path, images: Path, store: Path, batch_size: int) -> float:
    """Seconds per image of a run; its labels lie in `store`."""
    clock = Clock(case.threads)
    engine = EngineConfig(
        executor="local", workers=1, threads=IN_FLIGHT, batch_size=batch_size, cpus_per_worker=case.threads
    )
    summary = label_images(
        LabelConfig(
            data=DataConfig(root=str(images), dataset="folder", split="all"),
            teacher=TeacherConfig(weights=str(weights), precision=case.precision, device="cpu"),
            store=str(store),
            engine=engine,
        ),
        clock,
    )
    assert summary.images_labelled == case.images, summary.failed
    return clock.seconds / case.images


def equality(first: Path, other: Path) -> str:
    """`same bits`, or the share of pixels whose label is equal."""
    before, after = LabelStore.open(str(first)), LabelStore.open(str(other))
    if before.digest == after.digest:
        return "same bits"
    return f"{np.mean([(before.read(key) == after.read(key)).mean() for key in before]):.5%} equal"


def row(case: Case, folder: Path) -> list[str]:
    """Images/s with each batch size, those of larger batches over that of 1, and whether the labels are the same."""
    weights, images = write_weights(case.network, folder), folder / "images"
    stores = {size: folder / f"labels {size}" for size in BATCH_SIZES}
    draw(images, case)
    seconds: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for turn in range(case.turns):
        for size, store in stores.items():
            seconds[size].append(one_run(case, weights, images, store.with_name(f"{store.name} {turn}"), size))
    best = {size: min(several) for size, several in seconds.items()}
    one, *others = (store.with_name(f"{store.name} 0") for store in stores.values())
    labels = {equality(one, other) for other in others}
    rates = [f"{1 / best[size]:.2f}" for size in BATCH_SIZES]
    return [case.name, *rates, *(f"{best[1] / best[size]:.2f}" for size in BATCH_SIZES[1:]), ", ".join(sorted(labels))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--output", help="write the page there")
    arguments = parser.parse_args()
    began, rows = time.monotonic(), []
    for case in _cases():
        if arguments.only in case.name:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(row(case, Path(folder)))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    sizes = [str(size) for size in BATCH_SIZES]
    columns = ["network, precision, image", *(f"{size}, images/s" for size in sizes)]
    columns += [*(f"{size} over 1" for size in sizes[1:]), "labels"]
    about = (
        f"torch {torch.__version__}; {time.monotonic() - began:.0f} s in all; load of the machine at the end "
        f"{os.getloadavg()[0]:.1f}. Images/s of one thread are per second of its processor. "
        "Images of 512x1024 go one by one in float32 whatever the batch size: what that row shows is noise."
    )
    title = "Throughput of `run` by --batch-size on a CPU"
    publish(page(title, tempfile.gettempdir(), about, markdown(columns, rows)), arguments.output)


if __name__ == "__main__":
    main()
