"""Differences between versions, on labels small enough to count by hand."""

import json
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.diff import confusion_of, diff
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore


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
