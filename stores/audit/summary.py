"""Figures of a version, computed from its manifest alone."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hmsa_label.stores.audit import coverage as coverage_of
from hmsa_label.stores.audit.coverage import coverage, origin_shares
from hmsa_label.stores.format.arrays import ARRAYS, BYTES
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

# What the figures are computed from; tables of instances and digests are most of a manifest, and none of it.
COLUMNS = ["height", "width", "mean_confidence", "coarse_agreement", "run", "origin_px", *coverage_of.COLUMNS]
COLUMNS += ["converted", "device", *(array.column(BYTES) for array in ARRAYS.values())]


@dataclass(frozen=True, kw_only=True)
class Summary(Result):
    """Figures of a version's labels; shares and means are None where there is nothing to divide by.

    Attributes:
        images, pixels: with a label. valid_px: pixels with a class; kept_share: valid_px / pixels, 0..1.
        class_px, class_share: pixels of each class, and their share of the valid ones, by class name.
        class_instances: instances that the rule keeps, by name of the things; None if none are told apart.
        images_with_class: by class name.
        class_kept_share: share of the pixels predicted as each class that the rule keeps, 0..1, by class name.
        origin_share: share of the valid pixels that the teacher, polygons, grown polygons and people said.
        class_polygon_agreement: share of the pixels inside of each class's polygons where the teacher's label has a
            class, that it is the same, by class name; None if no image has polygons.
        class_polygon_held: share of the pixels of each class's polygons that have this class in the label, likewise.
        mean_confidence: over all pixels, 0..1. coarse_agreement: mean over the images that have coarse labels, 0..1.
        sizes: images by "HxW". thresholds, runs, converted, devices: images by value. rules: images by what decides
            beside the threshold, spelled as in `0.9, center threshold 0.3`; empty if nothing does.
        label_bytes, evidence_bytes: of the objects in the store; maps of instances count as evidence.
    """

    images: int
    pixels: int
    valid_px: int
    kept_share: float | None
    class_px: dict[str, int]
    class_share: dict[str, float]
    class_instances: dict[str, int] | None
    images_with_class: dict[str, int]
    class_kept_share: dict[str, float | None]
    origin_share: dict[str, float]
    class_polygon_agreement: dict[str, float | None] | None
    class_polygon_held: dict[str, float | None] | None
    mean_confidence: float | None
    coarse_agreement: float | None
    sizes: dict[str, int]
    thresholds: dict[str, int]
    rules: dict[str, int]
    runs: dict[str, int]
    converted: dict[str, int]
    devices: dict[str, int]
    label_bytes: int
    evidence_bytes: int


def summarize(store: LabelStore) -> Summary:
    """Figures of the version that a reader is pinned at."""
    table = store.table(COLUMNS)
    names = [str(name) for name in store.classes["names"]]
    counts = _class_counts(table, len(names))
    pixels_of = pc.multiply(table["height"].cast(pa.int64()), table["width"].cast(pa.int64())).to_numpy()
    valid_px, pixels = int(counts.sum()), int(pixels_of.sum())
    found = coverage(table, names)
    has_polygons = table["polygon_px"].null_count < table.num_rows
    return Summary(
        images=table.num_rows,
        pixels=pixels,
        valid_px=valid_px,
        kept_share=valid_px / pixels if pixels else None,
        class_px=dict(zip(names, counts.sum(0).tolist(), strict=True)),
        class_share=dict(zip(names, (counts.sum(0) / max(valid_px, 1)).tolist(), strict=True)),
        class_instances=_class_instances(store, names) if store.has_instances else None,
        images_with_class=dict(zip(names, (counts > 0).sum(0).tolist(), strict=True)),
        class_kept_share=found.kept_share,
        origin_share=origin_shares(table),
        class_polygon_agreement=found.polygon_agreement if has_polygons else None,
        class_polygon_held=found.polygon_held_share if has_polygons else None,
        mean_confidence=_mean(table["mean_confidence"], pixels_of),
        coarse_agreement=_mean(table["coarse_agreement"], np.ones(table.num_rows)),
        sizes=_tally(f"{h}x{w}" for h, w in zip(*_lists(table, "height", "width"), strict=True)),
        thresholds=_tally(f"{value}" for value in table["threshold"].to_pylist()),
        rules=_tally(str(Rule.parse(*row)) for row in zip(*_lists(table, "threshold", "rule"), strict=True) if row[1]),
        runs=_tally(table["run"].to_pylist()),
        converted=_tally(value for value in table["converted"].to_pylist() if value is not None),
        devices=_tally(str(value) for value in table["device"].to_pylist()),
        label_bytes=_bytes(table, of_rule=True),
        evidence_bytes=_bytes(table, of_rule=False),
    )


def _class_instances(store: LabelStore, names: list[str]) -> dict[str, int]:
    """Kept instances of each thing; a few thousand rows at a time, as tables of instances are most of a manifest."""
    counts = np.zeros(len(names), np.int64)
    for batch in store.rows.batches(["threshold", "rule", "instances"]):
        for threshold, text in set(zip(*_lists(batch, "threshold", "rule"), strict=True)):
            told = pc.equal(pc.fill_null(batch["rule"], ""), text or "")
            same = pc.and_(pc.equal(batch["threshold"], threshold), told)
            entries = pc.list_flatten(batch["instances"].filter(same).combine_chunks())
            train_id, center, confidence = (
                pc.struct_field(entries, name).to_numpy() for name in ("train_id", "center_score", "confidence")
            )
            kept = Rule.parse(threshold, text).keeps_scores(center, confidence)
            counts += np.bincount(train_id[kept], minlength=len(names))
    return {names[thing]: int(counts[thing]) for thing in store.identity.things}


def _bytes(table: pa.Table, *, of_rule: bool) -> int:
    """Size of all objects of the arrays that follow the rule, or of those of evidence."""
    columns = [array.column(BYTES) for array in ARRAYS.values() if array.of_rule == of_rule]
    return sum(int(pc.sum(table[name]).as_py() or 0) for name in columns)


def _class_counts(table: pa.Table, num_classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[N, K] int64 pixels of each class in each image."""
    flat = pc.list_flatten(table["class_px"]).to_numpy()
    return np.asarray(flat, np.int64).reshape(table.num_rows, num_classes)


def _mean(column: pa.ChunkedArray, weights: np.ndarray[Any, Any]) -> float | None:
    """Weighted mean of a column's known values."""
    values = np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64)
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else None


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _tally(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
