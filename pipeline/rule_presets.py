"""Named rules, and where each comes from. A preset begins anew: it inherits nothing of the rule that was there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named rule.

    Attributes:
        source: where it comes from, in one sentence.
        rule: what it says, by field of `RuleConfig`.
        needs: fields that have to be given beside it, and who makes what they take.
    """

    source: str
    rule: Mapping[str, Any]
    needs: Mapping[str, str] = field(default_factory=dict)


def _released(least_byte: int, source: str) -> Preset:
    """The rule of the code that was released with the paper.

    It stores a confidence p as a byte, trunc(255 p). In float32, trunc(255 p) >= k is p >= k / 255 for every k: the
    float32 next to k / 255 is never below it, and its neighbor always is.
    """
    rule = {
        "threshold": least_byte / 255,
        # Of Cityscapes, 1024 x 2048 px: rows 15 to 839 and columns 14 to 2029 count.
        "border_px": (15, 18, 184, 14),
        "class_polygons": {"truck": "seen", "bus": "seen", "train": "seen"},
    }
    return Preset(source=source, rule=rule)


PRESETS: Mapping[str, Preset] = {
    "paper-0.9": Preset(
        source="arXiv 2005.10821: the labels behind its mIoU of 85.1 on the Cityscapes test set.",
        rule={"threshold": 0.9},
    ),
    "released-code-0.5": _released(
        128,
        "The code released with arXiv 2005.10821; its authors found 0.5 better by about 0.05 IoU.",
    ),
    "released-code-0.9": _released(230, "The code released with arXiv 2005.10821, at the threshold of the paper."),
    "no-threshold": Preset(
        source="All that is predicted, as in the label files published with arXiv 2005.10821.",
        rule={"threshold": 0.0},
    ),
    "class-balanced": Preset(
        source="CBST (arXiv 1810.07911) with a cap, as in bidirectional learning (arXiv 1904.10620).",
        rule={"class_share": 0.5, "share_cap": 0.9},
    ),
    "calibrated": Preset(
        source="Thresholds by class that reach a precision on your own fine labels.",
        rule={},
        needs={"class_thresholds": "the JSON file of 'hmsa-label calibrate'"},
    ),
}
