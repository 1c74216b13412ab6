"""512 x 1024 crops of labels per second: from the label store, from PNG files, and from WebDataset's tar shards.

    pip install webdataset braceexpand      # for this benchmark alone
    python benchmarks/loader.py --output benchmarks/results/loader.md

Every form holds the same labels. A crop is an image drawn at random and a place drawn at random; WebDataset has no
random access and reads its shards in order. Forms take turns, so that what else the machine does falls on all of them.
"""

import argparse
import io
import math
import os
import resource
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from results_page import markdown, page, publish
from teacher_like_labels import draw
from torch.utils.data import DataLoader, Dataset

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

with suppress(ImportError):  # checked in `main`, with what to do
    import webdataset

THRESHOLD, CROP, BATCH = 0.9, (512, 1024), 16
GRID = grid_with(THRESHOLD)
STORE, PNG, SMALL_PNG = "label store", "PNG files, default", "PNG files, smallest"
FIRST = f"{STORE}, first crop of an image"
TAR_PNG, TAR_RAW = "WebDataset, PNG inside", "WebDataset, raw arrays inside"
ENCODED = {
    PNG: [],
    SMALL_PNG: [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE],
}
SHARDS = 4
Speed = tuple[float, float]  # crops per second of wall time, and per second of CPU time


def window(label: U8, place: np.random.Generator) -> U8:
    """A [512, 1024] uint8 copy of a part of a label."""
    y, x = corner(label.shape, place)
    return label[y : y + CROP[0], x : x + CROP[1]].copy()


def corner(size: tuple[int, ...], place: np.random.Generator) -> tuple[int, int]:
    """(y, x) of a crop inside an image."""
    return int(place.integers(0, size[0] - CROP[0] + 1)), int(place.integers(0, size[1] - CROP[1] + 1))


@dataclass
class Crops(Dataset[torch.Tensor]):
    """Item i: a crop at a place drawn by (round, i), from an image drawn so too."""

    folder: Path
    form: str
    images: int
    count: int
    store: LabelStore | None = None
    round: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> torch.Tensor:
        random = np.random.default_rng((self.round, item))
        number = int(random.integers(self.images))
        if self.store is not None:
            y, x = corner((1024, 2048), random)
            return torch.from_numpy(self.store.read_crop(f"{number:03d}", y, x, *CROP))
        data = np.fromfile(self.folder / f"{number:03d}.{list(ENCODED).index(self.form)}.png", np.uint8)
        return torch.from_numpy(window(np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)), random))


def tar_crops(folder: Path, form: str, count: int) -> Any:
    """WebDataset's pipeline: shards in order, split over workers, images shuffled in a buffer, one crop of each."""
    random = np.random.default_rng(0)

    def decode(sample: dict[str, Any]) -> torch.Tensor:
        if form == TAR_PNG:
            label = np.asarray(cv2.imdecode(np.frombuffer(sample["png"], np.uint8), cv2.IMREAD_UNCHANGED))
        else:
            label = np.load(io.BytesIO(sample["npy"]))
        return torch.from_numpy(window(label, random))

    shards = [str(folder / f"{tar_name(form)}-{number}.tar") for number in range(SHARDS)]
    reader = webdataset.WebDataset(
        shards, shardshuffle=False, workersplitter=webdataset.split_by_worker, empty_check=False
    )
    return reader.repeat().shuffle(8).map(decode).with_epoch(count)


def tar_name(form: str) -> str:
    """What the shards of a form are called."""
    return "png" if form == TAR_PNG else "raw"


