"""Draws a small Cityscapes tree of street scenes, so that everything can be tried without any data.

The same counts, size and seed give the same bytes. Fine labels are exact; coarse ones are drawn as annotators in a
hurry draw them: few corners, well inside each region, thin and small things left out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.demo.scenes.canvas import FIRST_THING, LABEL_IDS
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.pipeline.records import U8

DEFAULT_COUNTS = {"train": 24, "train_extra": 24, "val": 8}
DEFAULT_SIZE = (192, 384)
MIN_SIDE_PX = 64
CITIES = {"train": "ahornstadt", "train_extra": "birkenau", "val": "cedernheim", "test": "dornbach"}
# Kinds of labels per split, as the benchmark has them: extra images are labeled coarsely only.
LABEL_KINDS = {"train": ("gtFine", "gtCoarse"), "train_extra": ("gtCoarse",), "val": ("gtFine", "gtCoarse"), "test": ()}
NAME_OF = {raw: name for name, raw in LABEL_IDS.items()}
SKIPPED_THINGS = 0.25  # share of the objects that a coarse annotation leaves out although they are large enough
RECORD = "scenes.json"

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A polygon of one label; `points` [N, 2] int (x, y) in pixels."""

    label: str
    points: NDArray[np.int32]
    area_px: float


def draw_tree(
    root: str | Path,
    counts: dict[str, int] | None = None,
    size: tuple[int, int] = DEFAULT_SIZE,
    seed: int = 0,
) -> int:
    """Draws the tree below a local folder; gives the number of images. A tree that is there already is kept.

    Args:
        counts: images per split out of train, train_extra, val, test.
        size: (height, width) of every image, pixels.

    Raises:
        ValueError: if the settings make no sense, or the folder holds scenes drawn with others.
    """
    wanted = dict(counts or DEFAULT_COUNTS)
    _check(wanted, size)
    folder, record = Path(root), {"counts": wanted, "size": list(size), "seed": seed}
    if (folder / RECORD).exists():
        _check_same(folder, record)
    else:
        for split, number in wanted.items():
            for index in range(number):
                _draw_one(folder, split, index, size, seed)
        (folder / RECORD).write_text(json.dumps(record))
    return sum(wanted.values())


def coarse_regions(ids: Ids, rng: np.random.Generator) -> list[Region]:
    """Polygons as a hurried annotator draws them, larger ones first, holes as `unlabeled` after their region.

    Args:
        ids: [H, W] raw id, or raw id * 1000 + number for things.
    """
    height, width = ids.shape
    margin, slack = max(1, height // 80), height / 75
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    smallest = height * width / 900
    regions: list[Region] = []
    for object_id in np.unique(ids):
        label = NAME_OF[_raw(int(object_id))]
        skipped = object_id >= 1000 and rng.random() < SKIPPED_THINGS
        if label == "unlabeled" or skipped:
            continue
        # Without a border erosion would stop at the frame; annotators draw up to it.
        mask = cv2.erode((ids == object_id).astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE)
        regions += _outlines(mask, label, slack, smallest)
        regions += _holes(mask, slack, smallest)
    return regions_in_order(regions)


def fine_regions(ids: Ids) -> list[Region]:
    """One polygon per connected visible part, larger ones first."""
    regions: list[Region] = []
    for object_id in np.unique(ids):
        mask = (ids == object_id).astype(np.uint8)
        regions += _outlines(mask, NAME_OF[_raw(int(object_id))], 0.0, 0.0)
    return regions_in_order(regions)


def regions_in_order(regions: list[Region]) -> list[Region]:
    """Larger regions first: painted in this order, what lies inside another is not covered by it."""
    return sorted(regions, key=lambda region: -region.area_px)


def paint_regions(regions: list[Region], size: tuple[int, int]) -> U8:
    """[H, W] uint8 raw ids: the regions filled in their order over `unlabeled`."""
    ids = np.zeros(size, np.uint8)
    for region in regions:
        cv2.fillPoly(ids, [region.points], (LABEL_IDS[region.label],))
    return ids


def _outlines(mask: U8, label: str, slack_px: float, smallest_px: float) -> Iterator[Region]:
    """The outer outline of each part of a mask."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    yield from _as_regions(contours, label, slack_px, smallest_px)


def _holes(mask: U8, slack_px: float, smallest_px: float) -> Iterator[Region]:
    """The holes of a mask as regions without a label."""
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    inner = [
        contour for contour, links in zip(contours, tree[0] if len(contours) else [], strict=True) if links[3] >= 0
    ]
    yield from _as_regions(inner, "unlabeled", slack_px, smallest_px)


def _as_regions(contours: Sequence[Any], label: str, slack_px: float, smallest_px: float) -> Iterator[Region]:
    for contour in contours:
        points = (cv2.approxPolyDP(contour, slack_px, True) if slack_px else contour)[:, 0]
        area = cv2.contourArea(contour)
        if area >= smallest_px and (slack_px == 0 or len(points) >= 3):
            yield Region(label=label, points=points, area_px=area)


def _draw_one(folder: Path, split: str, index: int, size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng([seed, sorted(CITIES).index(split), index])
    image, ids = draw_street(size, rng)
    name = f"{CITIES[split]}_{index // 10:06d}_{index % 10 * 30:06d}"
    _write_png(folder / "leftImg8bit" / split / CITIES[split] / f"{name}_leftImg8bit.png", image[..., ::-1])
    for kind in LABEL_KINDS[split]:
        start = folder / kind / split / CITIES[split] / f"{name}_{kind}"
        regions = fine_regions(ids) if kind == "gtFine" else coarse_regions(ids, rng)
        labels = paint_regions(regions, size) if kind == "gtCoarse" else _labels_of(ids)
        _write_png(Path(f"{start}_labelIds.png"), labels)
        Path(f"{start}_polygons.json").write_text(json.dumps(_polygons(regions, size)))
        if kind == "gtFine":
            _write_png(Path(f"{start}_instanceIds.png"), ids.astype(np.uint16))


def _polygons(regions: list[Region], size: tuple[int, int]) -> dict[str, Any]:
    objects = [{"label": region.label, "polygon": region.points.tolist()} for region in regions]
    return {"imgHeight": size[0], "imgWidth": size[1], "objects": objects}


def _raw(object_id: int) -> int:
    return object_id // 1000 if object_id >= FIRST_THING * 1000 else object_id


def _labels_of(ids: Ids) -> U8:
    return np.where(ids >= FIRST_THING * 1000, ids // 1000, ids).astype(np.uint8)


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", pixels)
    assert done
    path.write_bytes(data.tobytes())


def _check(counts: dict[str, int], size: tuple[int, int]) -> None:
    unknown = sorted(set(counts) - set(CITIES))
    if unknown or any(number < 0 for number in counts.values()):
        raise ValueError(f"counts must be numbers of images for some of {', '.join(CITIES)}; got {counts}")
    if min(size) < MIN_SIDE_PX:
        raise ValueError(f"scenes need at least {MIN_SIDE_PX} pixels on each side; got {size[0]}x{size[1]}")


def _check_same(folder: Path, record: dict[str, Any]) -> None:
    there = json.loads((folder / RECORD).read_text())
    if there != record:
        raise ValueError(f"{folder} holds scenes drawn with {there}, not {record}; choose another folder or remove it")
