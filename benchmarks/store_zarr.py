"""The store's own way to its pixels against zarr's: the same chunks, written and read by both."""

import hashlib
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import zarr
from results_page import markdown, page
from s3_server import s3_server
from store_pixels import CROP, GRID, THRESHOLD
from teacher_like_labels import draw

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format.chunks import decode_checked, encode
from hmsa_label.stores.format.layout import U8, UNWRITTEN, ZSTD_LEVEL
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

STORE, CHUNK, ZARR = "label store", "its chunk alone", "zarr's own API"
WHAT = ("write", "read", "crop")
Times = dict[tuple[str, str], list[tuple[float, float]]]


class Bench:
    """One place with the same labels three times; times are (CPU, wall) seconds."""

    def __init__(self, uri: str, labels: list[U8]) -> None:
        self.labels, self.size = labels, labels[0].shape
        self.root, self.uri = FileRoot(join(uri, "chunks")), join(uri, "labels.zarr")
        self.digests: dict[int, str] = {}
        self.times: Times = defaultdict(list)
        self.array = zarr.create_array(
            join(uri, "array_of_zarr"),
            shape=(len(labels), *self.size),
            chunks=(1, *self.size),
            dtype="uint8",
            fill_value=UNWRITTEN,
            compressors=[zarr.codecs.ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
            chunk_key_encoding={"name": "default", "separator": "."},
        )

    def clock(self, variant: str, what: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, whose time is kept; CPU of all threads, as zarr works in one of its own."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.times[variant, what].append((time.process_time() - cpu, time.perf_counter() - wall))
        return result

    def write(self) -> None:
        """Writes every label in each way, in turn."""
        LabelStore.create(self.uri, CITYSCAPES.to_dict())
        run = RunWriter(self.uri, {"settings": {"threshold": THRESHOLD}})
        segment, receipts = SegmentWriter(self.uri, run.run_id, None, Rule(THRESHOLD), len(self.labels)), []
        for number, label in enumerate(self.labels):
            facts = ImageFacts(key=f"{number:03d}", source="x")
            receipts.append(self.clock(STORE, "write", partial(segment.write, facts, {"label": label})))
            self.clock(CHUNK, "write", partial(self._put_chunk, number, label))
            self.clock(ZARR, "write", partial(self.array.__setitem__, number, label))
        run.append(receipts)
        run.finish()

    def read(self, rounds: int) -> None:
        """Reads every label whole and in part, in each way, in turn."""
        random, store = np.random.default_rng(1), LabelStore.open(self.uri)
        for number, label in enumerate(self.labels * rounds):
            number %= len(self.labels)
            y, x = (int(random.integers(0, whole - part + 1)) for whole, part in zip(self.size, CROP, strict=True))
            window, key = (slice(y, y + CROP[0]), slice(x, x + CROP[1])), f"{number:03d}"
            ways: dict[str, tuple[Callable[[], U8], Callable[[], U8]]] = {
                STORE: (partial(store.read, key), partial(store.read_crop, key, y, x, *CROP)),
                CHUNK: (partial(self._get_chunk, number), lambda n=number, w=window: self._get_chunk(n)[w].copy()),
                ZARR: (lambda n=number: self.array[n], lambda n=number, w=window: self.array[(n, *w)]),
            }
            for variant, (whole_image, crop) in ways.items():
                assert np.array_equal(self.clock(variant, "read", whole_image), label)
                assert np.array_equal(self.clock(variant, "crop", crop), label[window])

    def _put_chunk(self, number: int, label: U8) -> None:
        filesystem, root = self.root.open()
        data = encode(label)
        self.digests[number] = hashlib.sha256(data).hexdigest()
        create_bytes(filesystem, join(root, f"c.{number}.0.0"), data)

    def _get_chunk(self, number: int) -> U8:
        return decode_checked(self.root.read(f"c.{number}.0.0"), *self.size, chunk_digest=self.digests[number])

    def table(self, clock: int) -> str:
        """Median CPU (0) or wall (1) milliseconds of each way, and how many times longer it takes than the store's."""
        figures = {key: 1000 * median(pair[clock] for pair in pairs) for key, pairs in self.times.items()}
        rows = []
        for variant in (STORE, CHUNK, ZARR):
            own = [figures.get((variant, what), math.nan) for what in WHAT]
            ratios = [figure / figures[STORE, what] for figure, what in zip(own, WHAT, strict=True)]
            rows.append([variant, *(f"{figure:.2f}" for figure in own), ", ".join(f"{ratio:.1f}" for ratio in ratios)])
        return markdown(["way", *WHAT, "times the store's"], rows)


def import_of_zarr(rounds: int) -> str:
    """Median CPU and wall milliseconds, and MiB, that `import zarr` takes in a process that reads labels."""
    code = (
        "import time; import hmsa_label.stores.versions.label_store;"
        "mebibytes = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096 / 2**20;"
        "before = time.process_time(), time.perf_counter(), mebibytes(); import zarr;"
        "print(*(now - then for now, then in zip((time.process_time(), time.perf_counter(), mebibytes()), before)))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(rounds)]
    cpu, wall, size = (median(column) for column in zip(*(map(float, run.stdout.split()) for run in runs), strict=True))
    return (
        f"`import zarr` ({zarr.__version__}) takes {1000 * cpu:.0f} ms of CPU, {1000 * wall:.0f} ms and {size:.0f} MiB "
        "in a process that has loaded what a reader of labels needs."
    )


def measure(folder: str | None, num_images: int, rounds: int) -> str:
    """The result page."""
    labels = [draw(seed, THRESHOLD, GRID).label for seed in range(num_images)]
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
        disk = Bench(place, labels)
        s3 = Bench(stack.enter_context(s3_server()), labels)
        for bench in (disk, s3):
            bench.write()
            bench.read(rounds)
        return page(
            "Pixels through the store and through zarr",
            place,
            f"{num_images} labels of 1024 x 2048, chunks of one image, zstd level {ZSTD_LEVEL}. Medians of {rounds} "
            f"rounds, ways in turn. A crop is {CROP[0]} x {CROP[1]}.",
            "*label store*: checks values and takes digests; when it writes, it flushes to the disk and leaves a "
            "receipt. *its chunk alone*: encoded and created, or read, compared with its digest and decoded. *zarr's "
            "own API*: an array of the same chunks; no flush, no digest.",
            "Disk, CPU milliseconds of all threads (files in the page cache; waiting for the disk not counted):",
            disk.table(0),
            "S3 (moto on the loopback, in a process of its own), wall milliseconds:",
            s3.table(1),
            import_of_zarr(rounds),
        )
