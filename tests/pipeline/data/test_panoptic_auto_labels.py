"""Panoptic maps of auto labels, for training: instances after the rule, crowds, polygons drawn by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.rule import Rule
from tests.pipeline.panoptic_store import CAR, KEY, PERSON, ROAD, one_image


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


@pytest.mark.parametrize("asked", [{"threshold": 0.5}, {"class_thresholds": {"car": 0.5}}])
def test_another_threshold_keeps_what_the_rule_says_of_instances(tmp_path: Path, asked: dict[str, Any]) -> None:
    data = AutoLabelDataset(one_image(tmp_path, Rule(0.9, center_threshold=0.5)), **asked)
    last = (PERSON, 1) if "threshold" in asked else None
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), None, (PERSON, 1), last)
    np.testing.assert_array_equal(data.label(0), np.minimum(data.panoptic(0) // DIVISOR, 255))


# labelIds: 26 car, 24 person, 7 road, 0 unlabeled
DRAWN = np.array([[26, 26, 26, 24, 0, 7]], np.uint8)
CROWD_OF_CARS, CROWD_OF_PERSONS = (CAR, 0), (PERSON, 0)


@pytest.mark.parametrize("threshold", [None, 0.9])
def test_polygons_of_another_class_are_a_crowd_and_others_confirm_the_instance(
    tmp_path: Path, threshold: float | None
) -> None:
    rule = Rule(0.9 if threshold is None else 0.5, polygons="trust")
    store = one_image(tmp_path, rule, drawn=DRAWN)
    data = AutoLabelDataset(store, threshold=threshold)
    # The teacher is unsure of the third pixel; with the polygon's class it is a pixel of car 1 all the same.
    expected = panoptic(CROWD_OF_CARS, (CAR, 1), (CAR, 1), CROWD_OF_PERSONS, (PERSON, 1), (ROAD, 0))
    assert data.panoptic(0).tolist() == expected
    labeled = [[0, 1, 1, 0, 3, 0]]
    assert store.instances(KEY)[0].tolist() == store.instance_map(KEY).tolist() == labeled


def test_polygons_do_not_bring_an_instance_back_that_the_rule_drops(tmp_path: Path) -> None:
    rule = Rule(0.9, center_threshold=0.5, polygons="trust")
    drawn = np.array([[7, 26, 26, 26, 0, 0]], np.uint8)
    data = AutoLabelDataset(one_image(tmp_path, rule, drawn=drawn))
    assert data.panoptic(0).tolist() == panoptic((ROAD, 0), (CAR, 1), (CAR, 1), CROWD_OF_CARS, (PERSON, 1), None)


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
