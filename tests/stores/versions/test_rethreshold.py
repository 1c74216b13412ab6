"""Another threshold without the teacher: exact, whole or not at all, resumable, evidence left where it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, StoreConflict, ThresholdNotStored
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.layout import chunk_path
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold


@pytest.mark.parametrize("threshold", [0.5, 0.95, 0.99])
def test_labels_are_those_that_a_run_at_the_threshold_makes(
    uri: str, tmp_path: Path, labels: Any, threshold: float
) -> None:
    labels.fill(uri)
    done = rethreshold(uri, threshold)
    labels.fill(str(tmp_path / "direct"), threshold=threshold)
    direct, store = LabelStore.open(str(tmp_path / "direct")), LabelStore.open(uri)
    assert store.digest == direct.digest == done.digest
    assert (done.version, done.images_total, done.images_labelled) == (store.version, 3, 3)
    mine, theirs = store.receipt("b"), direct.receipt("b")
    assert (mine.class_px, mine.valid_px, mine.kept_share) == (theirs.class_px, theirs.valid_px, theirs.kept_share)
    assert mine.threshold == threshold


def test_a_threshold_of_the_runs_own_is_reached_too(uri: str, labels: Any) -> None:
    labels.fill(uri, threshold=0.93)
    rethreshold(uri, 0.9)
    rethreshold(uri, 0.93)
    assert LabelStore.open(uri).digest == LabelStore.open(uri, 3).digest


def test_evidence_stays_where_it_is(uri: str, labels: Any) -> None:
    labels.fill(uri)
    before = LabelStore.open(uri)
    rethreshold(uri, 0.5)
    after = LabelStore.open(uri)
    for key in after:
        old, new = before.receipt(key), after.receipt(key)
        assert (new.evidence_segment, new.evidence_row) == (old.segment, old.row)
        assert new.segment != old.segment
        top1, code, grid = after.read_evidence(key)
        np.testing.assert_array_equal(after.read(key), label_at(top1, code, level_of(0.5, grid)))
    folder = Path(uri) / "data" / after.receipt("a").segment / "16x24"
    assert sorted(path.name for path in folder.iterdir()) == ["label", "zarr.json"]
    assert verify(uri) == []


def test_the_old_version_keeps_its_labels(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    rethreshold(uri, 0.5)
    np.testing.assert_array_equal(LabelStore.open(uri, 3).read("a"), run.labels["a"])


def test_the_log_says_what_was_done(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rethreshold(uri, 0.5, provenance={"command": "hmsa-label rethreshold"})
    entry = store_log(uri)[-1]
    assert (entry.kind, entry.threshold, entry.parent, entry.teacher_sha256) == (
        "rethreshold",
        0.5,
        3,
        "a" * 64,
    )


def test_the_same_teacher_may_go_on_at_the_new_threshold(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rethreshold(uri, 0.5)
    labels.fill(uri, ["z"], threshold=0.5)
    assert set(LabelStore.open(uri).table()["threshold"].to_pylist()) == {0.5}
    with pytest.raises(StoreConflict, match=r"threshold 0.5, not 0.9"):
        labels.begin(uri)


def test_killed_midway_it_goes_on_where_it_stopped(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a", "b", "c", "d"])

    def stop_after_two(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rethreshold(uri, 0.5, on_image=stop_after_two, threads=1)
    assert LabelStore.open(uri).version == 3
    with pytest.raises(StoreConflict, match="unfinished run"):
        rethreshold(uri, 0.6)
    done = rethreshold(uri, 0.5)
    assert (done.images_done_before, done.images_labelled) == (2, 2)
    assert set(LabelStore.open(uri).table()["threshold"].to_pylist()) == {0.5}
    assert verify(uri) == []


def test_a_threshold_in_force_changes_nothing(uri: str, labels: Any) -> None:
    labels.fill(uri)
    done = rethreshold(uri, 0.9)
    assert (done.version, done.images_labelled, done.images_done_before) == (3, 0, 3)


def test_a_threshold_off_the_grid_is_refused_before_anything_is_written(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(ThresholdNotStored, match=r"0.42 is not among the stored ones"):
        rethreshold(uri, 0.42)
    assert LabelStore.open(uri, "head").version == 3


def test_labels_without_evidence_are_refused_with_the_way_out(uri: str, labels: Any) -> None:
    labels.fill(uri, evidence=False)
    with pytest.raises(ValueError, match=r"3 of 3 images .* have no stored evidence \(such as a\).*--evidence"):
        rethreshold(uri, 0.5)


def damage(uri: str, key: str) -> None:
    """Changes two bytes of an image's codes."""
    receipt = LabelStore.open(uri).receipt(key)
    path = Path(uri) / chunk_path(str(receipt.evidence_segment), receipt.height, receipt.width, "code", receipt.row)
    body = bytearray(path.read_bytes())
    body[-6:-4] = bytes(byte ^ 0xFF for byte in body[-6:-4])
    path.write_bytes(bytes(body))


def test_damaged_evidence_is_named_whole_and_no_run_stays_open(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a", "b", "c", "d"])
    damage(uri, "b")
    damage(uri, "d")
    match = r"2 of 4 images have damaged evidence: b, d \(b: code .*`hmsa-label run --keys b,d --relabel`"
    for threshold in (0.5, 0.6):
        with pytest.raises(LabelCorrupt, match=match):
            rethreshold(uri, threshold)
    assert Manifest(uri).head().commit.open_runs == ()
    assert LabelStore.open(uri).version == 3
    labels.fill(uri, ["e"])  # every later run begins
    labels.fill(uri, ["b", "d"], relabel=True)
    assert rethreshold(uri, 0.5).images_labelled == 5
    assert verify(uri) == []


def test_an_error_on_the_way_closes_the_run_too(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a", "b", "c", "d"])

    def fail(done: int, total: int) -> None:
        raise OSError("the storage is away")

    with pytest.raises(OSError, match="the storage is away"):
        rethreshold(uri, 0.5, on_image=fail, threads=1)
    assert Manifest(uri).head().commit.open_runs == ()
    rethreshold(uri, 0.6)
    assert verify(uri) == []


@pytest.mark.parametrize("threshold", ["0.5", None, True, [0.5], float("nan"), 1.0, -0.5])
def test_a_threshold_that_is_none_is_refused_before_anything_is_written(uri: str, labels: Any, threshold: Any) -> None:
    labels.fill(uri)
    with pytest.raises(ValueError, match=r"(the )?threshold must be a number (such as 0.9|from 0 to below 1)"):
        rethreshold(uri, threshold)
    assert Manifest(uri).head().version == 3
