"""From what a teacher says of an image to its label: the one way, for runs, predictions and explanations."""

from collections.abc import Mapping

import numpy as np

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.config import option_of
from hmsa_label.pipeline.data.ego_mask import ego_mask_of
from hmsa_label.pipeline.records import U8, LabeledImage, Wanted
from hmsa_label.pipeline.rules import DEFAULT_THRESHOLD, RuleConfig
from hmsa_label.stores.format.bounds import MASK, Bounds
from hmsa_label.stores.format.cut import Cut, cut
from hmsa_label.stores.format.rule import Rule


def cut_image(
    found: LabeledImage, rule: Rule, wanted: Wanted, classes: ClassTable, drawn: Mapping[str, U8] | None = None
) -> Cut:
    """The label of an image.

    Args:
        found: what a teacher said when it was asked for what is wanted. classes: its own.
        drawn: [H, W] arrays that people drew, by the names of the store: polygons, their growth, the rule's mask.

    Raises:
        ThresholdNotStored: a threshold of the rule is not among those that are wanted.
        ValueError: the rule needs what is not there, or is about other classes.
    """
    bounds = Bounds(
        names=tuple(classes.names),
        things=tuple(classes.things),
        thresholds=tuple(wanted.thresholds.tolist()),
        margins=() if wanted.margins is None else tuple(wanted.margins.tolist()),
        instances=found.instances,
        mean_confidence=found.mean_confidence,
    )
    return cut({**found.arrays, **(drawn or {})}, rule, bounds)


def wanted_for(rule: Rule) -> Wanted:
    """What a rule needs of a teacher, and the confidence."""
    return Wanted(
        thresholds=np.asarray(rule.thresholds, np.float32),
        margins=np.asarray([rule.margin], np.float32) if rule.margin else None,
        disagreement=rule.max_disagreement is not None,
        confidence=True,
    )


def rule_for_one_image(asked: RuleConfig) -> tuple[Rule, dict[str, U8]]:
    """The rule that is asked for, and its mask as `cut_image` takes it.

    Raises:
        ValueError: what it keeps of an image depends on all the others of a run, or it cannot be used.
        FileNotFoundError: the mask of the rule is not there.
    """
    mask = ego_mask_of(asked)
    rule = asked.over(Rule(DEFAULT_THRESHOLD), None if mask is None else mask.of)
    if rule.of_whole_set:
        raise ValueError(
            f"{option_of(rule.of_whole_set[0])} looks at all images of a run, and this is one; give thresholds instead"
        )
    return rule, {} if mask is None else {MASK: mask.pixels}
