"""What a run keeps of what its teacher predicts: the rule that decides the label, and whether evidence stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hmsa_label.labelers.base import PANOPTIC
from hmsa_label.pipeline.config import LabelConfig, option_of
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a prediction becomes what is stored.

    Attributes:
        thresholds: the stored ones, ascending; that of the rule is among them.
        keep_evidence: whether what the label was cut from is stored beside it.
    """

    rule: Rule
    thresholds: tuple[float, ...]
    keep_evidence: bool


def rule_of(config: LabelConfig) -> Rule:
    """What decides which pixels of a run become labels; its settings are fields of the config."""
    return Rule(config.threshold, config.center_threshold, config.instance_threshold)


def keeping_of(config: LabelConfig) -> Keeping:
    """What a run keeps."""
    rule = rule_of(config)
    return Keeping(rule=rule, thresholds=grid_with(rule.thresholds), keep_evidence=config.keep_evidence)


def refuse_rule_on_instances(rule: Rule, teacher: Mapping[str, Any]) -> None:
    """Refuses a rule on instances for a teacher that tells none apart.

    Args:
        teacher: a worker's info.

    Raises:
        ValueError: naming the option.
    """
    if rule.of_instances and teacher.get("gives") != PANOPTIC:
        raise ValueError(
            f"{option_of(rule.of_instances[0])} needs instances, and the teacher {teacher.get('model')} tells none "
            "apart; leave it out, or label with a panoptic teacher"
        )
