"""What a run keeps of what its teacher predicts: the rule that decides the label, and the evidence that stays."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hmsa_label.labelers.base import PANOPTIC
from hmsa_label.pipeline.config import (
    CONFIDENCE,
    DISAGREEMENT,
    EVIDENCE,
    GROWTH,
    NO_EVIDENCE,
    TOP2,
    LabelConfig,
    option_of,
)
from hmsa_label.pipeline.data.ego_mask import EgoMask, ego_mask_of
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.records import Wanted
from hmsa_label.pipeline.rules import DEFAULT_THRESHOLD, takes_polygons
from hmsa_label.stores.format import bounds as names
from hmsa_label.stores.format.evidence import MARGIN_GRID, grid_with
from hmsa_label.stores.format.rule import MEAN_CONFIDENCE, Rule
from hmsa_label.stores.images.source import ImageRef

# The arrays of an image that each kind of evidence consists of, where the image has them.
ARRAYS_OF = {
    CONFIDENCE: (names.TOP1, names.CODE, names.POLYGON),
    TOP2: (names.TOP2, names.MARGIN),
    DISAGREEMENT: (names.DISAGREEMENT,),
    GROWTH: (names.GROWN, names.GROWN_PX),
}


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a prediction becomes what is stored.

    Attributes:
        evidence: kinds that are stored beside the label; `none` or `confidence` and more.
        thresholds: of the confidence, that codes count, ascending; those of the rule are among them.
        margins: that codes of the margin count, ascending; empty if no margin is asked for.
        disagreement, growth: whether the views of the teacher are counted, and polygons grown.
        ego_mask: pixels of the rule's mask; None if it has none.
        leads_to: the rule that looks at the whole set, if `rule` is the first step to it.
    """

    rule: Rule
    evidence: tuple[str, ...]
    thresholds: tuple[float, ...]
    margins: tuple[float, ...] = ()
    disagreement: bool = False
    growth: bool = False
    ego_mask: EgoMask | None = field(default=None, compare=False)
    leads_to: Rule | None = None

    @property
    def keeps_evidence(self) -> bool:
        return NO_EVIDENCE not in self.evidence

    @property
    def stored(self) -> frozenset[str]:
        """Names of the arrays that stay, where an image has them. Instances always do."""
        return frozenset({names.INSTANCE, *(name for kind in self.evidence for name in ARRAYS_OF.get(kind, ()))})

    @property
    def kinds_asked(self) -> list[str]:
        """Kinds of evidence that not every teacher can give, and this run needs."""
        return [TOP2] * bool(self.margins) + [DISAGREEMENT] * self.disagreement

    @property
    def wanted(self) -> Wanted:
        """What a teacher is asked for."""
        return Wanted(
            thresholds=np.asarray(self.thresholds, np.float32),
            margins=np.asarray(self.margins, np.float32) if self.margins else None,
            disagreement=self.disagreement,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that says how labels are cut, and what is kept."""
        return {**self.rule.settings, "evidence": list(self.evidence)}


def keeping_of(config: LabelConfig) -> Keeping:
    """What a run keeps. Evidence that its rule needs is kept as well, unless none is to be.

    Raises:
        FileNotFoundError: the mask of the rule is not there.
        ValueError: the rule cannot be used.
    """
    mask = ego_mask_of(config.rule)
    has_confidence = not isinstance(config.teacher, ImportConfig) or config.teacher.has_confidence
    base = Rule(DEFAULT_THRESHOLD if has_confidence else 0.0)
    rule = config.rule.over(base, None if mask is None else mask.of)
    if not has_confidence:
        refuse_confidence(rule)
    needed = {TOP2: rule.margin > 0, DISAGREEMENT: rule.max_disagreement is not None, GROWTH: rule.grow_px > 0}
    asked = {kind for kind in EVIDENCE if kind in config.evidence or needed.get(kind)}
    return Keeping(
        rule=rule,
        evidence=(NO_EVIDENCE,) if NO_EVIDENCE in asked else tuple(kind for kind in EVIDENCE if kind in asked),
        thresholds=grid_with(rule.thresholds) if has_confidence else (),
        margins=grid_with(rule.margin, MARGIN_GRID) if TOP2 in asked else (),
        disagreement=DISAGREEMENT in asked,
        growth=GROWTH in asked,
        ego_mask=mask,
    )


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


def refuse_confidence(rule: Rule) -> None:
    """Refuses a rule about confidence for labels that came without any.

    Raises:
        ValueError: naming the option.
    """
    asked = {
        "--threshold": rule.threshold,
        "--class-thresholds": rule.thresholds,
        "--class-share": rule.class_share,
        "--best-by mean_confidence": rule.best_by == MEAN_CONFIDENCE,
    }
    if found := next((option for option, value in asked.items() if value), None):
        raise ValueError(
            f"{found} asks for the confidence of pixels, and these labels have none; leave it out, or name their files "
            "of confidences with --confidence-files"
        )


def refuse_without_polygons(keeping: Keeping, images: Collection[ImageRef], root: str) -> None:
    """Refuses a rule that takes polygons, or evidence of their growth, where no image has any.

    Images without polygons among others that have some are fine: there is nothing to add to them.

    Raises:
        ValueError: naming the option and the way out.
    """
    if any(image.coarse is not None for image in images):
        return
    if takes_polygons(keeping.rule):
        option = "--polygons" if keeping.rule.polygons != "off" else "--class-polygons"
        raise ValueError(f"{option} takes polygons, and {_none_has(images, root)}, or leave {option} away")
    if keeping.growth:
        raise ValueError(f"--evidence growth grows polygons, and {_none_has(images, root)}, or leave growth out")


def _none_has(images: Collection[ImageRef], root: str) -> str:
    return f"none of the {len(images)} images of {root} has any; name their label type with --coarse-labels"
