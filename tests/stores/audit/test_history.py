"""The audit trail: log, show, tags, roll back."""

import json
from typing import Any

import numpy as np
import pytest
from deltalake import DeltaTable

from hmsa_label.stores.audit.card_facts import card_facts
from hmsa_label.stores.audit.history import show
from hmsa_label.stores.errors import LabelMissing, NotAStore, StoreConflict
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, tags
from tests.stores.conftest import CLASSES


def test_log_lists_finished_versions_oldest_first(uri: str, labels: Any) -> None:
    first = labels.fill(uri)
    second = labels.fill(uri, ["a"], teacher="b", threshold=0.8, relabel=True)
    one, two = store_log(uri)
    assert (one.kind, one.parent, one.images, one.run) == ("label", None, 3, first.writer.run_id)
    assert (two.kind, two.parent, two.threshold) == ("relabel", one.version, 0.8)
    assert (one.teacher_sha256, two.teacher_sha256) == ("a" * 64, "b" * 64)
    assert two.run == second.writer.run_id
    for entry in (one, two):
        assert entry.finished
        assert entry.digest == LabelStore.open(uri, entry.version).digest
    json.dumps([one.to_dict(), two.to_dict()])


def test_log_shows_where_an_unfinished_run_stands(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    run.writer.append([run.write("b")])
    (entry,) = store_log(uri)
    assert (entry.finished, entry.images, entry.run, entry.digest) == (False, 2, run.writer.run_id, None)
    assert [entry.kind for entry in store_log(uri, progress=True)] == ["create", "begin", "progress", "progress"]


def test_log_of_a_new_store_is_empty_and_of_no_store_an_error(uri: str, classes: dict[str, Any]) -> None:
    with pytest.raises(NotAStore):
        store_log(uri)
    LabelStore.create(uri, classes)
    assert store_log(uri) == []


def test_log_outlives_foreign_maintenance_of_the_table(uri: str, labels: Any) -> None:
    labels.fill(uri)
    labels.fill(uri, ["d"])
    before = store_log(uri)
    delta = DeltaTable(f"{uri}/manifest")
    delta.optimize.compact()
    delta.create_checkpoint()
    delta.cleanup_metadata()
    delta.vacuum(dry_run=False)
    assert store_log(uri) == before
    assert LabelStore.open(uri).keys() == ["a", "b", "c", "d"]
    assert LabelStore.open(uri, before[0].version).keys() == ["a", "b", "c"]
    labels.fill(uri, ["e"])
    assert LabelStore.open(uri).keys() == ["a", "b", "c", "d", "e"]


def test_show_tells_a_version_whole(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    shown = show(uri)
    pixels = np.concatenate([label.ravel() for label in run.labels.values()])
    summary = shown.summary
    assert summary.images == 3
    assert summary.kept_share == (pixels != 255).mean()
    assert summary.class_px["car"] == int((pixels == 1).sum())
    assert summary.sizes == {"16x24": 3}
    assert summary.mean_confidence == pytest.approx(0.8)
    assert shown.runs[0]["settings"]["threshold"] == 0.9
    assert shown.runs[0]["outcomes"][0]["images_labelled"] == 3
    assert shown == show(uri, str(shown.version))
    json.dumps(shown.to_dict())


def test_show_tells_an_image_through_the_versions(uri: str, labels: Any) -> None:
    labels.fill(uri)
    labels.fill(uri, ["d"])
    labels.fill(uri, ["b"], teacher="b", relabel=True, seed=99)
    shown = show(uri, "b")
    assert [change.kind for change in shown.history] == ["label", "relabel"]
    assert shown.history[1].label_sha256 == shown.row["label_sha256"]
    assert set(shown.row["class_px"]) == {"road", "car", "person", "sky", "bus"}


def test_show_of_something_unknown_says_so(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(LabelMissing, match=r"no version or tag 'zebra'.*no version holds an image of that key"):
        show(uri, "zebra")


def test_a_tag_opens_its_version_for_ever(uri: str, labels: Any) -> None:
    old = labels.fill(uri)
    tag(uri, "paper", message="figure 3")
    labels.fill(uri, ["a"], teacher="b", relabel=True, seed=99)
    np.testing.assert_array_equal(LabelStore.open(uri, "paper").read("a"), old.labels["a"])
    assert [(entry.name, entry.version, entry.message) for entry in tags(uri)] == [("paper", 3, "figure 3")]
    assert store_log(uri)[0].tags == ["paper"]


def test_a_tag_never_moves(uri: str, labels: Any) -> None:
    labels.fill(uri)
    tag(uri, "paper")
    labels.fill(uri, ["d"])
    with pytest.raises(StoreConflict, match="'paper' names version 3 and never moves"):
        tag(uri, "paper")
    with pytest.raises(StoreConflict, match="never moves"):
        tag(uri, "paper", 3, "another message")


def test_a_tag_set_again_on_its_version_is_no_error_and_no_commit(uri: str, labels: Any) -> None:
    labels.fill(uri)
    made = tag(uri, "paper", message="figure 3")
    head = Manifest(uri).head().version
    assert tag(uri, "paper", 3) == tag(uri, "paper", "v3", "figure 3") == tag(uri, "paper", "paper") == made
    assert Manifest(uri).head().version == head


@pytest.mark.parametrize("name", ["12", "v12", "head", "", "a/b", "../x", "a b"])
def test_a_tag_that_could_be_something_else_is_refused(uri: str, labels: Any, name: str) -> None:
    labels.fill(uri, ["a"])
    with pytest.raises(ValueError, match="cannot be a tag"):
        tag(uri, name)


def test_progress_cannot_be_tagged(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    version = run.writer.append([run.write("a")])
    with pytest.raises(ValueError, match="unfinished progress"):
        tag(uri, "early", version)


def test_roll_back_is_a_new_version_with_the_old_labels(uri: str, labels: Any) -> None:
    old = labels.fill(uri)
    first = LabelStore.open(uri)
    new = labels.fill(uri, ["a", "d"], teacher="b", relabel=True, seed=99)
    second = LabelStore.open(uri)
    version = rollback(uri, first.version, "teacher b was bad")
    store = LabelStore.open(uri)
    assert store.version == version
    assert (store.keys(), store.digest) == (first.keys(), first.digest)
    np.testing.assert_array_equal(store.read("a"), old.labels["a"])
    np.testing.assert_array_equal(LabelStore.open(uri, second.version).read("d"), new.labels["d"])
    entry = store_log(uri)[-1]
    assert (entry.kind, entry.restores, entry.note) == ("rollback", first.version, "teacher b was bad")
    labels.fill(uri, ["e"])  # the settings of the old version are those that may go on
    assert rollback(uri, second.version) > version
    assert LabelStore.open(uri).digest == second.digest


def test_roll_back_discards_an_unfinished_run(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    run = labels.begin(uri)
    run.writer.append([run.write("b")])
    rollback(uri, 3)
    assert LabelStore.open(uri, "head").keys() == ["a"]
    with pytest.raises(StoreConflict, match="replaced or rolled back"):
        run.writer.append([run.write("c")])
    labels.fill(uri, ["d"], threshold=0.8, relabel=True)


def test_roll_back_of_a_relabeling_stops_it(uri: str, labels: Any) -> None:
    labels.fill(uri)
    run = labels.begin(uri, relabel=True, teacher="b")
    run.writer.append([run.write("a")])
    rollback(uri, 3)
    with pytest.raises(StoreConflict, match="discarded by a roll back"):
        run.writer.finish()


def test_roll_back_to_the_empty_store_lets_anything_begin(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rollback(uri, 0)
    assert LabelStore.open(uri).keys() == []
    labels.fill(uri, ["z"], teacher="b")
    assert LabelStore.open(uri).keys() == ["z"]


def test_roll_back_to_where_the_store_is_does_nothing(uri: str, labels: Any) -> None:
    labels.fill(uri)
    assert rollback(uri, 3) == 3
    assert len(store_log(uri)) == 1
    labels.fill(uri, ["a"], teacher="b", relabel=True, seed=99)
    again = rollback(uri, 3)
    head = Manifest(uri).head().version
    assert rollback(uri, 3) == rollback(uri, again) == again  # what the newest version holds already, as a copy
    assert Manifest(uri).head().version == head


def test_roll_back_takes_a_tag_as_well_as_a_number(uri: str, labels: Any) -> None:
    first = labels.fill(uri)
    tag(uri, "paper")
    for name in ("paper", "v3", "3"):
        labels.fill(uri, ["a"], teacher=name[0], relabel=True, seed=99)
        rollback(uri, name)
        np.testing.assert_array_equal(LabelStore.open(uri).read("a"), first.labels["a"])
    with pytest.raises(LabelMissing, match="no version or tag 'vv3'; tags: paper"):
        rollback(uri, "vv3")


def test_roll_back_to_progress_or_nowhere_is_refused(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(ValueError, match="version 2 is unfinished progress"):
        rollback(uri, 2)
    with pytest.raises(LabelMissing, match="no version 44"):
        rollback(uri, 44)


def test_card_holds_the_facts_of_a_version(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    run.writer.finish([{"key": "x", "reason": "truncated"}])
    facts = card_facts(uri)
    assert [entry.name for entry in facts.classes] == ["road", "car", "person", "sky", "bus"]
    assert sum(entry.pixels for entry in facts.classes) == facts.summary.valid_px
    assert facts.failed == [{"key": "x", "reason": "truncated"}]
    assert facts.sources == [{"dataset": "folder", "root": "/images", "split": "train"}]
    json.dumps(facts.to_dict())


def test_show_tells_the_rule_and_the_instances_that_it_keeps(uri: str, labels: Any, drawn: Any) -> None:
    labels.fill(uri, panoptic=True, center_threshold=0.5)
    version, image = show(uri), show(uri, "a")
    assert version.rule == {"center_threshold": 0.5}
    assert version.summary.rules == {"0.9, center threshold 0.5": 3}
    found = [one for key in "abc" for one in drawn(ord(key)).instances if one.center_score >= 0.5]
    things = {name: [one.train_id for one in found].count(n) for n, name in enumerate(CLASSES["names"]) if n % 3}
    assert version.summary.class_instances == things
    assert image.row["rule"] == '{"center_threshold":0.5}'
    assert [entry["kept"] for entry in image.row["instances"]] == [
        one.center_score >= 0.5 for one in drawn(ord("a")).instances
    ]
    assert image.row["instances"][0]["class"] == CLASSES["names"][drawn(ord("a")).instances[0].train_id]
    assert image.history[0].rule == '{"center_threshold":0.5}'
    assert card_facts(uri).summary == version.summary
    json.dumps([version.to_dict(), image.to_dict()])


def test_labels_without_instances_are_summed_up_without(uri: str, labels: Any) -> None:
    labels.fill(uri)
    summary = show(uri).summary
    assert (summary.rules, summary.class_instances) == ({}, None)
