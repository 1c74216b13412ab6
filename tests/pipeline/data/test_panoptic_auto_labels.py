"""Panoptic maps of auto labels, for training: instances after the rule, crowds, polygons drawn by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.instances import Instance, exact
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
        Instance(CAR, 0.9, 0.8, 2, (1, 0, 2, 1)),
        Instance(CAR, 0.2, 0.95, 1, (3, 0, 1, 1)),
        Instance(PERSON, 0.7, 0.7, 2, (4, 0, 2, 1)),
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


def data_set(
    root: Path, rule: Rule, *, drawn: np.ndarray | None = None, panoptic: bool = True, **options: object
) -> AutoLabelDataset:
    images, uri = tree(root / "images", drawn), str(root / "labels")
    LabelStore.create(uri, CITYSCAPES.to_dict())
    data = {"dataset": "cityscapes", "root": str(images), "split": "train_extra"}
    run = RunWriter(uri, {"settings": rule.settings, "data": data})
    told = (INSTANCE, INSTANCES) if panoptic else ()
    arrays = {"label": rule.label_of(TOP1, CODE, GRID, *told), "top1": TOP1, "code": CODE}
    facts = ImageFacts(key=KEY, source=f"leftImg8bit/{KEY}_leftImg8bit.png", instances=INSTANCES if panoptic else None)
    segment = SegmentWriter(uri, run.run_id, GRID, rule, 1)
    run.append([segment.write(facts, {**arrays, **({"instance": INSTANCE} if panoptic else {})})])
    run.finish()
    return AutoLabelDataset(LabelStore.open(uri), **options)


def panoptic(*pairs: tuple[int, int] | None) -> list[list[int]]:
    """A map of one row; (class, instance) of each pixel, or None for void."""
    return [[VOID if pair is None else pair[0] * DIVISOR + pair[1] for pair in pairs]]


def test_instances_that_have_a_label_are_numbered_per_class(tmp_path: Path) -> None:
    data = data_set(tmp_path, Rule(0.9))
    assert data.has_instances
    found = data.panoptic(0)
    assert found.dtype == np.int32
    assert found.tolist() == panoptic((ROAD, 0), (CAR, 1), None, (CAR, 2), (PERSON, 1), None)


def test_instances_that_the_rule_drops_are_void(tmp_path: Path) -> None:
    data = data_set(tmp_path, Rule(0.5, center_threshold=0.5))
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), None, (PERSON, 1), (PERSON, 1))


@pytest.mark.parametrize("threshold", [0.5, {"car": 0.5}])
def test_another_threshold_keeps_what_the_rule_says_of_instances(tmp_path: Path, threshold: object) -> None:
    data = data_set(tmp_path, Rule(0.9, center_threshold=0.5), threshold=threshold)
    last = (PERSON, 1) if threshold == 0.5 else None
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), None, (PERSON, 1), last)
    np.testing.assert_array_equal(data.label(0), np.minimum(data.panoptic(0) // DIVISOR, 255))


def test_polygons_of_another_class_are_a_crowd_and_others_keep_their_instance(tmp_path: Path) -> None:
    # labelIds: 26 car, 24 person, 7 road, 0 unlabeled
    drawn = np.array([[26, 26, 26, 24, 0, 7]], np.uint8)
    data = data_set(tmp_path, Rule(0.9), drawn=drawn, polygons="gtCoarse")
    crowd_of_car, crowd_of_persons = (CAR, 0), (PERSON, 0)
    assert data.panoptic(0).tolist() == panoptic(
        crowd_of_car, (CAR, 1), crowd_of_car, crowd_of_persons, (PERSON, 1), (ROAD, 0)
    )


def test_labels_without_instances_have_no_panoptic_map(tmp_path: Path) -> None:
    data = data_set(tmp_path, Rule(0.9), panoptic=False)
    assert not data.has_instances
    with pytest.raises(LabelMissing, match="tells no instances of this image apart"):
        data.panoptic(0)


def test_more_instances_of_a_class_than_a_panoptic_map_holds_are_refused() -> None:
    instance = np.arange(1001, dtype=np.uint16)[None]
    label = np.full(instance.shape, CAR, np.uint8)
    assert numbered_per_class(label[:, :1000], instance[:, :1000], "a").max() == CAR * DIVISOR + 999
    with pytest.raises(ValueError, match="a: it has 1000 instances of one class; 999 fit into a panoptic map"):
        numbered_per_class(label, instance, "a")
