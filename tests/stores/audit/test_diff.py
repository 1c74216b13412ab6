"""Differences between versions, on labels small enough to count by hand."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.diff import confusion_of, diff
from hmsa_label.stores.audit.instance_changes import InstanceChanges, changes_of
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.stores.conftest import changed


def put(uri: str, images: dict[str, list[list[int]]], teacher: str = "a", relabel: bool = False) -> int:
    writer = RunWriter(uri, {"settings": {"teacher_sha256": teacher, "threshold": 0.9}}, relabel=relabel)
    segment = SegmentWriter(uri, writer.run_id, None, Rule(0.9), 10)
    writer.append(
        [
            segment.write(ImageFacts(key=key, source=key), {"label": np.array(rows, np.uint8)})
            for key, rows in images.items()
        ]
    )
    return writer.finish()


@pytest.fixture
def two_versions(uri: str, classes: dict[str, Any]) -> tuple[int, int]:
    LabelStore.create(uri, classes)
    first = put(uri, {"a": [[0, 1], [255, 2]], "b": [[3, 3]], "c": [[1]], "e": [[0, 0, 0]]})
    # a: 1 becomes 0 and 255 becomes 4; b stays as it is; e changes its size; d is new.
    return first, put(uri, {"a": [[0, 0], [4, 2]], "b": [[3, 3]], "d": [[2]], "e": [[0, 0]]}, "b", relabel=True)


def test_images_are_told_apart_by_what_happened_to_them(uri: str, two_versions: tuple[int, int]) -> None:
    found = diff(uri, *two_versions)
    assert (found.added, found.removed, found.relabelled) == (["d"], [], ["a", "e"])
    assert (found.resized, found.restated, found.unchanged) == (["e"], ["b"], 2)


def test_pixels_are_counted_by_class_before_and_after(uri: str, two_versions: tuple[int, int]) -> None:
    found = diff(uri, *two_versions)
    expected = np.zeros((6, 6), int)
    expected[0, 0] = expected[2, 2] = expected[1, 0] = expected[5, 4] = 1
    assert found.confusion == expected.tolist()
    assert found.names == ["road", "car", "person", "sky", "bus", "ignore"]
    assert found.pixels_changed == 2 + 2  # two in a, both pixels of the resized e
    assert found.pixels_compared == 4 + 2 + 1 + 2
    assert found.worst == [("a", 0.5)]
    json.dumps(found.to_dict())


def test_the_other_way_round_added_is_removed(uri: str, two_versions: tuple[int, int]) -> None:
    found = diff(uri, two_versions[1], two_versions[0])
    assert (found.added, found.removed) == ([], ["d"])
    assert found.confusion is not None
    assert found.confusion[0][1] == 1


def test_a_version_does_not_differ_from_itself(uri: str, two_versions: tuple[int, int]) -> None:
    found = diff(uri, two_versions[1])
    assert (found.a, found.b) == (two_versions[1], two_versions[1])
    assert (found.added, found.removed, found.relabelled, found.pixels_changed) == ([], [], [], 0)


def test_without_pixels_nothing_is_read(uri: str, two_versions: tuple[int, int], monkeypatch: Any) -> None:
    monkeypatch.setattr(LabelStore, "read", None)
    found = diff(uri, *two_versions, pixels=False)
    assert found.relabelled == ["a", "e"]
    assert (found.confusion, found.pixels_changed) == (None, None)


def test_confusion_puts_ignore_last() -> None:
    table = confusion_of(np.array([[255, 255, 0]], np.uint8), np.array([[255, 1, 1]], np.uint8), 2)
    np.testing.assert_array_equal(table, [[0, 1, 0], [0, 0, 0], [0, 1, 1]])


def test_instances_that_came_went_and_changed_are_counted(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, threshold=0.5)
    rethreshold(uri, changed(center_threshold=0.5))
    found = diff(uri, 3)
    store = LabelStore.open(uri)
    gone: Counter[str] = Counter()
    for key in store:
        before = set(np.unique(LabelStore.open(uri, 3).instances(key)[0]))
        after, table = store.instances(key)
        gone.update(store.classes["names"][table[n - 1].train_id] for n in before - set(np.unique(after)))
    assert sum(gone.values()) > 3
    assert found.instances == {
        name: InstanceChanges(added=0, removed=count, changed=0) for name, count in sorted(gone.items())
    }
    back = diff(uri, LabelStore.open(uri).version, 3).instances
    assert back == {name: InstanceChanges(added=count, removed=0, changed=0) for name, count in gone.items()}


def test_versions_without_instances_have_none_to_compare(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rethreshold(uri, 0.5)
    assert diff(uri, 3).instances is None


def test_images_without_instances_are_compared_by_their_labels_alone(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, threshold=0.5)
    labels.fill(uri, ("a",), threshold=0.5, relabel=True)
    store = LabelStore.open(uri)
    assert store.keys_with_instances() == {"b", "c"}
    assert diff(uri, 3).relabelled == ["a"]
    assert diff(uri, 3).instances == {}
    rethreshold(uri, 0.9)
    found = diff(uri, store.version)
    assert found.relabelled == ["a", "b", "c"]
    assert {name for name, one in found.instances.items() if one.removed + one.changed} <= {"car", "person", "bus"}
    assert sum(one.removed + one.changed for one in found.instances.values()) > 2


def test_an_image_whose_instances_alone_differ_counts_as_relabeled(uri: str, labels: Any, drawn: Any) -> None:
    made = drawn(0)
    for relabel in (False, True):
        run = labels.begin(uri, panoptic=True, relabel=relabel)
        table = made.instances if not relabel else (made.instances[0]._replace(center_score=0.125), *made.instances[1:])
        facts = ImageFacts(key="a", source="a", instances=table)
        run.writer.append([run.segment.write(facts, made.arrays(Rule(0.9), panoptic=True))])
        run.writer.finish()
    found = diff(uri, 3)
    assert (found.relabelled, found.pixels_changed, found.instances) == (["a"], 0, {})


def test_instances_are_the_same_thing_if_they_share_more_than_half() -> None:
    old, new = np.zeros((2, 12), np.uint16), np.zeros((2, 12), np.uint16)
    label = np.zeros((2, 12), np.uint8)
    old[0, 0:4], new[0, 1:4] = 1, 5  # 3 of 4: changed
    old[0, 6:9], new[0, 7:10] = 2, 6  # 2 of 4, no more than half: another one
    old[1, 0:4], new[1, 0:4] = 3, 7  # the same pixels, another class below
    old[1, 6:9], new[1, 6:9] = 4, 8  # nothing changed but the number
    other = label.copy()
    other[1, 0:4] = 1
    assert changes_of((label, old), (other, new), 2).tolist() == [[1, 2, 1], [1, 0, 0]]
    assert changes_of((label, old * 0), (label, old * 0), 2).tolist() == [[0, 0, 0], [0, 0, 0]]