class Bench:
    """The same labels in every form, in one folder."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.images = folder, images
        self.bytes: dict[str, int] = defaultdict(int)
        self._write()
        self.store = LabelStore.open(str(folder / "labels"))
        self.speeds: dict[tuple[str, str], list[Speed]] = defaultdict(list)

    def _write(self) -> None:
        uri = str(self.folder / "labels")
        LabelStore.create(uri, CITYSCAPES.to_dict())
        run = RunWriter(uri, {"settings": {"threshold": THRESHOLD}})
        segment = SegmentWriter(uri, run.run_id, None, Rule(THRESHOLD), self.images)
        shards = {
            form: [tarfile.open(self.folder / f"{tar_name(form)}-{n}.tar", "w") for n in range(SHARDS)]  # noqa: SIM115
            for form in (TAR_PNG, TAR_RAW)
        }
        receipts = []
        for number in range(self.images):
            key, label = f"{number:03d}", draw(number, THRESHOLD, GRID).label
            receipts.append(segment.write(ImageFacts(key=key, source=f"{key}.png"), {"label": label}))
            self.bytes[STORE] += sum(array.bytes for array in receipts[-1].arrays)
            for place, (form, flags) in enumerate(ENCODED.items()):
                data = cv2.imencode(".png", label, flags)[1].tobytes()
                (self.folder / f"{key}.{place}.png").write_bytes(data)
                self.bytes[form] += len(data)
                if form == PNG:
                    self._add(shards[TAR_PNG][number % SHARDS], TAR_PNG, f"{key}.png", data)
            raw = io.BytesIO()
            np.save(raw, label)
            self._add(shards[TAR_RAW][number % SHARDS], TAR_RAW, f"{key}.npy", raw.getvalue())
        for shard in [*shards[TAR_PNG], *shards[TAR_RAW]]:
            shard.close()
        run.append(receipts)
        run.finish()

    def _add(self, shard: tarfile.TarFile, form: str, name: str, data: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        shard.addfile(entry, io.BytesIO(data))
        self.bytes[form] += len(data)

    def loop(self, form: str, count: int, turn: int) -> None:
        """Crops one by one in this process, without a DataLoader; those of the store after each image was read once."""
        if form == STORE:
            self._clock(FIRST, "loop", self._first_crops())
        self._clock(form, "loop", self._each(form, count, turn))

    def _each(self, form: str, count: int, turn: int) -> Iterator[Any]:
        if form in (TAR_PNG, TAR_RAW):
            yield from tar_crops(self.folder, form, count)
            return
        crops = self._crops(form, count, turn)
        yield from (crops[item] for item in range(count))

    def workers(self, form: str, count: int, turn: int, workers: int, method: str) -> None:
        """Batches of 16 crops through a DataLoader whose workers have each read something before."""
        tar = form in (TAR_PNG, TAR_RAW)
        data = tar_crops(self.folder, form, count // workers) if tar else self._crops(form, count, turn)
        loader = DataLoader(
            data, batch_size=BATCH, num_workers=workers, persistent_workers=True, multiprocessing_context=method
        )
        for _ in loader:
            pass  # workers are started and have read every image about once

        def crops() -> Iterator[Any]:
            for batch in loader:
                yield from batch

        self._clock(form, of_workers(workers), crops())

    def _crops(self, form: str, count: int, turn: int) -> Crops:
        store = self.store if form == STORE else None
        return Crops(self.folder, form, self.images, count, store, turn)

    def _first_crops(self) -> Iterator[U8]:
        self.store = LabelStore.open(str(self.folder / "labels"))
        return (self.store.read_crop(key, 0, 0, *CROP) for key in self.store)

    def _clock(self, form: str, how: str, crops: Iterator[Any]) -> None:
        cpu, wall, count = cpu_seconds(), time.perf_counter(), 0
        for crop in crops:
            assert tuple(crop.shape) == CROP
            count += 1
        self.speeds[form, how].append((count / (time.perf_counter() - wall), count / (cpu_seconds() - cpu)))

    def speed(self, form: str, how: str, clock: int) -> float:
        """Median over the turns; NaN if there are none."""
        return median([speed[clock] for speed in self.speeds.get((form, how), [(math.nan, math.nan)])])


def of_workers(number: int) -> str:
    """Heading of a column."""
    return "1 worker" if number == 1 else f"{number} workers"


def cpu_seconds() -> float:
    """User and system time of this process and of the loader workers that are alive."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + sum(cpu_seconds_of(child.pid) for child in active_children())


def cpu_seconds_of(pid: int | None) -> float:
    """User and system time of another process, as Linux tells it."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def table(bench: Bench, hows: list[str], clock: int) -> str:
    """Crops per second by form and way of reading, and how many times those of a default PNG."""
    rows = []
    for form in (STORE, FIRST, *ENCODED, TAR_PNG, TAR_RAW):
        cells = [f"{bench.bytes[form] / bench.images / 1000:.1f}" if form in bench.bytes else ""]
        for how in hows:
            speed = bench.speed(form, how, clock)
            missing = math.isnan(speed)
            cells += ["", ""] if missing else [f"{speed:,.0f}", f"{speed / bench.speed(PNG, how, clock):.1f}"]
        rows.append([form, *cells])
    return markdown(["form", "kB per label", *(name for how in hows for name in (how, "to PNG"))], rows)


def measure(arguments: argparse.Namespace) -> str:
    """The result page."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        bench = Bench(Path(place), arguments.images)
        for turn in range(arguments.rounds):
            for form in (STORE, *ENCODED, TAR_PNG, TAR_RAW):
                count = arguments.crops * (4 if form == STORE else 1)  # as many seconds rather than as many crops
                bench.loop(form, count, turn)
                for workers in arguments.workers:
                    bench.workers(form, count, turn, workers, arguments.start)
        hows = ["loop", *(of_workers(workers) for workers in arguments.workers)]
        return page(
            "Crops of labels per second",
            place,
            f"{arguments.images} drawn labels of 1024 x 2048 seen through noisy logits, files in the page cache; crops "
            f"of {CROP[0]} x {CROP[1]} at random places. Medians of {arguments.rounds} turns; OpenCV decodes PNG; "
            f"webdataset {webdataset.__version__}. *loop*: one process, one thread. *workers*: a DataLoader with that "
            f"many processes ({arguments.start}), batches of {BATCH}. *to PNG*: how many times the default PNG's.",
            "Crops per second of CPU time, of all processes together:",
            table(bench, hows, 1),
            "Crops per second of wall time, with all other work that the machine did meanwhile:",
            table(bench, hows, 0),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the labels are put for a while; default: the system's temporary folder")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--crops", type=int, default=480, help="of each turn; four times as many from the store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="how loader workers are started")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    if "webdataset" not in globals():
        parser.error("webdataset is missing; pip install webdataset braceexpand")
    publish(measure(arguments), arguments.output)


if __name__ == "__main__":
    main()
