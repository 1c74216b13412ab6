"""The options of a rule, which decides what predicted pixels become labels: one table for all commands."""

from hmsa_label.cli.given import Setting
from hmsa_label.cli.parameters import AsGiven, Threshold
from hmsa_label.pipeline import DEFAULT_THRESHOLD, POLYGON_MODES, PRESETS, SCORES, SHARE_CAP

BY_CLASS = AsGiven("NAME=NUMBER,...|FILE", mapping=True)
RULE = (
    Setting("preset", "--preset", "Named rule to begin with.", tuple(PRESETS)),
    Setting("threshold", "--threshold",
            "Confidence below which a pixel is left out (255); 0 keeps all.  "
            f"[default: {DEFAULT_THRESHOLD}; rethreshold: that of the labels]",
            kind=Threshold()),
    Setting("class_thresholds", "--class-thresholds",
            "Thresholds of single classes, road=0.9,pole=off, or a JSON file such as calibrate's.",
            kind=BY_CLASS),
    Setting("margin", "--margin", "Difference of the two highest probabilities below which a pixel is left out."),
    Setting("max_disagreement", "--max-disagreement",
            "Most views of the teacher (its scales, mirror images) that may see another class.",
            kind=AsGiven("N|off")),
    Setting("center_threshold", "--center-threshold", "Center score below which an instance is left out (255)."),
    Setting("instance_threshold", "--instance-threshold", "Mean confidence below which an instance is left out."),
    Setting("border_px", "--border", "Pixels at the edges to leave out: top,right,bottom,left.",
            kind=AsGiven("PIXELS,...")),
    Setting("ego_mask", "--ego-mask", "PNG file or URL; pixels that are not 0 there are left out.",
            kind=AsGiven("FILE|off")),
    Setting("polygons", "--polygons",
            "What polygons drawn by hand do: trust, their class counts; add, where there is no label; veto, labels of "
            "another class go; seen, trust where the teacher sees the class in the image.",
            POLYGON_MODES),
    Setting("class_polygons", "--class-polygons",
            "The same for polygons of single classes, such as truck=seen,bus=seen.",
            kind=AsGiven("NAME=MODE,...", mapping=True)),
    Setting("grow_px", "--grow-px", "Pixels by which polygons grow into what is not labeled."),
    Setting("class_share", "--class-share", "Keep this share of each class, its surest pixels.",
            kind=AsGiven("SHARE|off")),
    Setting("share_cap", "--share-cap", f"Highest threshold that follows from --class-share.  [default: {SHARE_CAP}]"),
    Setting("best_share", "--best-share", "Keep this share of the images, the best ones.",
            kind=AsGiven("SHARE|off")),
    Setting("best_by", "--best-by", f"Which images are the best.  [default: {SCORES[0]}]", SCORES),
)  # fmt: skip
