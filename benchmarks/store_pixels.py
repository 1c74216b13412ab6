"""Pixels of the label store against PNG files: bytes, writing, reading whole and in part."""

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import Any

import cv2
import numpy as np
from results_page import markdown, page
from s3_server import s3_server
from teacher_like_labels import Drawn, draw

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format.evidence import grid_with, label_at, level_of
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

THRESHOLD = 0.9
GRID = grid_with(THRESHOLD)
CROP = (512, 1024)
LEVEL = [cv2.IMWRITE_PNG_COMPRESSION, 9]
PNG = {
    "PNG, default": [],
    "PNG, level 9": LEVEL,
    "PNG, level 9, no filter": [*LEVEL, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE],
}
STORE, EVIDENCE = "label store", "label store, with evidence"
ARRAYS = {STORE: ("label",), EVIDENCE: ("label", "top1", "code")}
Times = dict[tuple[str, str], list[tuple[float, float]]]


def png(array: U8, variant: str) -> bytes:
    """A PNG file of a [H, W] uint8 array."""
    done, data = cv2.imencode(".png", array, PNG[variant])
    assert done
    return data.tobytes()


def place_of(variant: str) -> int:
    """A variant in a file's name."""
    return list(PNG).index(variant)


def probability_of(drawn: Drawn) -> U8:
    """[H, W] uint8 probability in 255ths, rounded down, as teachers' outputs are often dumped."""
    return np.floor(drawn.confidence * 255).astype(np.uint8)


