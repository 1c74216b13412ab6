"""Panoptic maps of auto labels, for training: instances after the rule, crowds, polygons drawn by hand."""

from pathlib import Path

import numpy as np
import pytest

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.rule import Rule
from tests.pipeline.panoptic_store import CAR, PERSON, ROAD, one_image


def panoptic(*pairs: tuple[int, int] | None) -> list[list[int]]:
    """A map of one row; (class, instance) of each pixel, or None for void."""
    return [[VOID if pair is None else pair[0] * DIVISOR + pair[1] for pair in pairs]]


def test_instances_that_have_a_label_are_numbered_per_class(tmp_path: Path) -> None:
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.9)))
    assert data.has_instances
    found = data.panoptic(0)
    assert found.dtype == np.int32
    assert found.tolist() == panoptic((ROAD, 0), (CAR, 1), None, (CAR, 2), (PERSON, 1), None)


def test_instances_that_the_rule_drops_are_void(tmp_path: Path) -> None:
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.5, center_threshold=0.5)))
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), None, (PERSON, 1), (PERSON, 1))


@pytest.mark.parametrize("threshold", [0.5, {"car": 0.5}])
def test_another_threshold_keeps_what_the_rule_says_of_instances(tmp_path: Path, threshold: object) -> None:
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.9, center_threshold=0.5)), threshold=threshold)
    last = (PERSON, 1) if threshold == 0.5 else None
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), None, (PERSON, 1), last)
    np.testing.assert_array_equal(data.label(0), np.minimum(data.panoptic(0) // DIVISOR, 255))


def test_polygons_of_another_class_are_a_crowd_and_others_keep_their_instance(tmp_path: Path) -> None:
    # labelIds: 26 car, 24 person, 7 road, 0 unlabeled
    drawn = np.array([[26, 26, 26, 24, 0, 7]], np.uint8)
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.9), drawn=drawn), polygons="gtCoarse")
    crowd_of_car, crowd_of_persons = (CAR, 0), (PERSON, 0)
    assert data.panoptic(0).tolist() == panoptic(
        crowd_of_car, (CAR, 1), crowd_of_car, crowd_of_persons, (PERSON, 1), (ROAD, 0)
    )


def test_labels_without_instances_have_no_panoptic_map(tmp_path: Path) -> None:
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.9), panoptic=False))
    assert not data.has_instances
    with pytest.raises(LabelMissing, match="tells no instances of this image apart"):
        data.panoptic(0)


def test_more_instances_of_a_class_than_a_panoptic_map_holds_are_refused() -> None:
    instance = np.arange(1001, dtype=np.uint16)[None]
    label = np.full(instance.shape, CAR, np.uint8)
    assert numbered_per_class(label[:, :1000], instance[:, :1000]).max() == CAR * DIVISOR + 999
    with pytest.raises(ValueError, match="it has 1000 instances of one class; 999 fit into a panoptic map"):
        numbered_per_class(label, instance)
