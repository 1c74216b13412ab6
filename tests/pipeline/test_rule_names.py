"""How rules are said to people."""

import pytest

from hmsa_label.pipeline.rule_names import NAMED, rule_name, rule_phrase, rule_text
from hmsa_label.pipeline.rule_presets import PRESETS
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.format.rule import Rule


def said(rule: Rule) -> tuple[str | None, str | None, str | None]:
    return tuple(say(rule.threshold, rule.more or None) for say in (rule_name, rule_text, rule_phrase))  # type: ignore[return-value]


@pytest.mark.parametrize("name", NAMED)
def test_a_preset_is_named(name: str) -> None:
    assert said(RuleConfig(preset=name).over(Rule(0.9)))[0] == name


def test_every_preset_is_named_or_a_number_or_differs_from_case_to_case() -> None:
    assert set(PRESETS) - set(NAMED) == {"paper-0.9", "calibrated"}


def test_a_settled_preset_is_the_preset_and_told_in_full() -> None:
    rule = Rule(0.9, class_share=0.5, share_cap=0.9, class_thresholds={"pole": 0.4})
    assert said(rule)[0] == "class-balanced"
    assert said(rule)[2] == f"by the rule class-balanced: {rule}"


def test_a_number_is_a_threshold() -> None:
    assert said(Rule(0.9)) == ("0.9", "0.9", "at threshold 0.9")
    assert said(Rule(0.0)) == ("no-threshold", "0", "at threshold 0")
    assert said(Rule(128 / 255))[0] == "128/255"


def test_other_rules_are_told_as_far_as_there_is_room() -> None:
    assert said(Rule(0.8, margin=0.1))[0] == "0.8, margin 0.1"
    long = Rule(0.8, margin=0.1, polygons="trust", grow_px=3)
    assert said(long)[:2] == ("0.8 and 3 more", str(long))
    assert str(Rule(0.5, best_share=0.5, best_by="kept_share", best_from=0.9238940762976805)).startswith(
        "0.5, best images by kept share, best from 0.923894"
    )


def test_what_is_no_rule_is_told_as_it_stands() -> None:
    assert rule_text(0.9, {"of_later": 3}) == "0.9, of_later 3"
    assert rule_text(None, None) is rule_name(None, None) is rule_phrase(None, None) is None
