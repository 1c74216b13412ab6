"""What a rule costs: cutting a label of 1024 x 2048 px by it, and changing it in a store, in CPU time per image.

OMP_NUM_THREADS=1 python benchmarks/rules.py --output benchmarks/results/rules.md
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from results_page import markdown, page, publish
from teacher_like_labels import SIZE, draw

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID, code_of, label_at, level_of
from hmsa_label.stores.format.masks import mask_of
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold

NAMES = tuple(CITYSCAPES.names)
HOOD = np.zeros(SIZE, np.uint8)
HOOD[840:] = 1
SEEN = dict.fromkeys(("truck", "bus", "train"), "seen")
RULES = {
    "threshold": Rule(0.7),
    "threshold 0": Rule(0.0),
    "19 class thresholds": Rule(0.9, class_thresholds=dict.fromkeys(NAMES, 0.7)),
    "margin": Rule(0.9, margin=0.9),
    "disagreement": Rule(0.9, max_disagreement=1),
    "border": Rule(0.9, border_px=(15, 18, 184, 14)),
    "mask": Rule(0.9, mask=mask_of(HOOD)),
    "best images": Rule(0.9, best_by="kept_share", best_from=0.1),
    "polygons veto": Rule(0.9, polygons="veto"),
    "truck, bus, train seen": Rule(0.9, class_polygons=SEEN),
    "polygons trust": Rule(0.9, polygons="trust"),
    "polygons add, grow 3 px": Rule(0.9, polygons="add", grow_px=3),
    "all together": Rule(
        0.9, class_thresholds=dict.fromkeys(NAMES, 0.7), margin=0.2, max_disagreement=1, border_px=(15, 18, 184, 14),
        mask=mask_of(HOOD), polygons="trust", class_polygons=SEEN, grow_px=3, best_by="kept_share", best_from=0.1,
    ),
}  # fmt: skip


def evidence(seed: int) -> dict[str, Any]:
    """Everything that a store can keep of an image; polygons keep clear of borders by some pixels."""
    drawn, random = draw(seed, 0.9, DEFAULT_GRID), np.random.default_rng(seed)
    image, ids = draw_street(SIZE, random)
    truth = CITYSCAPES.train_id_of[np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)]
    inside = np.ones(SIZE, bool)
    for shift in (-6, 6):
        inside &= (np.roll(truth, shift, 0) == truth) & (np.roll(truth, shift, 1) == truth)
    polygon = np.where(inside, truth, np.uint8(255))
    grown, grown_px = grow(image, polygon)
    second = (1 - drawn.confidence) * random.random(SIZE).astype(np.float32)
    return {
        "top1": drawn.top1,
        "code": drawn.code,
        "top2": ((drawn.top1 + 1) % len(NAMES)).astype(np.uint8),
        "margin": code_of(drawn.confidence - second, MARGIN_GRID),
        "disagreement": np.where(drawn.confidence < 0.8, 2, 0).astype(np.uint8),
        "polygon": polygon,
        "grown": grown,
        "grown_px": grown_px,
    }


def cpu_ms(work: Callable[[], Any], repeats: int) -> float:
    """Median CPU time of some work in ms."""
    work()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1000 * median(times)


def cutting(arrays: dict[str, Any], repeats: int) -> list[tuple[str, ...]]:
    """CPU ms of each rule, its ratio to comparing codes alone, and CPU ms with all counts of a row."""
    alone = cpu_ms(lambda: label_at(arrays["top1"], arrays["code"], level_of(0.7, DEFAULT_GRID)), repeats)
    bounds = Bounds(names=NAMES, thresholds=DEFAULT_GRID, margins=MARGIN_GRID, mean_confidence=0.9)
    sources = {**arrays, "mask": HOOD != 0}
    rows = [("comparing the codes alone", f"{alone:.2f}", "1", "")]
    for name, rule in RULES.items():
        ms = cpu_ms(lambda rule=rule: cut(sources, rule, bounds), repeats)
        counted = cpu_ms(lambda rule=rule: cut(sources, rule, bounds).facts, repeats)
        rows.append((name, f"{ms:.2f}", f"{ms / alone:.2f}", f"{counted:.2f}"))
    return rows


def changing(images: list[dict[str, Any]], folder: str, repeats: int) -> list[tuple[str, ...]]:
    """CPU ms an image of `rethreshold` to each rule, and KB that it writes of one."""
    uri, first = f"{folder}/labels", Rule(0.9)
    LabelStore.create(uri, CITYSCAPES.to_dict())
    writer = RunWriter(uri, {"settings": first.settings})
    segment = SegmentWriter(uri, writer.run_id, DEFAULT_GRID, first, len(images), margins=MARGIN_GRID)
    bounds = Bounds(names=NAMES, thresholds=DEFAULT_GRID, margins=MARGIN_GRID)
    for number, arrays in enumerate(images):
        facts = ImageFacts(key=f"{number}", source=f"{number}.png", mean_confidence=0.9)
        writer.append([segment.write(facts, {**cut(arrays, first, bounds).arrays, **arrays})])
    writer.finish()
    rows = []
    for name, rule in RULES.items():
        spent = []
        for _ in range(repeats):
            rethreshold(uri, Rule(0.95))
            started = time.process_time()
            rethreshold(uri, rule, mask=HOOD if rule.mask else None, threads=1)
            spent.append((time.process_time() - started) / len(images))
        sizes = LabelStore.open(uri).table(["label_bytes", "origin_bytes"]).to_pylist()
        kilobytes = sum((row["label_bytes"] + (row["origin_bytes"] or 0)) / 1000 for row in sizes) / len(images)
        rows.append((name, f"{1000 * median(spent):.0f}", f"{kilobytes:.0f}"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output")
    options = parser.parse_args()
    images = [evidence(seed) for seed in range(options.images)]
    with TemporaryDirectory() as folder:
        parts = (
            "Images of 1024 x 2048 px, 19 classes, polygons over most of them; one thread, CPU time.",
            "## Cutting one label",
            markdown(("rule", "ms", "ratio", "ms with all counts"), cutting(images[0], options.repeats)),
            "## Changing the rule of a store (rethreshold), per image",
            markdown(("rule", "CPU ms", "KB written"), changing(images, folder, 3)),
        )
        publish(page("What a rule costs", folder, *parts), options.output)


if __name__ == "__main__":
    main()