class Bench:
    """One place that holds the same labels as a store and as PNG files; times are (CPU, wall) seconds."""

    def __init__(self, uri: str, images: list[Drawn]) -> None:
        self.images = {f"{number:03d}": image for number, image in enumerate(images)}
        self.root = FileRoot(join(uri, "png"))
        self.uri = join(uri, "labels.zarr")
        self.times: Times = defaultdict(list)

    def clock(self, variant: str, what: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, whose time is kept."""
        wall, cpu = time.perf_counter(), time.thread_time()
        result = work()
        self.times[variant, what].append((time.thread_time() - cpu, time.perf_counter() - wall))
        return result

    def write(self) -> None:
        """Writes every image in every form, in turn; the store without evidence is another one, beside it."""
        writers = {EVIDENCE: self._writer(self.uri, GRID), STORE: self._writer(self.uri + ".plain", None)}
        receipts: dict[str, list[Receipt]] = {variant: [] for variant in writers}
        for key, image in self.images.items():
            for variant, (_, segment) in writers.items():
                arrays = {name: getattr(image, name) for name in ARRAYS[variant]}
                write = partial(segment.write, ImageFacts(key=key, source=f"{key}.png"), arrays)
                receipts[variant].append(self.clock(variant, "write", write))
            for variant in PNG:
                self.clock(variant, "write", partial(self._put_png, key, image.label, variant))
        for variant, (run, _) in writers.items():
            run.append(receipts[variant])
            run.finish()

    def read(self, rounds: int) -> None:
        """Reads whole labels and crops in every form, in turn; each round opens the store anew."""
        random = np.random.default_rng(1)
        for _ in range(rounds):
            store = LabelStore.open(self.uri)
            for key, image in self.images.items():
                self._read_one(store, key, image.label, random)

    def _read_one(self, store: LabelStore, key: str, label: U8, random: np.random.Generator) -> None:
        y, x = (int(random.integers(0, whole - part + 1)) for whole, part in zip(label.shape, CROP, strict=True))
        window = (slice(y, y + CROP[0]), slice(x, x + CROP[1]))
        for what in ("first crop", "crop"):
            crop = self.clock(STORE, what, lambda: store.read_crop(key, y, x, *CROP))
            assert np.array_equal(crop, label[window])
        assert np.array_equal(self.clock(STORE, "read", lambda: store.read(key)), label)
        for variant in PNG:
            self.clock(variant, "crop", lambda variant=variant: self._get_png(key, variant)[window].copy())
            self.clock(variant, "read", lambda variant=variant: self._get_png(key, variant))

    def _writer(self, uri: str, grid: tuple[float, ...] | None) -> tuple[RunWriter, SegmentWriter]:
        LabelStore.create(uri, CITYSCAPES.to_dict())
        run = RunWriter(uri, {"settings": {"threshold": THRESHOLD}})
        return run, SegmentWriter(uri, run.run_id, grid, Rule(THRESHOLD), len(self.images))

    def _put_png(self, key: str, label: U8, variant: str) -> None:
        filesystem, root = self.root.open()
        create_bytes(filesystem, join(root, f"{key}.{place_of(variant)}.png"), png(label, variant))

    def _get_png(self, key: str, variant: str) -> U8:
        data = np.frombuffer(self.root.read(f"{key}.{place_of(variant)}.png"), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))

    def milliseconds(self, variant: str, what: str, clock: int) -> float:
        """Median of the CPU (0) or wall (1) times; NaN if there are none."""
        return 1000 * median([pair[clock] for pair in self.times.get((variant, what), [(math.nan, math.nan)])])


def bytes_table(images: list[Drawn], receipts: Iterable[Receipt]) -> str:
    """Mean bytes per image by form, and how many labels per image each gets wrong at other thresholds."""
    rows = list(receipts)
    label = mean(sum(array.bytes for array in row.arrays if array.name == "label") for row in rows)
    evidence = mean(sum(array.bytes for array in row.arrays if array.name != "label") for row in rows)
    lines = [
        [STORE, f"{label:,.0f}", f"{evidence:,.0f}", f"{label + evidence:,.0f}", str(wrong_labels(images, of_code))]
    ]
    for variant in PNG:
        label = mean(len(png(image.label, variant)) for image in images)
        probability = mean(len(png(probability_of(image), variant)) for image in images)
        wrong = f"{wrong_labels(images, of_probability) / len(images):,.0f}"
        lines.append([variant, f"{label:,.0f}", f"{probability:,.0f}", f"{label + probability:,.0f}", wrong])
    columns = ["form", "label", "evidence or probability", "together", "wrong px"]
    return markdown(columns, lines)


def wrong_labels(images: list[Drawn], keep: Callable[[Drawn, float], Any]) -> int:
    """Pixels whose label differs from that of the float32 probability, at the stored threshold where it is worst."""

    def wrong(image: Drawn, threshold: float) -> int:
        right = image.confidence >= np.float32(threshold)
        return int(np.count_nonzero(keep(image, threshold) != np.where(right, image.top1, 255)))

    return max(sum(wrong(image, threshold) for image in images) for threshold in GRID)


def of_code(image: Drawn, threshold: float) -> U8:
    """The label that the store's evidence gives."""
    return label_at(image.top1, image.code, level_of(threshold, GRID))


def of_probability(image: Drawn, threshold: float) -> U8:
    """The label that a probability in 255ths gives."""
    return np.where(probability_of(image) / 255 >= threshold, image.top1, 255).astype(np.uint8)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    listed = list(values)
    return sum(listed) / len(listed)


def times_table(bench: Bench, clock: int) -> str:
    """Median milliseconds by form, and how many times faster a first and a further crop come from the store."""
    fast = [bench.milliseconds(STORE, what, clock) for what in ("first crop", "crop")]
    rows = []
    for variant in (EVIDENCE, STORE, *PNG):
        figures = [bench.milliseconds(variant, what, clock) for what in ("write", "read", "first crop", "crop")]
        cells = ["" if math.isnan(figure) else f"{figure:.2f}" for figure in figures]
        ratio = ", ".join(f"{figures[3] / seconds:.1f}" for seconds in fast)
        rows.append([variant, *cells, "" if variant in (EVIDENCE, STORE) else ratio])
    return markdown(["form", "write", "read", "first crop", "crop", "store is faster by: first crop, crop"], rows)


def measure(folder: str | None, num_images: int, rounds: int) -> str:
    """The result page."""
    cv2.setNumThreads(1)
    images = [draw(seed, THRESHOLD, GRID) for seed in range(num_images)]
    kept = mean(float((image.label != 255).mean()) for image in images)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
        disk = Bench(place, images)
        s3 = Bench(stack.enter_context(s3_server()), images)
        for bench in (disk, s3):
            bench.write()
            bench.read(rounds)
        rows = LabelStore.open(disk.uri).table().to_pylist()
        return page(
            "Pixels of the label store against PNG",
            place,
            f"{num_images} drawn streets of 1024 x 2048 seen through noisy logits, {kept:.0%} of the pixels kept at "
            f"{THRESHOLD}. Medians of {rounds} rounds, forms in turn, one thread. *first crop*: of an image that this "
            f"reader has not read before; a crop is {CROP[0]} x {CROP[1]}.",
            "Mean bytes per image. PNG: the label, and the probability in 255ths as a second file. Store: the label, "
            "and the arg-max with the code of 12 thresholds. *wrong px*: pixels per image whose label at another "
            "threshold, made from these, differs from that of the float32 probability, at the worst threshold.",
            bytes_table(images, map(Receipt.from_row, rows)),
            "Disk, CPU milliseconds of one thread (files in the page cache; waiting for the disk not counted):",
            times_table(disk, 0),
            "S3 (moto on the loopback, in a process of its own), wall milliseconds:",
            times_table(s3, 1),
        )
