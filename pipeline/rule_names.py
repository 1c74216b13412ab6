"""A rule as people name it: by its preset where it is one, else by what it says."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from hmsa_label.pipeline.rules import DEFAULT_THRESHOLD, RuleConfig
from hmsa_label.stores.format.evidence import spelled
from hmsa_label.stores.format.rule import Rule

# Of the presets, those that say more than a number does.
NAMED = ("no-threshold", "class-balanced", "released-code-0.5", "released-code-0.9")
SHORT = 18  # characters of a cell

More = Mapping[str, Any] | None


def rule_text(threshold: float | None, more: More) -> str | None:
    """All that decides which pixels become labels, in one line; None if nobody knows.

    Args:
        more: what decides beside the threshold, as records and JSON have it. What is no rule is told as it stands.
    """
    if threshold is None:
        return None
    try:
        rule = Rule.of(threshold, more)
    except (ValueError, TypeError):
        others = more.items() if isinstance(more, Mapping) else []
        return ", ".join([str(threshold), *(f"{name} {value}" for name, value in others)])
    name = _preset_of(rule) if more else None
    return f"{name}: {rule}" if name else str(rule)


def rule_phrase(threshold: float | None, more: More) -> str | None:
    """How pixels were kept, to end a sentence: `at threshold 0.9`, or `by the rule 0.9, margin 0.1`."""
    text = rule_text(threshold, more)
    return text and (f"by the rule {text}" if more else f"at threshold {text}")


def rule_name(threshold: float | None, more: More) -> str | None:
    """The rule in a few words, as for a table: its preset, or its threshold and how much more there is."""
    text = rule_text(threshold, more)
    if text is None or threshold is None:
        return None
    name, colon, _ = text.partition(":")
    if colon and name in NAMED:
        return name
    if not more and threshold == 0:
        return "no-threshold"
    return text if len(text) <= SHORT else f"{spelled(threshold)} and {len(more or {})} more"


def _preset_of(rule: Rule) -> str | None:
    """The preset that a rule is, settled or not; None if it is none."""
    if rule.class_share is not None:
        rule = replace(rule, class_thresholds={})
    return next((name for name, preset in _presets().items() if preset == rule), None)


@cache
def _presets() -> dict[str, Rule]:
    return {name: RuleConfig(preset=name).over(Rule(DEFAULT_THRESHOLD)) for name in NAMED}
