"""A store of one tiny image with instances, written by hand, and the Cityscapes tree of its image."""

from pathlib import Path

import numpy as np
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

KEY = "train_extra/town/town_000000_000000"
ROAD, PERSON, CAR = 0, 11, 13
GRID = (0.5, 0.9)
TOP1 = np.array([[ROAD, CAR, CAR, CAR, PERSON, PERSON]], np.uint8)
CODE = np.array([[2, 2, 1, 2, 2, 1]], np.uint8)
INSTANCE = np.array([[0, 1, 1, 2, 3, 3]], np.uint16)
INSTANCES = exact(
    [
        StoredInstance(CAR, 0.9, 0.8, 2, (1, 0, 2, 1)),
        StoredInstance(CAR, 0.2, 0.95, 1, (3, 0, 1, 1)),
        StoredInstance(PERSON, 0.7, 0.7, 2, (4, 0, 2, 1)),
    ]
)


def tree(root: Path, drawn: np.ndarray | None = None) -> Path:
    """A Cityscapes tree of one image, with coarse polygons if they are given."""
    name = KEY.removeprefix("train_extra/")
    image = root / f"leftImg8bit/train_extra/{name}_leftImg8bit.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((*TOP1.shape, 3), np.uint8)).save(image)
    if drawn is not None:
        labels = root / f"gtCoarse/train_extra/{name}_gtCoarse_labelIds.png"
        labels.parent.mkdir(parents=True)
        Image.fromarray(drawn).save(labels)
    return root


def one_image(
    root: Path, rule: Rule, *, drawn: np.ndarray | None = None, panoptic: bool = True, evidence: bool = True
) -> LabelStore:
    """The store `labels` below a folder, and the tree `images` beside it."""
    images, uri = tree(root / "images", drawn), str(root / "labels")
    LabelStore.create(uri, CITYSCAPES.to_dict())
    data = {"dataset": "cityscapes", "root": str(images), "split": "train_extra"}
    run = RunWriter(uri, {"settings": rule.settings, "data": data})
    told, known = ({"instance": INSTANCE} if panoptic else {}), {"top1": TOP1, "code": CODE}
    bounds = Bounds(names=tuple(CITYSCAPES.names), thresholds=GRID, instances=INSTANCES if panoptic else None)
    if drawn is not None:
        known["polygon"] = CITYSCAPES.train_id_of[drawn]
    arrays = {**cut({**known, **told}, rule, bounds).arrays, **(known if evidence else {})}
    facts = ImageFacts(key=KEY, source=f"leftImg8bit/{KEY}_leftImg8bit.png", instances=INSTANCES if panoptic else None)
    segment = SegmentWriter(uri, run.run_id, GRID if evidence else None, rule, 1)
    run.append([segment.write(facts, {**arrays, **told})])
    run.finish()
    return LabelStore.open(uri)
