"""Evidence beside the confidence: whether it separates right labels from wrong ones, and what it takes.

Rules are chosen on the first half of the split, by key, and reported on the second. Bytes are those of the store's
chunks: at 480x360, and at 1024x2048 of the same images upscaled by 2.84 and continued to the right by their mirror
image, both labeled at their own size.

    python benchmarks/evidence_kinds.py --data DATA --weights TEACHER --output benchmarks/results/evidence_kinds.md
"""

import argparse
import time
from itertools import pairwise
from statistics import median

import cv2
import numpy as np
from evidence_bytes import bytes_of_evidence, bytes_of_polygons, bytes_table, evidence
from evidence_counts import (
    LEVELS,
    Counts,
    by_level,
    by_precision,
    count,
    difference,
    level_for,
    level_of_share,
    levels_for,
    precision,
    ranking_area,
)
from results_page import markdown, page, publish

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.images.source import ImageSource

AT_09 = int(np.flatnonzero(np.float32(0.9) == LEVELS)[0]) + 1
TARGETS = 0.90, 0.95, 0.98


def counted(source: ImageSource, teacher: Teacher, split: str, limit: int | None) -> tuple[Counts, Counts, int]:
    """(by confidence, by margin, views) of the images of a split, ordered by key."""
    ids, views = teacher.classes.train_ids_from(classes_of(source)), int(teacher.info["views"])
    tables: tuple[list[object], list[object]] = [], []
    levels = tuple(LEVELS.tolist())
    for ref in sorted(labeled_images(source, split, "gtFine", limit), key=lambda ref: ref.key):
        found = evidence(teacher, decode_image(source.read(ref.image)), levels, levels)
        fine = ids[decode_labels(source.read(ref.labels or ""))]
        for table, level in zip(tables, (found["code"], found["margin"]), strict=True):
            table.append(count(found["top1"], level, found["disagreement"], fine, teacher.classes.num_classes, views))
    confidence, margin = (Counts(pixels=np.stack(table)) for table in tables)
    return confidence, margin, views


def percent(value: float, digits: int = 2) -> str:
    return "-" if value != value else f"{100 * value:.{digits}f}"


def kept_table(half: Counts, views: int, classes: ClassTable) -> str:
    """Precision of what is kept at 0.9, by class and disagreement."""
    groups = [range(1), range(1, 2), range(2, views + 1)] if views > 1 else [range(1), range(1, 2)]
    rows = []
    for train_id in (*range(classes.num_classes), None):
        chosen = half.pixels if train_id is None else half.pixels[:, train_id : train_id + 1]
        kept = chosen[:, :, AT_09:].sum((0, 1, 2))
        if not kept.sum():
            continue
        cells = [kept[list(group)].sum(0) for group in groups]
        name = "**all**" if train_id is None else classes.names[train_id]
        shares = [f"{percent(precision(cell))} ({percent(cell.sum() / kept.sum(), 1)})" for cell in cells]
        rows.append([name, f"{kept.sum() / 1000:.0f}", percent(precision(kept)), *shares])
    names = ["0 views against", "1 view", "2 or more"][: len(groups)]
    return markdown(["class", "kept, 1000 px", "precision", *(f"{name} (share)" for name in names)], rows)


def margin_table(confidence: Counts, margin: Counts) -> str:
    """Precision of pixels by the interval of their confidence, and of their margin."""
    edges = [0, 0.5, 0.7, 0.9, 0.95, 0.99]
    places = [0, *(int(np.flatnonzero(np.float32(edge) == LEVELS)[0]) + 1 for edge in edges[1:]), len(LEVELS) + 1]
    rows = []
    for edge, (low, high) in zip(edges, pairwise(places), strict=True):
        cells = [half.pixels[:, :, low:high] for half in (confidence, margin)]
        shares = [f"{percent(precision(cell))} ({percent(cell.sum() / confidence.total, 1)})" for cell in cells]
        agree = [percent(precision(cells[0][:, :, :, views])) for views in (slice(0, 1), slice(1, None))]
        rows.append([f"{edge:g} or more", *shares, *agree])
    columns = ["at least, below the next", "confidence (share)", "margin (share)", "confidence, no view against"]
    return markdown([*columns, "confidence, some against"], rows)


def rankings(first: tuple[Counts, Counts], second: tuple[Counts, Counts], views: int) -> str:
    """How well each kind of evidence ranks right pixels above wrong ones."""
    plain = by_level(0)
    flat = [Counts(pixels=half.pixels.sum(3, keepdims=True)) for half in second]
    rows = [
        ["confidence", f"{ranking_area(flat[0], plain):.4f}"],
        ["margin", f"{ranking_area(flat[1], plain):.4f}"],
        ["disagreement alone", f"{ranking_area(second[0], sorted(by_level(views), key=lambda cell: -cell[1])):.4f}"],
    ]
    for name, known, half in zip(("confidence", "margin"), first, second, strict=True):
        area = ranking_area(half, by_precision(known, views))
        rows.append([f"{name} and disagreement, fitted on the first half", f"{area:.4f}"])
    return markdown(["evidence", "area under the ROC curve"], rows)


