"""Another rule for labels with instances: equal to a fresh run, without the teacher."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, StoreConflict
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from tests.stores.conftest import changed

FROM = {"threshold": 0.9, "center_threshold": 0.3}
RULES = [
    dict(zip(("threshold", "center_threshold", "instance_threshold"), values, strict=True))
    for values in itertools.product((0.5, 0.95), (0.0, 0.6), (0.0, 0.85))
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule.values())))
def test_labels_are_those_that_a_fresh_run_by_the_rule_makes(
    uri: str, tmp_path: Path, labels: Any, rule: dict[str, float]
) -> None:
    labels.fill(uri, panoptic=True, **FROM)
    labels.fill(str(tmp_path / "fresh"), panoptic=True, **rule)
    done = rethreshold(uri, Rule(**rule))
    fresh, store = LabelStore.open(str(tmp_path / "fresh")), LabelStore.open(uri)
    assert store.digest == fresh.digest == done.digest
    assert done.rule == Rule(**rule)
    for key in store:
        mine, theirs = store.receipt(key), fresh.receipt(key)
        assert (mine.threshold, mine.rule, mine.class_px) == (theirs.threshold, theirs.rule, theirs.class_px)
        assert mine.instances == theirs.instances
        assert (store.instances(key)[0] == fresh.instances(key)[0]).all()
    mine, theirs = (read_run(s.root, str(s.commit.run)) for s in (store, fresh))
    assert mine.fingerprint == theirs.fingerprint
    assert verify(uri) == []


def test_what_is_left_out_stays_as_it_was(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, **FROM)
    assert rethreshold(uri, 0.5).rule == Rule(0.5, 0.3)
    assert rethreshold(uri, changed(instance_threshold=0.8)).rule == Rule(0.5, 0.3, 0.8)
    assert rethreshold(uri, changed(center_threshold=0)).rule == Rule(0.5, 0.0, 0.8)
    assert [entry.rule for entry in store_log(uri)] == [
        {"center_threshold": 0.3},
        {"center_threshold": 0.3},
        {"center_threshold": 0.3, "instance_threshold": 0.8},
        {"instance_threshold": 0.8},
    ]
    rows = LabelStore.open(uri).table(["rule"])["rule"].to_pylist()
    assert rows == ['{"instance_threshold":0.8}'] * 3


def test_a_rule_in_force_changes_nothing_and_the_way_back_is_exact(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, **FROM)
    before = LabelStore.open(uri)
    assert rethreshold(uri, Rule(**FROM)).version == before.version
    rethreshold(uri, changed(center_threshold=0.7))
    assert LabelStore.open(uri).digest != before.digest
    rethreshold(uri, changed(center_threshold=0.3))
    assert LabelStore.open(uri).digest == before.digest
    rollback(uri, before.version)
    assert store_log(uri)[-1].rule == {"center_threshold": 0.3}


def test_the_same_teacher_may_go_on_by_the_new_rule_alone(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True)
    rethreshold(uri, changed(center_threshold=0.4))
    labels.fill(uri, ["z"], panoptic=True, center_threshold=0.4)
    assert len(LabelStore.open(uri)) == 4
    way = f"hmsa-label rethreshold --center-threshold 0 --instance-threshold 0.5 --store {uri}"
    with pytest.raises(StoreConflict, match=rf"\(threshold 0.9, center threshold 0.4, not 0.9, inst.*`{way}` changes"):
        labels.begin(uri, panoptic=True, instance_threshold=0.5)


def test_killed_midway_it_goes_on_where_it_stopped(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rethreshold(uri, changed(center_threshold=0.5), on_image=stop, threads=1)
    with pytest.raises(StoreConflict, match="unfinished run"):
        rethreshold(uri, changed(center_threshold=0.6))
    done = rethreshold(uri, changed(center_threshold=0.5))
    assert (done.images_done_before, done.images_labelled) == (2, 1)
    assert verify(uri) == []


def test_a_rule_on_instances_is_refused_for_labels_without_any(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(ValueError, match=r"center threshold needs instances, and 3 of 3 images .* \(such as a\)"):
        rethreshold(uri, changed(center_threshold=0.5))
    with pytest.raises(ValueError, match=r"rule.instance_threshold must be a number from 0 to 1; it is 1\.5"):
        rethreshold(uri, changed(instance_threshold=1.5))
    assert Manifest(uri).head().version == 3


def test_a_damaged_map_of_instances_is_named(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True)
    path = Path(uri) / LabelStore.open(uri).receipt("b").path_of("instance")
    path.write_bytes(path.read_bytes()[:-4] + b"0000")
    with pytest.raises(LabelCorrupt, match="1 of 3 images have damaged evidence: b"):
        rethreshold(uri, changed(center_threshold=0.5))


def test_the_metadata_of_a_segment_says_the_rule(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, **FROM)
    for path in sorted(Path(uri).glob("data/2*/zarr.json")) + sorted(Path(uri).glob("data/2*/*/label/zarr.json")):
        attributes = json.loads(path.read_text())["attributes"]
        assert (attributes["threshold"], attributes["rule"]) == (0.9, {"center_threshold": 0.3})
