"""Images/s of a run over the images/s of its teacher alone, on threads and on Ray, small images and real sizes.

The bare teacher is measured in this process before and after each run, on decoded images, one after the other; a run of
two workers is held against twice that. The teacher of 200 ms sleeps for most of them, as a process does that waits for
its GPU. Labels and evidence of the real size take about as many bytes as those of a real teacher (store_pixels.md). The
last column says how busy all cores were during the run, with everything that runs on them: near 100 %, the machine is
what limits.

    python benchmarks/engine_efficiency.py --output benchmarks/results/engine_efficiency.md
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from engine_parts import Driver, draw_images, load
from results_page import markdown, page, publish

from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake

SIZES = ((64, 128), (1024, 2048))
THRESHOLD = 0.9
BARE_SECONDS = 3.0


def bare_rate(folder: Path, ms: float) -> float:
    """Images/s of the teacher alone."""
    teacher = Teacher(fake(ms=ms))
    images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(folder.glob("all/*.png"))[:4]]
    grid = np.asarray(grid_with(THRESHOLD), np.float32)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < BARE_SECONDS:
        teacher.label([images[count % len(images)]], grid, Rule(THRESHOLD), True)
        count += 1
    return count / (time.monotonic() - began)


def run_rate(folder: Path, ms: float, executor: str, workers: int) -> tuple[float, float]:
    """Images/s of a run, from its first label to its last, and how busy the machine was, 0..1."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as store:
        engine = {"executor": executor, "workers": workers}
        before = cpu_times()
        driver = Driver({"data": str(folder), "store": f"{store}/labels", "ms": ms, "engine": engine})
        try:
            driver.finish()
        finally:
            driver.process.kill()
            driver.process.wait()
        labeled = driver.seen("ImageLabeled")
        rate = (len(labeled) - 1) / (labeled[-1]["at"] - labeled[0]["at"])
        used, total = (after - then for after, then in zip(cpu_times(), before, strict=True))
        return rate, used / total


def cpu_times() -> tuple[int, int]:
    """Ticks since boot that the machine worked, and all of them."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # but for idle, and waiting for a disk


def measure(folder: str | None, images: int, ms: float, sizes: tuple[tuple[int, int], ...]) -> str:
    """The result page."""
    busy, rows = load(), []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for size in sizes:
            place = Path(name) / f"{size[0]}x{size[1]}"
            draw_images(place, 2 * images, size, block_px=size[0] // 2)
            for workers in (1, 2):
                for spare in sorted(place.glob("all/*.png"))[workers * images :]:
                    spare.rename(place / spare.name)
                for executor in ("local", "ray"):
                    rows.append(row(place, ms, executor, workers))
                for spare in sorted(place.glob("*.png")):
                    spare.rename(place / "all" / spare.name)
        columns = ["size, executor, workers", "teacher alone, images/s", "run, images/s", "ratio", "cores busy"]
        about = f"{images} images per worker, fake teacher of {ms:g} ms. {busy}, {os.getloadavg()[0]:.1f} at the end."
        return page("A run against its bare teacher", name, about, markdown(columns, rows))


def row(place: Path, ms: float, executor: str, workers: int) -> list[str]:
    """One line of the table."""
    bare = bare_rate(place, ms)
    rate, busy = run_rate(place, ms, executor, workers)
    bare = workers * (bare + bare_rate(place, ms)) / 2
    return [f"{place.name}, {executor}, {workers}", f"{bare:.2f}", f"{rate:.2f}", f"{rate / bare:.3f}", f"{busy:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60, help="per worker")
    parser.add_argument("--ms", type=float, default=200, help="time that the teacher takes for an image")
    parser.add_argument("--small", action="store_true", help="leave out the real size")
    parser.add_argument("--folder", help="where images and stores are put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    sizes = SIZES[:1] if arguments.small else SIZES
    publish(measure(arguments.folder, arguments.images, arguments.ms, sizes), arguments.output)


if __name__ == "__main__":
    main()