def class_rankings(first: tuple[Counts, Counts], second: tuple[Counts, Counts], views: int, classes: ClassTable) -> str:
    """The same among the pixels of one predicted class, where 1 % or more of them are wrong and 1 % or more right."""
    rows = []
    for train_id in range(classes.num_classes):
        known, halves = (
            [Counts(pixels=half.pixels[:, train_id : train_id + 1]) for half in pair] for pair in (first, second)
        )
        wrong, right = halves[0].pixels.sum((0, 1, 2, 3))
        if min(wrong, right) < 0.01 * (wrong + right) or not wrong + right:
            continue
        flat = [Counts(pixels=half.pixels.sum(3, keepdims=True)) for half in halves]
        both = ranking_area(halves[0], by_precision(known[0], views))
        areas = [*(ranking_area(one, by_level(0)) for one in flat), both]
        share = percent(wrong / (wrong + right), 1)
        rows.append(
            [classes.names[train_id], f"{(wrong + right) / 1000:.0f}", share, *(f"{area:.4f}" for area in areas)]
        )
    return markdown(["class", "1000 px", "wrong", "confidence", "margin", "confidence and disagreement"], rows)


def rules_table(first: tuple[Counts, Counts], second: tuple[Counts, Counts], views: int) -> str:
    """Each kind of rule at a target precision, chosen on the first half; and at the share that 0.9 keeps."""
    kinds = [
        (f"{name}{ending}", half, most)
        for half, name in enumerate(("threshold", "margin"))
        for ending, most in (("", views), (", at most 1 view against", 1), (", no view against", 0))
        if not ending or 2 * most < views
    ]
    rows = []
    base = second[0].kept(AT_09, views)
    for target in TARGETS:
        for name, half, most in kinds:
            level = level_for(first[half], target, most)
            if level is None:
                rows.append([f"{target}", name, "off", "-", "-", "-"])
                continue
            kept = second[half].kept(level, most)
            share = percent(kept.sum() / second[half].total, 1)
            rows.append([f"{target}", name, _level(level), share, percent(precision(kept)), "-"])
        for name, half, most in kinds:
            kept = second[half].kept(levels_for(first[half], target, most), most)
            share = percent(kept.sum() / second[half].total, 1)
            rows.append([f"{target}", f"{name}, per class", "", share, percent(precision(kept)), "-"])
    wanted = int(first[0].kept(AT_09, views).sum())
    for name, half, most in kinds:
        level = level_of_share(first[half], wanted, most)
        kept = second[half].kept(level, most)
        gain = "{:+.2f} ({:+.2f} to {:+.2f})".format(*difference(kept, base))
        share = percent(kept.sum() / second[half].total, 1)
        rows.append(["share of 0.9", name, _level(level), share, percent(precision(kept)), gain])
    columns = ["chosen for", "rule", "value", "kept, second half", "precision", "points over threshold 0.9"]
    return markdown(columns, rows)


def _level(level: int) -> str:
    return f"{LEVELS[level - 1]:.4g}" if level else "0"


def cost_table(teacher: Teacher, image: U8, turns: int) -> str:
    """CPU time of one image with each kind, over that without, in turns."""
    grid, margins = np.asarray(DEFAULT_GRID, np.float32), np.asarray(MARGIN_GRID, np.float32)
    kinds: dict[str, dict[str, object]] = {
        "confidence": {},
        "top2": {"margins": margins},
        "disagreement": {"disagreement": True},
        "both": {"margins": margins, "disagreement": True},
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(turns):
        for name, given in kinds.items():
            started = time.process_time()
            teacher.label([image], grid, Rule(0.9), True, **given)  # type: ignore[arg-type]
            seconds[name].append(time.process_time() - started)
    plain = median(seconds["confidence"])
    rows = [[name, f"{1000 * median(took):.0f}", f"{median(took) / plain:.3f}"] for name, took in seconds.items()]
    return markdown(["evidence", "CPU ms per image", "over confidence alone"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--scales", default="0.5,1.0")
    parser.add_argument("--limit", type=int, help="images whose labels are scored")
    parser.add_argument("--sized", type=int, default=8, help="images whose bytes are counted")
    parser.add_argument("--output")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    source = open_images("cityscapes", asked.data)
    scales, parts = tuple(map(float, asked.scales.split(","))), []
    for flip in (False, True):
        config = TeacherConfig(weights=asked.weights, device="cpu", options={"scales": scales, "flip": flip})
        teacher = Teacher(config)
        confidence, margin, views = counted(source, teacher, asked.split, asked.limit)
        middle = len(confidence.pixels) // 2
        first, second = ((confidence.of(part), margin.of(part)) for part in (slice(middle), slice(middle, None)))
        with_flip = " and mirror images" if flip else ""
        parts += [
            f"## {views} views: scales {asked.scales}{with_flip}",
            f"{middle} images to choose on, {len(confidence.pixels) - middle} to report on, all in percent.",
            "### What is kept at 0.9, by disagreement (second half)",
            kept_table(second[0], views, teacher.classes),
            "### Precision by interval of confidence and of margin (second half)",
            margin_table(*second),
            "### Ranking of all pixels (second half)",
            rankings(first, second, views),
            class_rankings(first, second, views, teacher.classes),
            "### Rules",
            rules_table(first, second, views),
        ]
        if not flip:
            image = decode_image(source.read(labeled_images(source, asked.split, "gtFine", 1)[0].image))
            sized = bytes_of_evidence(source, teacher, asked.split, asked.sized)
            for coarse in ("gtCoarse", "gtRough"):
                sized |= bytes_of_polygons(source, teacher.classes, coarse, asked.sized)
            last = ["## Bytes", bytes_table(sized), "## CPU time", cost_table(teacher, image, 9)]
    publish(page("Kinds of evidence", asked.data, *parts, *last), asked.output)


if __name__ == "__main__":
    main()
