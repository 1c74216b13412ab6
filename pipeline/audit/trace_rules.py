"""The rule of the labels that a student was trained on: what it recorded, and what the store says of it now."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hmsa_label.pipeline.audit.trace_links import BROKEN, OK, UNCHECKED, Link
from hmsa_label.pipeline.rule_names import rule_text
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.record import Run
from hmsa_label.stores.versions.label_store import LabelStore

Fields = dict[str, Any]  # what a rule says, as JSON has it; what is at its default is left out


def check_rules(part: str, store: LabelStore, auto: Mapping[str, Any]) -> list[Link]:
    """The rule of the version as its log and its rows have it, and the one that was trained on.

    Args:
        auto: what the checkpoint says of its labels.
    """
    if "trained_rule" not in auto:
        return [Link(part=part, check="rule", state=UNCHECKED, detail="the checkpoint does not say")]
    recorded = _fields(auto["labels_threshold"], auto["rule"])
    own = [_fields(store.commit.threshold, store.commit.rule), *_in_rows(store)]
    changes = dict(auto["rule_changes"])
    trained = _fields(auto["trained_rule"]["threshold"], auto["trained_rule"].get("rule"))
    told = {
        "threshold": auto["threshold"],
        **({"class_thresholds": found} if (found := auto["class_thresholds"]) else {}),
    }
    return [
        _link(part, "rule", own, recorded),
        _link(part, "rule of the training", [_changed(recorded, changes), {**trained, **told}], trained),
    ]


def check_rule_of_run(part: str, store: LabelStore, run: Run) -> Link:
    """Whether the labels of a run are by the rule that its record has."""
    return _link(part, f"rule of {run.id}", _in_rows(store, run.id), _fields(run.threshold, run.rule))


def _link(part: str, check: str, found: list[Fields], recorded: Fields) -> Link:
    differences = [text for own in found for text in _differences(own, recorded)]
    if differences:
        return Link(part=part, check=check, state=BROKEN, detail="; ".join(dict.fromkeys(differences)))
    more = {name: value for name, value in recorded.items() if name != "threshold"}
    return Link(part=part, check=check, state=OK, detail=rule_text(recorded["threshold"], more) or "not known")


def _differences(found: Fields, recorded: Fields) -> list[str]:
    """What differs, field by field."""
    return [
        f"{name} is {_spelled(found.get(name))}, recorded was {_spelled(recorded.get(name))}"
        for name in dict.fromkeys([*recorded, *found])
        if found.get(name) != recorded.get(name)
    ]


def _spelled(value: Any) -> str:
    return "not given" if value is None else json.dumps(value, sort_keys=True)


def _in_rows(store: LabelStore, run: str | None = None) -> list[Fields]:
    """The rules that images of a version, or those of one run in it, were labeled by."""
    rows = store.table(["threshold", "rule", "run"]).to_pylist()
    pairs = {(row["threshold"], row["rule"]) for row in rows if run in (None, row["run"])}
    return [_fields(threshold, Rule.parse(threshold, text).more) for threshold, text in sorted(pairs, key=str)]


def _changed(recorded: Fields, changes: Mapping[str, Any]) -> Fields:
    more = {name: value for name, value in recorded.items() if name != "threshold"}
    rule = replace(Rule.of(recorded["threshold"], more), **changes)
    return _fields(rule.threshold, rule.more)


def _fields(threshold: float | None, more: Mapping[str, Any] | None) -> Fields:
    return {"threshold": threshold, **json.loads(json.dumps(dict(more or {})))}
