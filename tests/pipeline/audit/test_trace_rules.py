"""A rule that changed anywhere between a store and a student breaks the chain, in a line that names the field."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.pipeline.audit.trace_links import BROKEN, OK, UNCHECKED
from hmsa_label.pipeline.audit.trace_rules import check_rule_of_run, check_rules
from hmsa_label.stores.format.rule import MaskOf, Rule
from hmsa_label.stores.runs.record import Run, read_run
from hmsa_label.stores.versions.label_store import LabelStore
from tests.pipeline.panoptic_store import one_image

MASK = MaskOf("ab" * 32, 4, 4)
# Another value of each field of a rule.
OTHER: dict[str, Any] = {
    "threshold": 0.5,
    "class_thresholds": {"car": "off"},
    "center_threshold": 0.4,
    "instance_threshold": 0.2,
    "margin": 0.1,
    "max_disagreement": 1,
    "border_px": (0, 0, 1, 0),
    "mask": MASK,
    "polygons": "veto",
    "class_polygons": {"car": "seen"},
    "grow_px": 2,
    "best_by": "kept_share",
    "best_from": 0.1,
    "class_share": 0.4,
    "best_share": 0.5,
    "share_cap": 0.8,
}


def test_every_field_of_a_rule_is_tried() -> None:
    assert set(OTHER) == {field.name for field in fields(Rule)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LabelStore:
    rule = Rule(0.9, class_thresholds={"road": 0.5}, center_threshold=0.3)
    return one_image(tmp_path_factory.mktemp("rules"), rule)


def recorded(store: LabelStore, rule: Rule | None = None, **changes: Any) -> dict[str, Any]:
    """What a checkpoint says of a training on the store's labels, if they are by a rule."""
    rule = rule or store.rule(store.keys()[0])
    trained = Rule(**{**vars(rule), **changes})
    return {
        "labels_threshold": rule.threshold,
        "rule": rule.more or None,
        "rule_changes": changes,
        "trained_rule": json.loads(json.dumps(trained.settings)),
        "threshold": trained.threshold,
        "class_thresholds": changes.get("class_thresholds") or {},
    }


def test_an_unchanged_rule_is_told_in_words(store: LabelStore) -> None:
    version, training = check_rules("labels", store, recorded(store))
    assert (version.state, training.state) == (OK, OK)
    assert version.detail == "0.9, center threshold 0.3, class thresholds (road 0.5)"
    changed = check_rules("labels", store, recorded(store, threshold=0.5, class_thresholds={"car": "off"}))
    assert [link.state for link in changed] == [OK, OK]
    assert changed[1].detail == "0.5, center threshold 0.3, class thresholds (car off)"


@pytest.mark.parametrize("field", OTHER)
def test_a_field_that_the_store_has_otherwise_breaks_the_chain_by_its_name(store: LabelStore, field: str) -> None:
    own = store.rule(store.keys()[0])
    version, _ = check_rules("labels", store, recorded(store, Rule(**{**vars(own), field: OTHER[field]})))
    assert version.state == BROKEN
    assert version.detail.startswith(f"{field} is ")
    assert ", recorded was " in version.detail


@pytest.mark.parametrize("field", OTHER)
def test_a_field_that_a_run_s_record_has_otherwise_breaks_the_chain(store: LabelStore, field: str) -> None:
    run, own = read_run(store.root, str(store.commit.run)), store.rule(store.keys()[0])
    assert check_rule_of_run("run", store, run).state == OK
    settings = {"settings": Rule(**{**vars(own), field: OTHER[field]}).settings}
    link = check_rule_of_run("run", store, Run(id=run.id, record={**run.record, **settings}, sha256=run.sha256))
    assert (link.state, link.check) == (BROKEN, f"rule of {run.id}")
    assert link.detail.startswith(f"{field} is ")


@pytest.mark.parametrize("field", OTHER)
def test_a_training_by_another_rule_than_its_changes_make_breaks_the_chain(store: LabelStore, field: str) -> None:
    own = store.rule(store.keys()[0])
    auto = recorded(store)
    auto["trained_rule"] = json.loads(json.dumps(Rule(**{**vars(own), field: OTHER[field]}).settings))
    version, training = check_rules("labels", store, auto)
    assert (version.state, training.state) == (OK, BROKEN)
    assert training.detail.startswith(f"{field} is ")


def test_a_threshold_that_is_told_otherwise_breaks_the_chain(store: LabelStore) -> None:
    training = check_rules("labels", store, {**recorded(store), "threshold": 0.5})[1]
    assert (training.state, training.detail) == (BROKEN, "threshold is 0.5, recorded was 0.9")


def test_rows_by_several_rules_break_the_chain(tmp_path: Path, store: LabelStore) -> None:
    other = one_image(tmp_path, Rule(0.5))
    assert check_rules("labels", other, recorded(store))[0].state == BROKEN


def test_a_checkpoint_without_a_rule_is_not_checked(store: LabelStore) -> None:
    (link,) = check_rules("labels", store, {"threshold": 0.9})
    assert link.state == UNCHECKED
