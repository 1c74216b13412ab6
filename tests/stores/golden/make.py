"""Makes the stores in v1/, v1-panoptic/ and v1-rules/, which every later version of the code must read.

Run once per format version, never again:

    python tests/stores/golden/make.py tests/stores/golden/v1
    python tests/stores/golden/make.py tests/stores/golden/v1-panoptic --panoptic
    python tests/stores/golden/make.py tests/stores/golden/v1-rules --rules

Two images of different sizes, then a change of the rule, then a tag on the first version; see test_golden.py. With
--rules two images of one size, one of them with polygons, every kind of evidence, and a rule that uses all of it.
"""

import sys

import numpy as np

from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID, code_of, label_at, level_of, margin_code_of
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.masks import mask_of
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.tags import tag

CLASSES = {
    "name": "three",
    "names": ["road", "car", "sky"],
    "colours": [[128, 64, 128], [0, 0, 142], [70, 130, 180]],
    "raw_ids": [7, 26, 23],
    "ignore_index": 255,
}
CAR = 1
SIZES = {"town/wide": (2, 6), "town/tall": (4, 3)}


def arrays(height: int, width: int) -> dict[str, np.ndarray]:
    """label, top1 and code of an image whose class and confidence follow from the place of the pixel."""
    place = np.arange(height * width).reshape(height, width)
    top1 = (place % 3).astype(np.uint8)
    code = code_of((0.45 + 0.05 * place).astype(np.float32), DEFAULT_GRID)
    return {"label": label_at(top1, code, level_of(0.9, DEFAULT_GRID)), "top1": top1, "code": code}


def things(height: int, width: int) -> tuple[np.ndarray, tuple[StoredInstance, ...]]:
    """Map and table of instances: every car pixel is one, and their center scores and confidences rise."""
    place = np.arange(height * width).reshape(height, width)
    cars = place % 3 == CAR
    instance = np.where(cars, place // 3 + 1, 0).astype(np.uint16)
    table = [
        StoredInstance(CAR, 0.2 * (number + 1), 0.5 + 0.1 * number, 1, (int(x), int(y), 1, 1))
        for number, (y, x) in enumerate(np.argwhere(cars))
    ]
    return instance, exact(table)


HOOD = np.zeros((4, 6), np.uint8)
HOOD[3, 2:4] = 1
FIRST = Rule(0.9, margin=0.2)
SECOND = Rule(
    0.5, class_thresholds={"car": 0.6, "sky": 0.0}, margin=0.1, max_disagreement=1, border_px=(1, 0, 0, 0),
    mask=mask_of(HOOD), polygons="trust", class_polygons={"car": "add", "sky": "veto"}, grow_px=2,
)  # fmt: skip


def evidence(*, polygons: bool) -> dict[str, np.ndarray]:
    """Every kind of evidence of an image of 4 x 6 pixels: columns of road, car and sky, surer from row to row."""
    y, x = np.mgrid[:4, :6]
    top1 = (x // 2).astype(np.uint8)
    confidence = (0.35 + 0.2 * y + 0.01 * x).astype(np.float32)
    arrays = {
        "top1": top1,
        "code": code_of(confidence, DEFAULT_GRID),
        "top2": ((top1 + 1) % 3).astype(np.uint8),
        "margin": margin_code_of(confidence, 0.9 - confidence),
        "disagreement": ((x + y) % 3).astype(np.uint8),
    }
    if polygons:
        polygon = np.full((4, 6), 255, np.uint8)
        polygon[1:, :2], polygon[2, 3], polygon[1:3, 4] = 0, 1, 0
        grown = np.where((polygon == 255) & (y == 1), 0, 255).astype(np.uint8)
        arrays |= {"polygon": polygon, "grown": grown, "grown_px": np.where(grown == 0, x % 3 + 1, 0).astype(np.uint8)}
    return arrays


def make_rules(uri: str) -> None:
    LabelStore.create(uri, CLASSES)
    run = RunWriter(uri, {"settings": {"teacher_sha256": "0" * 64, "scales": [1.0], **FIRST.settings}})
    segment = SegmentWriter(uri, run.run_id, DEFAULT_GRID, FIRST, 2, margins=MARGIN_GRID)
    for key, polygons in (("town/drawn", True), ("town/plain", False)):
        pixels = evidence(polygons=polygons)
        bounds = Bounds(names=tuple(CLASSES["names"]), thresholds=DEFAULT_GRID, margins=MARGIN_GRID)
        facts = ImageFacts(key=key, source=f"{key}.png", mean_confidence=0.7)
        run.append([segment.write(facts, {**cut(pixels, FIRST, bounds).arrays, **pixels})])
    run.finish()
    tag(uri, "first", message="before the rule changed")
    rethreshold(uri, SECOND, mask=HOOD)


def main(uri: str, *, panoptic: bool = False) -> None:
    LabelStore.create(uri, {**CLASSES, "things": [CAR]} if panoptic else CLASSES)
    settings = {"teacher_sha256": "0" * 64, "scales": [0.5, 1.0, 2.0], "threshold": 0.9}
    run = RunWriter(uri, {"settings": settings, "data": {"dataset": "folder", "root": "/images", "split": "train"}})
    segment = SegmentWriter(uri, run.run_id, DEFAULT_GRID, Rule(0.9), 2)
    facts = {"source_sha256": "1" * 64, "source_bytes": 1, "device": "cpu", "mean_confidence": 0.75}
    receipts = []
    for key, size in SIZES.items():
        instance, table = things(*size)
        told = {"instances": table} if panoptic else {}
        pixels = {**arrays(*size), **({"instance": instance} if panoptic else {})}
        receipts.append(segment.write(ImageFacts(key=key, source=f"{key}.png", **facts, **told), pixels))
    run.append(receipts)
    run.finish([{"key": "town/broken", "reason": "truncated"}], seconds=1.0)
    tag(uri, "first", message="before the threshold changed")
    rethreshold(uri, Rule(0.7, 0.7 if panoptic else 0.0))


if __name__ == "__main__":
    if "--rules" in sys.argv:
        make_rules(sys.argv[1])
    else:
        main(sys.argv[1], panoptic="--panoptic" in sys.argv)
