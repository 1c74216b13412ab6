"""Runs: what readers see during one, resuming, adopting, replacing, and refusing to mix."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format import layout
from hmsa_label.stores.runs.record import read_outcomes
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rollback import rollback


def test_readers_see_a_run_only_when_it_is_finished(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    run = labels.begin(uri)
    run.writer.append([run.write("b")])
    during = LabelStore.open(uri)
    run.writer.append([run.write("c")])
    version = run.writer.finish()
    assert during.keys() == ["a"]
    assert LabelStore.open(uri).keys() == ["a", "b", "c"]
    assert LabelStore.open(uri).version == version
    assert LabelStore.open(uri, during.version).keys() == ["a"]


def test_progress_is_there_for_those_who_ask_for_the_head(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    assert LabelStore.open(uri).keys() == []
    assert LabelStore.open(uri, "head").keys() == ["a"]


def test_an_interrupted_run_resumes_as_the_same_run(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    first.writer.append([first.write("a")])
    first.writer.finish(interrupted=True)
    second = labels.begin(uri)
    assert second.writer.run_id == first.writer.run_id
    assert second.writer.resumed
    assert second.writer.done_keys() == {"a"}
    second.writer.append([second.write("b")])
    second.writer.finish()
    assert LabelStore.open(uri).keys() == ["a", "b"]


def test_a_run_killed_without_a_word_resumes_too(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    first.writer.append([first.write("a")])
    second = labels.begin(uri)
    assert second.writer.run_id == first.writer.run_id
    assert second.writer.done_keys() == {"a"}


def test_a_finished_run_is_not_resumed_but_added_to(uri: str, labels: Any) -> None:
    first = labels.fill(uri, ["a"])
    second = labels.fill(uri, ["b"])
    assert second.writer.run_id != first.writer.run_id
    assert LabelStore.open(uri).keys() == ["a", "b"]


def test_interrupted_before_the_first_image_leaves_nothing_open(uri: str, labels: Any) -> None:
    labels.begin(uri).writer.finish(interrupted=True)
    labels.fill(uri, threshold=0.5)
    assert len(LabelStore.open(uri)) == 3


def test_rows_whose_receipt_was_lost_are_adopted(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    first.writer.append([first.write("a")])
    first.write("b")
    first.write("c")
    second = labels.begin(uri)
    assert second.writer.adopt() == 2
    assert second.writer.done_keys() == {"a", "b", "c"}
    second.writer.finish()
    np.testing.assert_array_equal(LabelStore.open(uri).read("b"), first.labels["b"])


@pytest.mark.parametrize("name", ["label", "top1", "code"])
def test_a_damaged_row_is_not_adopted(uri: str, labels: Any, name: str) -> None:
    first = labels.begin(uri)
    receipt = first.write("a")
    path = Path(uri) / layout.chunk_path(receipt.segment, 16, 24, name, receipt.row)
    path.write_bytes(path.read_bytes()[:-1])
    assert labels.begin(uri).writer.adopt() == 0


def test_a_row_without_pixels_or_with_a_broken_receipt_is_not_adopted(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    gone, broken, whole = (first.write(key) for key in "abc")
    (Path(uri) / layout.chunk_path(gone.segment, 16, 24, "label", gone.row)).unlink()
    (Path(uri) / layout.receipt_path(broken.segment, broken.row)).write_text('{"key": "b"')
    second = labels.begin(uri)
    assert second.writer.adopt() == 1
    assert second.writer.done_keys() == {whole.key}


def test_of_several_rows_of_an_image_a_sound_one_is_adopted(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    damaged, sound = first.write("a", seed=1), first.write("a", seed=2)
    (Path(uri) / layout.chunk_path(damaged.segment, 16, 24, "label", damaged.row)).unlink()
    second = labels.begin(uri)
    assert second.writer.adopt() == 1
    second.writer.finish()
    assert LabelStore.open(uri).receipt("a").row == sound.row


def test_the_first_receipt_of_an_image_wins(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    first, second = run.write("a", seed=1), run.write("a", seed=2)
    run.writer.append([first, second])
    run.writer.append([second])
    run.writer.finish()
    assert LabelStore.open(uri).receipt("a").row == first.row


def test_the_same_job_started_twice_labels_each_image_once(uri: str, labels: Any) -> None:
    one, two = labels.begin(uri), labels.begin(uri)
    one.writer.append([one.write("a"), one.write("b")])
    two.writer.append([two.write("b"), two.write("c")])
    one.writer.finish()
    two.writer.append([two.write("a"), two.write("d")])
    two.writer.finish()
    store = LabelStore.open(uri)
    assert store.keys() == ["a", "b", "c", "d"]
    assert store.table().num_rows == 4
    assert store.receipt("b").segment == one.segment.segment


def test_a_run_that_changes_nothing_makes_no_version(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    version = LabelStore.open(uri).version
    run = labels.begin(uri)
    assert run.writer.finish() == version
    assert LabelStore.open(uri).version == version


def test_splits_are_separate_runs_of_one_label_set(uri: str, labels: Any) -> None:
    train, extra = labels.begin(uri, split="train"), labels.begin(uri, split="extra")
    assert train.writer.run_id != extra.writer.run_id
    train.writer.append([train.write("a")])
    extra.writer.append([extra.write("b")])
    train.writer.finish()
    extra.writer.finish()
    assert LabelStore.open(uri).keys() == ["a", "b"]


def test_other_settings_are_refused_while_a_run_is_on(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    with pytest.raises(
        StoreConflict, match=r"unfinished run .* differs in teacher_sha256.*audit rollback 0"
    ) as refusal:
        labels.begin(uri, teacher="b")
    assert run.writer.run_id in str(refusal.value)
    run.writer.append([run.write("a")])
    run.writer.finish()
    assert LabelStore.open(uri).keys() == ["a"]


def test_another_teacher_is_refused_with_the_ways_out(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(StoreConflict, match=r"teacher_sha256: aaa.* there, bbb.* here.*--relabel .*--store"):
        labels.begin(uri, teacher="b")


def test_another_threshold_alone_points_to_rethreshold(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(StoreConflict, match=r"threshold 0.9, not 0.95.*hmsa-label rethreshold --threshold 0.95"):
        labels.begin(uri, threshold=0.95)


def test_relabeling_makes_a_version_and_leaves_the_old_one(uri: str, labels: Any) -> None:
    old = labels.fill(uri, ["a", "b", "c"])
    before = LabelStore.open(uri)
    new = labels.fill(uri, ["b", "d"], teacher="b", relabel=True, seed=77)
    store = LabelStore.open(uri)
    assert store.keys() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(store.read("b"), new.labels["b"])
    np.testing.assert_array_equal(store.read("a"), old.labels["a"])
    for reader in (before, LabelStore.open(uri, before.version)):
        assert reader.keys() == ["a", "b", "c"]
        np.testing.assert_array_equal(reader.read("b"), old.labels["b"])
    assert (store.commit.kind, store.commit.parent) == ("relabel", before.version)


def test_a_relabeling_appears_whole_or_not_at_all(uri: str, labels: Any) -> None:
    old = labels.fill(uri)
    new = labels.begin(uri, teacher="b", relabel=True)
    new.writer.append([new.write("a", seed=77)])
    assert LabelStore.open(uri, "head").receipt("a").run == old.writer.run_id
    again = labels.begin(uri, teacher="b", relabel=True)
    assert again.writer.run_id == new.writer.run_id
    assert again.writer.adopt() == 1
    assert again.writer.done_keys() == {"a"}
    again.writer.append([again.write("b", seed=78)])
    again.writer.finish()
    store = LabelStore.open(uri)
    np.testing.assert_array_equal(store.read("a"), new.labels["a"])
    np.testing.assert_array_equal(store.read("b"), again.labels["b"])
    np.testing.assert_array_equal(store.read("c"), old.labels["c"])


def test_a_driver_that_looks_after_another_one_finished_the_relabeling_finds_all_of_it(uri: str, labels: Any) -> None:
    labels.fill(uri)
    one, two = (labels.begin(uri, teacher="b", relabel=True) for _ in range(2))
    two.writer.append([two.write("c", seed=79)])
    one.writer.append([one.write("a", seed=77), one.write("b", seed=78)])
    assert one.writer.adopt() == 1
    version = one.writer.finish()
    assert two.writer.adopt() == 2
    assert two.writer.done_keys() == {"a", "b", "c"}
    assert two.writer.finish() == version


def test_after_a_relabeling_the_new_settings_go_on(uri: str, labels: Any) -> None:
    labels.fill(uri)
    labels.fill(uri, ["a"], teacher="b", relabel=True)
    labels.fill(uri, ["z"], teacher="b")
    assert "z" in LabelStore.open(uri)
    with pytest.raises(StoreConflict, match="holds labels made with other settings"):
        labels.begin(uri)


def test_a_relabeling_waits_for_an_unfinished_run(uri: str, labels: Any) -> None:
    labels.begin(uri)
    with pytest.raises(StoreConflict, match="unfinished run"):
        labels.begin(uri, relabel=True)


def test_many_small_commits_end_as_one_file(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    for number in range(10):
        run.writer.append([run.write(f"k{number}")])
    run.writer.finish()
    head = run.writer.manifest.head()
    assert len(head.files) == 1
    assert head.table().num_rows == 10


def test_a_run_after_the_way_back_to_nothing_begins_anew(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rollback(uri, 0)
    labels.fill(uri, ["z"])
    assert LabelStore.open(uri).keys() == ["z"]


def test_after_another_writers_commits_only_their_files_are_read(
    uri: str, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = labels.begin(uri), labels.begin(uri, split="val")
    for number in range(3):
        one.writer.append([one.write(f"k{number}")])
    other.writer.append([other.write("z0")])
    one.writer.append([one.write("k3")])
    other.writer.append([other.write("z1")])
    read, rows = FileRoot.read, []

    def recorded(root: FileRoot, path: str) -> bytes:
        rows.extend([path] if path.endswith(".parquet") else [])
        return read(root, path)

    monkeypatch.setattr(FileRoot, "read", recorded)
    one.writer.append([one.write("k4"), one.write("z0")])
    assert len(rows) == 2  # of its own last commit and of the other's
    assert one.writer.done_keys() == {"k0", "k1", "k2", "k3", "k4", "z0", "z1"}


def test_the_outcome_of_every_attempt_is_kept(uri: str, labels: Any) -> None:
    first = labels.begin(uri)
    first.writer.append([first.write("a")])
    first.writer.finish([{"key": "x", "reason": "truncated"}], 2.5, interrupted=True)
    second = labels.begin(uri)
    version = second.writer.finish(seconds=1.0)
    one, two = read_outcomes(second.writer.root, second.writer.run_id, second.writer.manifest.log())
    assert (one["images_labelled"], one["failures"], one["interrupted"], one["seconds"]) == (
        1,
        [{"key": "x", "reason": "truncated"}],
        True,
        2.5,
    )
    assert (two["images_labelled"], two["interrupted"], two["version"]) == (0, False, version)


def test_the_log_of_the_table_never_expires(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    configuration = DeltaTable(run.writer.manifest.uri).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"


def test_a_run_needs_its_settings(uri: str, labels: Any, classes: dict[str, Any]) -> None:
    from hmsa_label.stores.runs.writer import RunWriter

    LabelStore.create(uri, classes)
    with pytest.raises(ValueError, match="needs `settings`"):
        RunWriter(uri, {})


def test_the_record_of_a_run_is_what_was_given(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    record = json.loads((Path(uri) / "runs" / f"{run.writer.run_id}.json").read_text())
    assert record["settings"]["threshold"] == 0.9
    assert record["data"]["split"] == "train"
    assert record["kind"] == "label"
    assert record["fingerprint"] == run.writer.run.fingerprint
