"""CPU time of another rule against labeling anew with that rule, per image, in one process on one thread.

*Anew* is what a worker does with an image and the least evidence: decode it and its polygons, ask the teacher, cut,
write the arrays. Loading the teacher and listing the images are left out of it, and so is what more evidence costs.
*Rethreshold* is all of `rethreshold`: open the store, check, cut, write, commit. The small teacher labels images as
they are; HRNet-W48-OCR, with seeded weights, one image that is upscaled by 2.84 and continued by its mirror image to
1024x2048, at scales 0.5, 1 and 2. Its store holds copies of that image.

    python benchmarks/rethreshold_cost.py --data DATA --weights TEACHER --output benchmarks/results/rethreshold_cost.md
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from evidence_bytes import enlarged
from results_page import markdown, page, publish
from seeded_teacher import seeded_network

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.pipeline.label.policy import settle
from hmsa_label.pipeline.records import Wanted
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.format.bounds import Bounds, Pixels
from hmsa_label.stores.format.chunks import digest_of, encode
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.masks import mask_of
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import sources_of
from hmsa_label.stores.versions.rethreshold import rethreshold

BASE = Rule(0.9)
COPIES = 16  # of the one image that the large teacher labels
LARGE_MODEL, LARGE_SCALES = "hrnet_w48_ocr", (0.5, 1.0, 2.0)
OFTEN = {"road": 0.95, "building": 0.97, "sky": 0.8, "vegetation": 0.85, "car": 0.7, "person": 0.5, "pole": "off"}


@dataclass(frozen=True, kw_only=True)
class Given:
    """Files of one image: encoded image, and label ids of its polygons."""

    key: str
    image: bytes
    polygons: bytes


def rules(size_px: tuple[int, int]) -> tuple[dict[str, Rule], U8]:
    """Every kind of rule by its name, and the mask of those that have one."""
    mask = np.zeros(size_px, np.uint8)
    mask[size_px[0] * 7 // 8 :] = 1
    trust = replace(BASE, polygons="trust")
    return {
        "threshold": Rule(0.7),
        "threshold 0": Rule(0.0),
        "per class": replace(BASE, class_thresholds=OFTEN),
        "margin": Rule(0.0, margin=0.5),
        "disagreement": replace(BASE, max_disagreement=0),
        "border": replace(BASE, border_px=(15, 18, 184, 14)),
        "mask": replace(BASE, mask=mask_of(mask)),
        "polygons: trust": trust,
        "polygons: add": replace(BASE, polygons="add"),
        "polygons: veto": replace(BASE, polygons="veto"),
        "polygons: seen": replace(BASE, polygons="off", class_polygons=dict.fromkeys(["truck", "bus", "car"], "seen")),
        "polygons: trust, grown 8 px": replace(trust, grow_px=8),
        "best images": replace(BASE, best_by="mean_confidence", best_share=0.5),
        "class-balanced": replace(BASE, class_share=0.5, share_cap=0.9),
        "most at once": replace(
            trust, class_thresholds=OFTEN, margin=0.3, max_disagreement=1, grow_px=8, border_px=(8, 8, 8, 8)
        ),
    }, mask


class Labeling:
    """What a worker does, over one store.

    Args:
        all_kinds: whether all kinds of evidence are computed and stored, or the confidence alone.
    """

    def __init__(self, uri: str, teacher: Teacher, ids: U8, capacity: int, *, all_kinds: bool) -> None:
        LabelStore.create(uri, CITYSCAPES.to_dict())
        self.uri, self._teacher, self._ids, self._all_kinds = uri, teacher, ids, all_kinds
        self._run = RunWriter(uri, {"settings": {"teacher_sha256": 64 * "0", **BASE.settings}})
        self._margins = MARGIN_GRID if all_kinds else ()
        self._segment = SegmentWriter(uri, self._run.run_id, DEFAULT_GRID, BASE, capacity, margins=self._margins)

    def label(self, given: Given) -> None:
        """Labels one image and stores it; `last` is what it was cut from."""
        self.last = self._evidence(given)
        self.write(given.key, *self.last)

    def write(self, key: str, evidence: Mapping[str, Pixels], mean_confidence: float | None) -> None:
        """Cuts and stores what is known of an image."""
        bounds = Bounds(
            names=self._segment.names,
            thresholds=DEFAULT_GRID,
            margins=self._margins,
            mean_confidence=mean_confidence,
        )
        made = cut(evidence, BASE, bounds)
        facts = ImageFacts(key=key, source=f"{key}.png", mean_confidence=mean_confidence, **made.facts)
        self._run.append([self._segment.write(facts, {**made.arrays, **evidence})])

    def finish(self) -> None:
        self._run.finish()

    def _evidence(self, given: Given) -> tuple[dict[str, Pixels], float | None]:
        image, raw = decode_image(given.image), decode_labels(given.polygons)
        polygon, grid = self._ids[raw], np.asarray(DEFAULT_GRID, np.float32)
        margins = np.asarray(MARGIN_GRID, np.float32) if self._all_kinds else None
        wanted = Wanted(thresholds=grid, margins=margins, disagreement=self._all_kinds)
        (found,) = self._teacher.evidence([image], wanted)
        arrays: dict[str, Pixels] = {**found.arrays, "polygon": polygon}
        if self._all_kinds:
            arrays["grown"], arrays["grown_px"] = grow(image, polygon, (raw != 0) & (polygon == 255))
        return arrays, found.mean_confidence


def cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def measured(uri: str, asked: Mapping[str, Rule], mask: U8, turns: int) -> dict[str, float]:
    """CPU seconds per image of each rule, the median of several turns; every turn makes a version of each."""
    images = len(LabelStore.open(uri))
    seconds: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(turns):
        for name, rule in asked.items():
            given = {"mask": mask if rule.mask is not None else None, "threads": 1}
            make = lambda _, store, rule=rule: settle(rule, store, threads=1)  # noqa: E731
            seconds[name].append(cpu_seconds(lambda make=make, given=given: rethreshold(uri, make, **given)) / images)
    return {name: median(took) for name, took in seconds.items()}


def parts_of(uri: str, rule: Rule, turns: int) -> dict[str, float]:
    """CPU seconds per image of what a change of the rule consists of, each measured alone."""
    store = LabelStore.open(uri)
    keys = list(store)[:8]
    bounds = {key: store.bounds(key) for key in keys}
    sources = {key: sources_of(store, key, rule) for key in keys}
    made = {key: cut(sources[key], rule, bounds[key]) for key in keys}
    works: dict[str, Callable[[str], Any]] = {
        "read, check and decode evidence": lambda key: sources_of(store, key, rule),
        "cut": lambda key: cut(sources[key], rule, bounds[key]),
        "count classes and polygons": lambda key: cut(sources[key], rule, bounds[key]).facts,
        "encode": lambda key: [encode(array) for array in made[key].arrays.values()],
        "digests of pixels": lambda key: [digest_of(array) for array in made[key].arrays.values()],
    }
    found = {
        name: median(cpu_seconds(lambda work=work, key=key: work(key)) for _ in range(turns) for key in keys)
        for name, work in works.items()
    }
    found["count classes and polygons"] -= found["cut"]
    return found


def small_case(data: str, weights: str, images: int, folder: Path) -> tuple[str, float, tuple[int, int]]:
    """(store, CPU seconds of an image anew, its size) of the small teacher."""
    source = open_images("cityscapes", data)
    refs = [ref for ref in source.list("train_extra", coarse="gtCoarse") if ref.coarse]
    refs = sorted(refs, key=lambda ref: ref.key)[:: max(1, len(refs) // images)][:images]
    files = [Given(key=ref.key, image=source.read(ref.image), polygons=source.read(ref.coarse or "")) for ref in refs]
    teacher = Teacher(TeacherConfig(weights=weights, device="cpu", options={"scales": (0.5, 1.0)}))
    ids = teacher.classes.train_ids_from(classes_of(source))
    store, seconds = labeled(files, teacher, ids, folder / "small")
    height, width = decode_labels(files[0].polygons).shape
    store.finish()
    return store.uri, seconds, (height, width)


def large_case(data: str, folder: Path) -> tuple[str, float, tuple[int, int]]:
    """The same of HRNet-W48-OCR, over copies of one image."""
    source = open_images("cityscapes", data)
    ref = next(ref for ref in source.list("train_extra", coarse="gtCoarse") if ref.coarse)
    image = enlarged(decode_image(source.read(ref.image)))
    drawn = enlarged(decode_labels(source.read(ref.coarse or "")), cv2.INTER_NEAREST)
    info = {"model": LARGE_MODEL, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    weights = folder / "w48.safetensors"
    weights.write_bytes(encode_checkpoint(seeded_network(LARGE_MODEL), info))
    teacher = Teacher(TeacherConfig(weights=str(weights), device="cpu", options={"scales": LARGE_SCALES}))
    ids = teacher.classes.train_ids_from(classes_of(source))
    given = Given(key="large", image=encode_png(image), polygons=encode_png(drawn))
    store, seconds = labeled([given], teacher, ids, folder / "large", capacity=COPIES)
    for number in range(1, COPIES):
        store.write(f"large_{number}", *store.last)
    store.finish()
    return store.uri, seconds, image.shape[:2]


def labeled(
    files: list[Given], teacher: Teacher, ids: U8, folder: Path, capacity: int | None = None
) -> tuple[Labeling, float]:
    """(an unfinished store with all kinds of evidence, CPU seconds that an image takes with the least)."""
    plain = Labeling(f"{folder}.plain", teacher, ids, len(files), all_kinds=False)
    seconds = [cpu_seconds(lambda given=given: plain.label(given)) for given in files]
    store = Labeling(str(folder), teacher, ids, capacity or len(files), all_kinds=True)
    for given in files:
        store.label(given)
    return store, median(seconds)


def tables(uri: str, anew: float, size_px: tuple[int, int], turns: int) -> list[str]:
    """Ratios of every rule, and where the time of two rules goes."""
    asked, mask = rules(size_px)
    found = measured(uri, asked, mask, turns)
    rows = [[name, f"{1000 * took:.1f}", f"{anew / took:,.0f}"] for name, took in found.items()]
    names = "threshold", "polygons: trust, grown 8 px"
    parts = [parts_of(uri, asked[name], turns) for name in names]
    split = [[name, *(f"{1000 * one[name]:.1f}" for one in parts)] for name in parts[0]]
    split.append(
        ["all of rethreshold", f"{1000 * found['threshold']:.1f}", f"{1000 * found['polygons: trust, grown 8 px']:.1f}"]
    )
    return [
        f"Anew: {anew:.2f} s of CPU time per image of {size_px[0]} x {size_px[1]} px.",
        markdown(["rule", "CPU ms per image", "anew takes as often"], rows),
        markdown(["part, CPU ms per image", "threshold", "trust, grown"], split),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=int, default=48, help="of the small teacher")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--without-large", action="store_true")
    parser.add_argument("--output")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        parts = ["## Small teacher (hrnet_s_ocr, scales 0.5, 1)"]
        parts += tables(*small_case(asked.data, asked.weights, asked.images, Path(place)), asked.turns)
        if not asked.without_large:
            parts.append("## HRNet-W48-OCR, scales 0.5, 1, 2")
            parts += tables(*large_case(asked.data, Path(place)), asked.turns)
        publish(page("CPU time of another rule against labeling anew", place, *parts), asked.output)


if __name__ == "__main__":
    main()
