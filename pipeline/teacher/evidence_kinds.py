"""Kinds of evidence that not every teacher can give, and the refusal of those that a teacher cannot."""

from collections.abc import Collection, Mapping
from typing import Any

from hmsa_label.labelers.base import LOGITS, PROBABILITIES
from hmsa_label.pipeline.config import DISAGREEMENT, TOP2

MOST_VIEWS = 253  # a count of them is stored in 8 bits


def refuse_evidence(kinds: Collection[str], teacher: Mapping[str, Any]) -> None:
    """Refuses evidence that a teacher cannot give, before anything is labeled.

    Args:
        kinds: those that are to be stored, or that the rule needs; others than `TOP2` and `DISAGREEMENT` are passed by.
        teacher: its `info`.

    Raises:
        ValueError: naming the teacher, why it cannot, and what to leave out.
    """
    name, views = teacher.get("model"), teacher.get("views", 1)
    if TOP2 in kinds and teacher.get("gives") not in (LOGITS, PROBABILITIES):
        raise ValueError(
            f"the teacher {name} gives {teacher.get('gives')}, the best class alone, so there is no runner-up and no "
            "margin; leave top2 out of --evidence and --margin away"
        )
    if DISAGREEMENT in kinds and views < 2:
        raise ValueError(
            f"the teacher {name} takes its labels from a single prediction, so nothing can disagree; ask it for more "
            "views by its own options (sizes, mirror images), or leave disagreement out of --evidence and "
            "--max-disagreement away"
        )
    if DISAGREEMENT in kinds and views > MOST_VIEWS:
        raise ValueError(
            f"the teacher {name} has {views} views, and at most {MOST_VIEWS} can be counted; use fewer, or leave "
            "disagreement out of --evidence and --max-disagreement away"
        )
