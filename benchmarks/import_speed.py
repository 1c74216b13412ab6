"""What importing one image costs: class map and confidence as PNG files of 8 bits, at full size.

python benchmarks/import_speed.py --output benchmarks/results/import_speed.md
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from results_page import markdown, page, publish

from hmsa_label import DataConfig, EngineConfig, ImportConfig, LabelConfig, import_labels
from hmsa_label.labelers.taxonomy import CITYSCAPES

SIZE = (1024, 2048)
DRAWN = 4  # different images; the others are links to them


def draw(root: Path, images: int) -> dict[str, int]:
    """Images, class maps and confidences below `data` and `labels`; mean bytes of each kind of file."""
    sizes: dict[str, list[int]] = {"image": [], "class map": [], "confidence": []}
    for number in range(images):
        files = _files(root, number)
        for kind, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if number >= DRAWN:
                path.symlink_to(_files(root, number % DRAWN)[kind])
        if number < DRAWN:
            for (kind, path), pixels in zip(files.items(), _street(number), strict=True):
                Image.fromarray(pixels).save(path)
                sizes[kind].append(path.stat().st_size)
    return {kind: round(sum(found) / len(found)) for kind, found in sizes.items()}


def _files(root: Path, number: int) -> dict[str, Path]:
    name = f"town_{number:06}_000000_leftImg8bit"
    labels = root / "labels/train_extra/town"
    image = root / f"data/leftImg8bit/train_extra/town/{name}.png"
    return {"image": image, "class map": labels / f"{name}.png", "confidence": labels / f"{name}_prob.png"}


def _street(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth regions with a fine texture; confidence falls towards their borders."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 30)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    classes = np.minimum(smooth * 19, 18).astype(np.uint8)
    inner = cv2.morphologyEx(classes, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
    distance = cv2.distanceTransform(inner.astype(np.uint8), cv2.DIST_L2, 3)
    unsure = cv2.GaussianBlur(rng.normal(0, 5, SIZE).astype(np.float32), (0, 0), 4) * (distance < 12)
    prob = np.clip(255 * (0.5 + 0.5 * np.tanh(distance / 12)) + unsure, 0, 255).astype(np.uint8)
    image = np.clip(smooth[..., None] * 200 + rng.normal(0, 2, (*SIZE, 3)), 0, 255).astype(np.uint8)
    return image, CITYSCAPES.raw_id_of[classes], prob


def measure(root: Path, images: int, workers: int) -> tuple[float, float]:
    """(seconds of CPU, wall seconds) of one image."""
    config = LabelConfig(
        data=DataConfig(root=str(root / "data")),
        teacher=ImportConfig(labels=str(root / "labels"), format="nvidia"),
        store=str(root / f"store{workers}"),
        engine=EngineConfig(executor="local", workers=workers, threads=2),
    )
    cpu, wall = time.process_time(), time.perf_counter()
    summary = import_labels(config)
    assert summary.images_labelled == images
    return (time.process_time() - cpu) / images, (time.perf_counter() - wall) / images


def result(images: int) -> str:
    """The result page."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = draw(Path(folder), images)
        for workers in (1, 2):
            cpu, wall = measure(Path(folder), images, workers)
            rows.append([str(workers), f"{1000 * cpu:.0f}", f"{1 / cpu:.1f}", f"{1 / wall:.1f}"])
    files = ", ".join(f"{kind} {size / 1000:.0f} kB" for kind, size in sizes.items())
    about = (
        f"{images} images of {SIZE[0]} x {SIZE[1]} px; PNG files, mean: {files}. Threshold 0.9, evidence kept; the "
        "digest of all files is part of the time."
    )
    columns = ["workers", "CPU ms per image", "images/s per core", "images/s"]
    return page("What importing an image costs", ".", about, markdown(columns, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    publish(result(arguments.images), arguments.output)


if __name__ == "__main__":
    main()
