"""What is asked of a rule: how values are read, and what they make of the rule that is there."""

import json

import pytest

from hmsa_label.pipeline import rules
from hmsa_label.pipeline.rule_presets import PRESETS
from hmsa_label.pipeline.rules import RuleConfig, refuse_unknown_classes
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MAX_LEVELS, spelled
from hmsa_label.stores.format.rule import KEPT_SHARE, MAX_GROW_PX, MEAN_CONFIDENCE, MaskOf, Rule

MASK = MaskOf("0" * 64, 24, 40)
RICH = Rule(
    0.7,
    center_threshold=0.2,
    class_thresholds={"road": 0.95, "pole": "off"},
    margin=0.1,
    max_disagreement=1,
    border_px=(1, 2, 3, 4),
    mask=MASK,
    polygons="add",
    class_polygons={"truck": "seen"},
    grow_px=2,
)


def test_a_threshold_is_taken_as_it_is_listed() -> None:
    for value in DEFAULT_GRID:
        text = spelled(value)
        asked = RuleConfig(threshold=text, class_thresholds=f"road={text}")  # type: ignore[arg-type]
        assert asked.over(Rule(0.9)) == Rule(value, class_thresholds={"road": value})
    for wrong in ("128/0", "/255", "1/2/3", "0.5/2"):
        with pytest.raises(ValueError, match="--threshold must be a number such as"):
            RuleConfig(threshold=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"class_thresholds": "road=0.9,pole=off"}, {"road": 0.9, "pole": "off"}),
        ({"class_thresholds": " traffic light = 0.5 "}, {"traffic light": 0.5}),
        ({"class_thresholds": {"road": 0, "pole": False}}, {"road": 0.0, "pole": "off"}),  # YAML reads off as false
        ({"class_thresholds": False}, {}),
        ({"class_polygons": "truck=seen,bus=veto"}, {"truck": "seen", "bus": "veto"}),
        ({"class_polygons": {"truck": False}}, {"truck": "off"}),
        ({"border_px": "15,18,184,14"}, (15, 18, 184, 14)),
        ({"border_px": [1, 2, 3, 4]}, (1, 2, 3, 4)),
        ({"border_px": 5}, (5, 5, 5, 5)),
        ({"border_px": "off"}, (0, 0, 0, 0)),
        ({"max_disagreement": "2"}, 2),
        ({"max_disagreement": "OFF"}, "off"),
        ({"class_share": "0.5"}, 0.5),
        ({"polygons": False}, "off"),
    ],
)
def test_value_is_read_from_text_and_from_yaml(given, expected):
    ((name, _),) = given.items()
    assert getattr(RuleConfig(**given), name) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"threshold": 1.0}, "--threshold must lie between 0 and 1, 1 excluded; got 1.0"),
        ({"threshold": -0.1}, "--threshold must lie between 0 and 1"),
        ({"threshold": float("nan")}, "--threshold must lie between 0 and 1"),
        ({"threshold": True}, "--threshold must be a number such as 0.9; got True"),
        ({"margin": "wide"}, "--margin must be a number"),
        ({"center_threshold": 1.5}, "--center-threshold must lie between 0 and 1; got 1.5"),
        ({"max_disagreement": 1.5}, "--max-disagreement must be a whole number; got 1.5"),
        ({"max_disagreement": 254}, "--max-disagreement must lie between 0 and 253"),
        ({"grow_px": 17}, "--grow-px must lie between 0 and 16; got 17"),
        ({"border_px": "1,2"}, "--border takes four widths in pixels"),
        ({"border_px": "1,2,3,x"}, "--border must be a number"),
        ({"class_thresholds": "road=high"}, "--class-thresholds: road must be a number such as 0.9; got 'high'"),
        ({"class_thresholds": "road=1"}, "--class-thresholds: road must lie between 0 and 1, 1 excluded"),
        ({"class_thresholds": "road=0.9,=0.5"}, "--class-thresholds takes NAME=NUMBER"),
        ({"class_thresholds": "road=0.9,road=0.8"}, "names 'road' twice"),
        ({"class_thresholds": ["road"]}, "--class-thresholds takes NAME=NUMBER"),
        ({"class_thresholds": ""}, "--class-thresholds takes NAME=NUMBER such as .*; got ''"),
        ({"class_polygons": "truck=sometimes"}, "--class-polygons: truck must be one of off, trust, add, veto, seen"),
        ({"polygons": "tust"}, "--polygons must be one of off, trust, add, veto, seen; got 'tust'"),
        ({"preset": "paper"}, "--preset must be one of .*; got 'paper'; did you mean 'paper-0.9'"),
        ({"preset": "calibrated"}, "the preset calibrated needs --class-thresholds"),
        ({"best_by": "size"}, "--best-by must be one of mean_confidence, kept_share"),
        ({"class_share": 0}, "--class-share must lie between 0 and 1, 0 excluded"),
        ({"ego_mask": ""}, "--ego-mask takes the path or URL of a PNG file"),
        ({"ego_mask": "s3://key:secret@bucket/mask.png"}, "credentials"),
    ],
)
def test_bad_value_is_refused_in_one_line_that_names_the_option(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        RuleConfig(**given)
    assert "\n" not in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {"road": 0.9, "pole": "off"},
        {"kind": "hmsa-label calibration", "classes": {}, "class_thresholds": {"road": 0.9, "pole": "off"}},
    ],
)
def test_class_thresholds_come_from_a_json_file(tmp_path, document):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(document))
    for place in (path, str(path), f"file://{path}", f"{tmp_path}/"):  # of a folder that of `calibrate`
        assert RuleConfig(class_thresholds=place).class_thresholds == {"road": 0.9, "pole": "off"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it does not read: "),
        ("[1]", "it holds no thresholds"),
        ("{}", "it holds no thresholds"),
        ('{"road": null}', "--class-thresholds: road must be a number"),
        ('{"kind": "hmsa-label calibration", "class_thresholds": {}}', "calibrate with --target-precision"),
    ],
)
def test_file_without_thresholds_is_refused(tmp_path, text, message):
    (tmp_path / "thresholds.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        RuleConfig(class_thresholds=tmp_path / "thresholds.json")


def test_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--class-thresholds: there is no file .*none\.json"):
        RuleConfig(class_thresholds=tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="written NAME=NUMBER"):
        RuleConfig(class_thresholds="road")
    with pytest.raises(FileNotFoundError, match="--class-thresholds: there is no file"):
        RuleConfig(class_thresholds=f"file://{tmp_path}")


def test_nothing_given_leaves_every_rule_as_it_is():
    assert RuleConfig().is_empty
    assert RuleConfig().over(RICH) == RICH


def test_what_is_given_goes_over_the_rule_that_is_there():
    asked = RuleConfig(threshold=0, class_thresholds={"sky": 0.5}, margin=0.2, border_px=3, polygons="trust")
    rule = asked.over(RICH)
    assert (rule.threshold, rule.class_thresholds, rule.margin) == (0.0, {"sky": 0.5}, 0.2)
    assert (rule.border_px, rule.polygons) == ((3, 3, 3, 3), "trust")
    assert (rule.center_threshold, rule.class_polygons, rule.mask) == (0.2, {"truck": "seen"}, MASK)


def test_off_takes_away_what_is_there():
    off = dict.fromkeys(("class_thresholds", "max_disagreement", "border_px", "ego_mask", "class_polygons"), "off")
    rule = RuleConfig(**off, margin=0, center_threshold=0, grow_px=0, polygons="off").over(RICH)
    assert rule == Rule(0.7)


def test_mask_goes_into_the_rule_by_its_digest():
    assert RuleConfig(ego_mask="mask.png").over(Rule(0.9), MASK) == Rule(0.9, mask=MASK)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_begins_anew_and_the_rest_goes_over_it(name):
    more = {"class_thresholds": {"road": 0.8}} if name == "calibrated" else {}
    fresh = RuleConfig(preset=name, **more).over(Rule(0.9))
    assert RuleConfig(preset=name, **more).over(RICH) == fresh
    assert RuleConfig(preset=name, **more, margin=0.3).over(RICH).margin == 0.3


def test_released_code_s_preset_is_its_rule():
    rule = RuleConfig(preset="released-code-0.9").over(Rule(0.9))
    assert rule.threshold == 230 / 255
    assert rule.border_px == (15, 18, 184, 14)
    assert (rule.polygons, rule.class_polygons) == ("off", {"truck": "seen", "bus": "seen", "train": "seen"})


def test_growth_needs_polygons_that_give_labels():
    assert RuleConfig(grow_px=3, polygons="add").over(Rule(0.9)).grow_px == 3
    for modes in ({}, {"polygons": "veto"}, {"class_polygons": {"road": "off"}}):
        with pytest.raises(ValueError, match="--grow-px lets polygons grow, and none gives labels"):
            RuleConfig(grow_px=3, **modes).over(Rule(0.9))
    assert RuleConfig(polygons="off", class_polygons="off").over(RICH).grow_px == 0


def test_share_of_classes_drops_the_thresholds_that_it_will_choose_anew():
    rule = RuleConfig(class_share=0.5).over(RICH)
    assert (rule.class_share, rule.share_cap, rule.class_thresholds) == (0.5, 0.9, {})
    assert RuleConfig(class_share=0.5, share_cap=0.8).over(RICH).share_cap == 0.8
    for own in ({"threshold": 0.5}, {"class_thresholds": {"road": 0.5}}):
        with pytest.raises(ValueError, match=r"--class-share chooses the threshold of each class.*leave --"):
            RuleConfig(class_share=0.5, **own).over(Rule(0.9))


def test_thresholds_of_one_s_own_end_the_share_of_classes():
    chosen = Rule(0.9, class_thresholds={"road": 0.6, "sky": 0.5}, class_share=0.5, share_cap=0.9, margin=0.1)
    assert RuleConfig(threshold=0.7).over(chosen) == Rule(0.7, margin=0.1)
    assert RuleConfig(class_share="off").over(chosen) == Rule(0.9, margin=0.1)
    own = RuleConfig(class_thresholds={"road": 0.8}).over(chosen)
    assert own == Rule(0.9, class_thresholds={"road": 0.8}, margin=0.1)
    assert RuleConfig(margin=0.2).over(chosen).class_thresholds == chosen.class_thresholds
    again = RuleConfig(share_cap=0.7).over(chosen)
    assert (again.class_share, again.share_cap, again.class_thresholds) == (0.5, 0.7, {})


def test_best_images_are_ordered_by_a_score():
    best = RuleConfig(best_share=0.5).over(Rule(0.9))
    assert (best.best_share, best.best_by, best.best_from) == (0.5, "mean_confidence", 0.0)
    found = Rule(0.9, best_share=0.5, best_by="mean_confidence", best_from=0.8)
    assert RuleConfig(margin=0.1).over(found).best_from == 0.8
    assert RuleConfig(best_by="kept_share").over(found) == Rule(0.9, best_share=0.5, best_by="kept_share")
    assert RuleConfig(best_share="off").over(found) == Rule(0.9)


@pytest.mark.parametrize(
    ("given", "message"), [({"share_cap": 0.8}, "--share-cap"), ({"best_by": "kept_share"}, "--best-by")]
)
def test_part_of_a_share_without_the_share_is_refused(given, message):
    with pytest.raises(ValueError, match=f"{message} .*; give that too"):
        RuleConfig(**given).over(Rule(0.9))


def test_unknown_class_is_refused_with_the_nearest_one():
    names = ("road", "traffic light", "pole")
    refuse_unknown_classes(Rule(0.9, class_thresholds={"pole": "off"}), names)
    with pytest.raises(
        ValueError, match=r"--class-thresholds: there is no class 'trafic light'; did you mean 'traffic"
    ):
        refuse_unknown_classes(Rule(0.9, class_thresholds={"trafic light": 0.5}), names)
    with pytest.raises(
        ValueError, match="--class-polygons: there is no class 'zebra'; there are road, traffic light, pole"
    ):
        refuse_unknown_classes(Rule(0.9, class_polygons={"zebra": "seen"}), names)


def test_settings_have_the_bounds_of_the_rule() -> None:
    assert rules.SCORES == (MEAN_CONFIDENCE, KEPT_SHARE)
    assert (rules.MAX_GROW_PX, rules.MAX_DISAGREEMENT) == (MAX_GROW_PX, MAX_LEVELS)
