"""Named rules: what each preset says of a rule, by field of `RuleConfig`. A preset begins anew; it inherits nothing."""

from collections.abc import Mapping
from typing import Any

# trunc(255 p) >= 128 or 230 is how the released code compares the confidence p that it stored as a byte. Its mask is of
# Cityscapes, 1024 x 2048 px; its large vehicles count wherever the teacher sees one in the image.
_RELEASED = {
    "border_px": (15, 18, 184, 14),
    "class_polygons": {"truck": "seen", "bus": "seen", "train": "seen"},
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper-0.9": {"threshold": 0.9},
    "released-code-0.5": {"threshold": 128 / 255, **_RELEASED},
    "released-code-0.9": {"threshold": 230 / 255, **_RELEASED},
    "no-threshold": {"threshold": 0.0},
    "class-balanced": {"class_share": 0.5, "share_cap": 0.9},
    "calibrated": {},
}
# Fields that a preset cannot do without, and who makes what they take.
NEEDS: Mapping[str, Mapping[str, str]] = {
    "calibrated": {"class_thresholds": "the JSON file of 'hmsa-label calibrate'"},
}
