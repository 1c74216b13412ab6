"""Finding one's way in a store: what it says of itself, which images have what, and what a wrong name is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.versions.label_store import LabelStore


def test_store_shows_place_version_and_size(uri: str, labels: Any) -> None:
    labels.fill(uri)
    store = LabelStore.open(uri)
    assert repr(store) == f"LabelStore({uri!r}, version={store.version}, images=3)"
    assert (len(store), list(store), "a" in store, "z" in store) == (3, ["a", "b", "c"], True, False)


def test_items_and_brackets_give_the_labels_by_key(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    store = LabelStore.open(uri)
    items = dict(store.items())
    assert list(items) == ["a", "b", "c"]
    for key, label in items.items():
        np.testing.assert_array_equal(label, run.labels[key])
        np.testing.assert_array_equal(store[key], label)


def test_versions_are_those_of_the_store_newest_first_whatever_version_is_open(uri: str, labels: Any) -> None:
    labels.fill(uri)
    first = LabelStore.open(uri).version
    labels.fill(uri, ["d"])
    versions = LabelStore.open(uri, first).versions()
    assert [(entry.images, entry.finished) for entry in versions] == [(4, True), (3, True)]
    assert versions[1].version == first
    assert len(LabelStore.open(uri).versions(progress=True)) > 2


def test_thresholds_are_those_that_every_label_has_evidence_for(uri: str, labels: Any) -> None:
    labels.fill(uri, threshold=0.9)
    assert LabelStore.open(uri).thresholds == tuple(float(value) for value in grid_with(0.9))
    labels.fill(uri, ["b"], threshold=0.123, relabel=True)
    assert LabelStore.open(uri).thresholds == tuple(float(value) for value in grid_with(0.9))
    labels.fill(uri, ["c"], evidence=False, threshold=0.5, relabel=True)
    assert LabelStore.open(uri).thresholds == ()


def test_where_finds_images_by_class_and_by_kept_share(uri: str, labels: Any) -> None:
    run = labels.fill(uri, "abcdefgh")
    store = LabelStore.open(uri)
    buses = {key: int((label == 4).sum()) for key, label in run.labels.items()}
    kept = {key: float((label != 255).mean()) for key, label in run.labels.items()}
    middle = sorted(kept.values())[4]
    assert store.where() == store.keys()
    assert store.where("bus") == [key for key in run.labels if buses[key]]
    assert store.where("bus", min_pixels=33) == [key for key in run.labels if buses[key] >= 33]
    assert store.where(min_kept=middle) == [key for key in run.labels if kept[key] >= middle]
    assert store.where("bus", max_kept=middle) == [key for key in run.labels if buses[key] and kept[key] <= middle]
    assert 0 < len(store.where("bus", min_pixels=33)) < 8
    assert 0 < len(store.where(min_kept=middle)) < 8


def test_a_path_opens_a_store_and_a_url_that_was_made_a_path_is_refused(uri: str, labels: Any) -> None:
    labels.fill(uri)
    assert LabelStore.open(Path(uri)).uri == uri
    with pytest.raises(ValueError, match="s3:/bucket/labels was a URL before it became a Path"):
        LabelStore.open(Path("s3://bucket/labels"))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda store: store.table(["widht"]), ValueError, "no column 'widht'; did you mean 'width'.*class_px"),
        (lambda store: store.where("buss"), ValueError, "no class 'buss'; did you mean 'bus'.*road, car, person, sky"),
        (
            lambda store: LabelStore.open(store.uri, 99),
            LabelMissing,
            "no version 99; the newest is 6.*finished ones: 3, 6$",
        ),
        (lambda store: LabelStore.open(store.uri, 3.5), ValueError, "a number such as 3, a tag or 'head'; got 3.5"),
        (lambda store: store.read("town_1"), LabelMissing, "no label for 'town_1'; did you mean 'val/town_1_left'"),
        (lambda store: store.read("zebra"), LabelMissing, r"no label for 'zebra' \(2 images\)"),
    ],
)
def test_a_wrong_name_is_told_what_there_is(uri: str, labels: Any, ask: Any, error: type, message: str) -> None:
    labels.fill(uri, ["a"])
    labels.fill(uri, ["val/town_1_left"])
    with pytest.raises(error, match=message):
        ask(LabelStore.open(uri))
