"""Images with everything that a rule can ask for, rules over them, and runs that store them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID, code_of, grid_with
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.masks import mask_of
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from tests.stores.conftest import CLASSES, draw_instances, settings

SIZE = (16, 24)
NAMES = tuple(CLASSES["names"])
HOOD = np.zeros(SIZE, np.uint8)
HOOD[12:, 4:20] = 1
MASK = mask_of(HOOD)
RULES = {
    "threshold 0": Rule(0.0),
    "128/255": Rule(128 / 255),
    "class thresholds": Rule(0.9, class_thresholds={"road": 0.5, "car": "off", "sky": 0.0}),
    "margin": Rule(0.6, margin=0.3),
    "disagreement": Rule(0.5, max_disagreement=1),
    "border": Rule(0.7, border_px=(1, 2, 3, 4)),
    "mask": Rule(0.5, mask=MASK),
    "trust": Rule(0.9, polygons="trust"),
    "add and grow": Rule(0.95, polygons="add", grow_px=3),
    "veto": Rule(0.5, polygons="veto"),
    "seen": Rule(0.9, class_polygons={"car": "seen", "bus": "seen", "person": "seen"}),
    "best by confidence": Rule(0.7, best_by="mean_confidence", best_from=0.84),
    "best by share": Rule(0.9, polygons="trust", best_by="kept_share", best_from=0.55),
    "all": Rule(
        0.8, class_thresholds={"person": 0.5, "sky": "off"}, margin=0.05, max_disagreement=2, border_px=(0, 1, 2, 1),
        mask=MASK, polygons="trust", class_polygons={"road": "veto", "bus": "seen", "sky": "off"}, grow_px=2,
        class_share=0.5, share_cap=0.8,
    ),
}  # fmt: skip


def image(seed: int, *, polygons: bool = True, panoptic: bool = False) -> tuple[dict[str, Any], ImageFacts]:
    """Evidence of every kind, and what is known of the image beside it; its key is `image<seed>`."""
    generator, (height, width) = np.random.default_rng(seed), SIZE

    def blocks(values: Any) -> Any:
        return np.kron(values, np.ones((4, 4), np.uint8))[:height, :width]

    shape = (height // 4, width // 4)
    top1 = blocks(generator.integers(0, 5, shape)).astype(np.uint8)
    confidence = blocks(generator.random(shape) ** 0.2).astype(np.float32)
    right, drawn = generator.random(shape) < 0.6, generator.random(shape) < 0.6
    polygon = np.where(drawn, np.where(right, top1[::4, ::4], generator.integers(0, 5, shape)), 255)
    polygon = blocks(polygon).astype(np.uint8)
    grown = np.where((polygon == 255) & (generator.random(SIZE) < 0.6), generator.integers(0, 5, SIZE), 255)
    arrays = {
        "top1": top1,
        "code": code_of(confidence, DEFAULT_GRID),
        "top2": ((top1 + 1) % 5).astype(np.uint8),
        "margin": code_of(confidence * generator.random(SIZE).astype(np.float32), MARGIN_GRID),
        "disagreement": generator.integers(0, 5, SIZE).astype(np.uint8),
    }
    if polygons:
        distance = np.where(grown == 255, 0, generator.integers(1, 6, SIZE))
        arrays |= {"polygon": polygon, "grown": grown.astype(np.uint8), "grown_px": distance.astype(np.uint8)}
    instances: tuple[StoredInstance, ...] | None = None
    if panoptic:
        arrays["instance"], instances = draw_instances(seed, top1, confidence)
    mean = float(confidence.mean())
    key = f"image{seed}"
    return arrays, ImageFacts(key=key, source=f"{key}.png", mean_confidence=mean, instances=instances)


def made(arrays: dict[str, Any], facts: ImageFacts, rule: Rule) -> Any:
    """What `cut` says of an image."""
    bounds = Bounds(
        names=NAMES,
        thresholds=DEFAULT_GRID,
        margins=MARGIN_GRID,
        instances=facts.instances,
        mean_confidence=facts.mean_confidence,
    )
    return cut({**arrays, "mask": HOOD != 0}, rule, bounds)


def write(segment: SegmentWriter, images: Iterable[tuple[dict[str, Any], ImageFacts]]) -> list[Receipt]:
    """Receipts of images, whose labels are made by the segment's rule."""
    return [segment.write(facts, {**made(arrays, facts, segment.rule).arrays, **arrays}) for arrays, facts in images]


def fill(uri: str, rule: Rule, images: Sequence[tuple[dict[str, Any], ImageFacts]], **options: Any) -> LabelStore:
    """A finished run over images."""
    storage = options.pop("storage_options", None)
    LabelStore.create(uri, CLASSES, storage_options=storage)
    writer = RunWriter(uri, {"settings": settings(rule)}, storage_options=storage, **options)
    grid, mask = grid_with(rule.thresholds), HOOD if rule.mask else None
    segment = SegmentWriter(uri, writer.run_id, grid, rule, 100, storage, margins=MARGIN_GRID, mask=mask)
    writer.append(write(segment, images))
    writer.finish()
    return LabelStore.open(uri, storage_options=storage)
