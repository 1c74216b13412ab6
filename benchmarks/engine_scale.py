"""Ten thousand small images: does anything grow, what does the driver cost, is the ETA right?

python benchmarks/engine_scale.py --images 10000 --output benchmarks/results/engine_scale.md
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from engine_parts import Driver, draw_images, load
from results_page import markdown, page, publish

SIZE = (64, 128)
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The processes of a run at one moment.

    Attributes:
        done: images finished. own_mb, resident_mb: per process, anonymous memory and all of it, 10**6 bytes.
        cpu_seconds: of the driver since it began.
    """

    done: int
    at: float
    own_mb: dict[str, float]
    resident_mb: dict[str, float]
    cpu_seconds: float


def memory_mb(pid: int) -> tuple[float, float]:
    """Anonymous and resident memory of a process, 10**6 bytes."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    own, resident = (int(lines[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "VmRSS"))
    return own, resident


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def sample(driver: Driver, done: int) -> Sample:
    """Looks at the driver and its workers."""
    names = {"driver": driver.process.pid}
    names |= {f"worker {event['worker']}": event["info"]["pid"] for event in driver.seen("WorkerStarted")}
    memory = {name: memory_mb(pid) for name, pid in names.items()}
    return Sample(
        done=done,
        at=time.time(),
        own_mb={name: own for name, (own, _) in memory.items()},
        resident_mb={name: resident for name, (_, resident) in memory.items()},
        cpu_seconds=cpu_seconds(driver.process.pid),
    )


def watch(driver: Driver, images: int) -> list[Sample]:
    """A sample at every hundredth of the run, the last one before the run ends."""
    samples: list[Sample] = []
    for percent in range(1, 101):
        goal = min(percent * images // 100, images - 1)
        driver.wait_for(lambda goal=goal: len(driver.seen("ImageLabeled")) >= goal)  # type: ignore[misc]
        samples.append(sample(driver, len(driver.seen("ImageLabeled"))))
    return samples


def slope(samples: list[Sample], name: str) -> float:
    """Growth of one process's own memory after the first tenth, MB per 1,000 images (least squares)."""
    later = samples[len(samples) // 10 :]
    mean_done = sum(one.done for one in later) / len(later)
    mean_own = sum(one.own_mb[name] for one in later) / len(later)
    above = sum((one.done - mean_done) * (one.own_mb[name] - mean_own) for one in later)
    return 1000 * above / sum((one.done - mean_done) ** 2 for one in later)


def measure(folder: str | None, images: int, ms: float, workers: int, executor: str) -> str:
    """The result page."""
    busy = load()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        draw_images(Path(name), images, SIZE)
        engine = {"executor": executor, "workers": workers}
        driver = Driver({"data": name, "store": f"{name}/labels", "ms": ms, "engine": engine})
        try:
            samples = watch(driver, images)
            summary = driver.finish()
        finally:
            driver.process.kill()
        about = f"{images} images of {SIZE[0]}x{SIZE[1]}, fake teacher of {ms:g} ms, {workers} workers,"
        about += f" executor {executor}. {busy}."
        rate = f"{summary['images_labelled']} images labeled, {summary['images_per_second']:.0f} images/s."
        parts = [about, rate, memory_table(samples), driver_cost(samples), eta_table(driver, images)]
        return page("A run of many images", name, *parts)


def memory_table(samples: list[Sample]) -> str:
    """Memory of each process over the run."""
    picked = [samples[min(len(samples) - 1, round(share * len(samples)) - 1)] for share in SHARES]
    names = [name for name in samples[-1].own_mb if all(name in one.own_mb for one in samples[len(samples) // 10 :])]
    rows = []
    for name in names:
        cells = [f"{one.own_mb[name]:.0f} ({one.resident_mb[name]:.0f})" for one in picked]
        rows.append([name, *cells, f"{slope(samples, name):+.2f}"])
    columns = ["own memory (all resident), MB, after", *(f"{share:.0%}" for share in SHARES), "MB per 1,000 images"]
    return markdown(columns, rows)


def driver_cost(samples: list[Sample]) -> str:
    """What an image costs the driver once the run is under way."""
    first, last = samples[len(samples) // 10], samples[-1]
    per_image = (last.cpu_seconds - first.cpu_seconds) / (last.done - first.done)
    return f"Driver: {1000 * per_image:.2f} ms of CPU per image, {100 * per_image:.1%} of one core per 100 images/s."


def eta_table(driver: Driver, images: int) -> str:
    """What a display said was left, and what was."""
    labeled = driver.seen("ImageLabeled")
    end = labeled[-1]["at"]
    rows = []
    for share in (0.05, 0.1, 0.25, 0.5, 0.75):
        event = labeled[round(share * images) - 1]
        actual = end - event["at"]
        rows.append([f"{share:.0%}", f"{event['left']:.1f}", f"{actual:.1f}", f"{event['left'] / actual - 1:+.0%}"])
    return markdown(["done", "s left as displayed", "s left indeed", "off by"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--ms", type=float, default=5, help="time that the teacher takes for an image")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executor", default="ray")
    parser.add_argument("--folder", help="where images and store are put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    how = (arguments.images, arguments.ms, arguments.workers, arguments.executor)
    publish(measure(arguments.folder, *how), arguments.output)


if __name__ == "__main__":
    main()
