"""One image of 4 x 4 pixels, what a teacher and polygons say of it, and the labels that each rule makes, by hand.

Pixels are road, car, person and sky; `_` has no class. The teacher is sure (code 2, from 0.9), half sure (1, from 0.5)
or not (0).
"""

from pathlib import Path

import numpy as np
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

R, S, P, C, _ = 0, 10, 11, 13, 255
RAW = {R: 7, S: 23, P: 24, C: 26, _: 0}  # labelIds
GRID = (0.5, 0.9)


def pixels(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


TOP1 = pixels([R, R, C, C], [R, R, C, C], [P, P, S, S], [P, P, S, S])
CODE = pixels([2, 2, 2, 1], [2, 0, 2, 1], [2, 2, 0, 1], [2, 1, 0, 1])
POLYGON = pixels([R, _, C, C], [_, R, S, C], [R, _, _, S], [_, P, S, _])
GROWN = pixels([_, R, _, _], [R, _, _, _], [_, R, S, _], [R, _, _, S])
GROWN_PX = pixels([0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 2, 0], [1, 0, 0, 1])

TEACHER = pixels([R, R, C, _], [R, _, C, _], [P, P, _, _], [P, _, _, _])
TRUST = pixels([R, R, C, C], [R, R, S, C], [R, P, _, S], [P, P, S, _])
TRUST_ORIGIN = pixels([2, 1, 2, 2], [1, 2, 2, 2], [2, 1, 0, 2], [1, 2, 2, 0])
ADD = pixels([R, R, C, C], [R, R, C, C], [P, P, _, S], [P, P, S, _])
ADD_ORIGIN = pixels([1, 1, 1, 2], [1, 2, 1, 2], [1, 1, 0, 2], [1, 2, 2, 0])
# Sky is not seen: the teacher is nowhere sure of it.
SEEN = pixels([R, R, C, C], [R, R, C, C], [R, P, _, _], [P, P, _, _])
SEEN_ORIGIN = pixels([2, 1, 2, 2], [1, 2, 1, 2], [2, 1, 0, 0], [1, 2, 0, 0])
VETO = pixels([R, R, C, _], [R, _, _, _], [_, P, _, _], [P, _, _, _])
# Polygons of cars are trusted, those of roads veto, those of sky add, those of persons say nothing.
MIXED = {"car": "trust", "road": "veto", "sky": "add"}
MIX = pixels([R, R, C, C], [R, _, C, C], [_, P, _, S], [P, _, S, _])
MIX_ORIGIN = pixels([1, 1, 2, 2], [1, 0, 1, 2], [0, 1, 0, 2], [1, 0, 2, 0])
GROWN_1 = pixels([R, R, C, C], [R, R, S, C], [R, P, _, S], [P, P, S, S])
GROWN_1_ORIGIN = pixels([2, 1, 2, 2], [1, 2, 2, 2], [2, 1, 0, 2], [1, 2, 2, 3])
GROWN_2 = pixels([R, R, C, C], [R, R, S, C], [R, P, S, S], [P, P, S, S])
GROWN_2_ORIGIN = pixels([2, 1, 2, 2], [1, 2, 2, 2], [2, 1, 3, 2], [1, 2, 2, 3])

# Name -> (rule, label, origin); None where only the teacher could say it.
CASES = {
    "off": (Rule(0.9), TEACHER, None),
    "trust": (Rule(0.9, polygons="trust"), TRUST, TRUST_ORIGIN),
    "add": (Rule(0.9, polygons="add"), ADD, ADD_ORIGIN),
    "veto": (Rule(0.9, polygons="veto"), VETO, None),
    "seen": (Rule(0.9, polygons="seen"), SEEN, SEEN_ORIGIN),
    "by class": (Rule(0.9, class_polygons=MIXED), MIX, MIX_ORIGIN),
    "grow 1 px": (Rule(0.9, polygons="trust", grow_px=1), GROWN_1, GROWN_1_ORIGIN),
    "grow 2 px": (Rule(0.9, polygons="trust", grow_px=2), GROWN_2, GROWN_2_ORIGIN),
}


def origin_of(label: np.ndarray, origin: np.ndarray | None) -> np.ndarray:
    """Who said each pixel of a label, where nobody but the teacher could."""
    return np.where(label != _, 1, 0) if origin is None else origin


def store_of(root: Path, rule: Rule, codes: dict[str, np.ndarray] | None = None) -> LabelStore:
    """A store of images that differ in their codes, labeled by a rule, and the tree `images` beside it.

    Every pixel of an image is the number of the image.

    Args:
        codes: by name of the image; None is one image with CODE.
    """
    uri = str(root / "labels")
    LabelStore.create(uri, CITYSCAPES.to_dict())
    data = {"dataset": "cityscapes", "root": str(root / "images"), "split": "train_extra"}
    run = RunWriter(uri, {"settings": rule.settings, "data": data})
    segment = SegmentWriter(uri, run.run_id, GRID, rule, 4)
    for number, (name, code) in enumerate((codes or {"town_0": CODE}).items()):
        key = f"train_extra/town/{name}"
        path = root / f"images/leftImg8bit/{key}_leftImg8bit.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path)
        evidence = {"top1": TOP1, "code": code, "polygon": POLYGON, "grown": GROWN, "grown_px": GROWN_PX}
        made = cut(evidence, rule, Bounds(names=tuple(CITYSCAPES.names), thresholds=GRID))
        facts = ImageFacts(key=key, source=f"leftImg8bit/{key}_leftImg8bit.png", **made.facts)
        run.append([segment.write(facts, {**evidence, **made.arrays})])
    run.finish()
    return LabelStore.open(uri)
