"""`calibration.json`: what was written comes back, and nothing that cannot be does."""

import json
from dataclasses import replace

import pytest

from hmsa_label.pipeline.calibrate.file import FILE, read_calibration, write_calibration
from hmsa_label.pipeline.calibrate.records import (
    Calibration,
    ClassCalibration,
    CurvePoint,
    HeldOutClass,
    HeldOutPart,
    HeldOutReport,
    ReliabilityBin,
)


def point(threshold: float, kept_share: float) -> CurvePoint:
    return CurvePoint(
        threshold=threshold,
        kept_px=int(1000 * kept_share),
        precision=0.97,
        precision_low=0.96,
        precision_high=0.98,
        kept_share=kept_share,
        found=0.5,
        iou=0.7,
    )


def one_class(pixels: int, predicted_px: int, threshold: float | str | None) -> ClassCalibration:
    return ClassCalibration(
        pixels=pixels,
        predicted_px=predicted_px,
        images=3,
        curve=[point(0.0, 1.0), point(0.5, 0.75), point(0.9, 0.25)],
        bins=[ReliabilityBin(low=0.5, high=0.9, pixels=10, confidence=0.7, precision=0.6, precision_low=None,
                             precision_high=None)],
        ece=0.1,
        temperature=1.5,
        target=0.95,
        threshold=threshold,
        reason="it is at most 0.7 precise" if threshold == "off" else None,
    )  # fmt: skip


@pytest.fixture
def found() -> Calibration:
    """Three classes: one with a threshold, one that is off, one that is never predicted."""
    classes = {"road": one_class(300, 1000, 0.5), "pole": one_class(100, 50, "off"), "train": one_class(0, 0, "off")}
    held_out = HeldOutClass(
        threshold=0.5,
        pixels=9,
        kept_px=8,
        precision=1.0,
        precision_low=None,
        precision_high=None,
        kept_share=0.5,
        target=0.95,
        reached=True,
        sure=None,
    )
    return Calibration(
        hmsa_label="1",
        made_at="2026-01-01T00:00:00Z",
        teacher={"sha256": "a" * 64},
        data="/data",
        dataset="cityscapes",
        split="val",
        labels="gtFine",
        images=4,
        images_trained_on=0,
        drawn="4 images",
        confidence=0.95,
        grid=[0.5, 0.9],
        target_precision=0.95,
        all=one_class(400, 1050, 0.9),
        classes=classes,
        class_thresholds={"road": 0.5, "pole": "off", "train": "off"},
        report=HeldOutReport(
            split_by="cities",
            classes={"road": held_out},
            parts=[HeldOutPart(name="city a", images=2, classes={"road": held_out})],
        ),
    )


def test_what_was_written_is_read_back_from_the_file_and_from_its_folder(found, tmp_path):
    place = write_calibration(found, tmp_path / "new/folder")
    assert place.endswith(f"new/folder/{FILE}")
    assert read_calibration(place) == read_calibration(tmp_path / "new/folder") == found


def test_kept_shares_are_those_at_the_chosen_thresholds(found):
    assert found.kept_shares == {"road": 0.75, "pole": 0.0}  # nothing is predicted as train
    assert found.kept_share_at("road", 0.9) == 0.25
    assert found.kept_share_at("road", "off") == 0.0
    assert found.kept_share_at("road", 0.8) is None
    assert found.kept_share_at("train", 0.9) is None


def test_class_shares_are_those_of_the_fine_labels(found):
    assert found.class_shares == {"road": 0.75, "pole": 0.25, "train": 0.0}


def test_calibration_without_a_target_has_neither_thresholds_nor_kept_shares(found, tmp_path):
    open_ended = {name: replace(one, target=None, threshold=None) for name, one in found.classes.items()}
    without = replace(found, classes=open_ended, class_thresholds={}, target_precision=None, report=None)
    assert read_calibration(write_calibration(without, tmp_path)) == without
    assert without.kept_shares == {}


def test_keys_of_a_later_version_are_passed_over(found, tmp_path):
    document = found.to_dict() | {"new": 1}
    document["classes"]["road"]["new"] = 2
    (tmp_path / FILE).write_text(json.dumps(document))
    assert read_calibration(tmp_path) == found


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.pop("kind"), "no calibration"),
        (lambda d: d.pop("grid"), "'grid'"),
        (lambda d: d["class_thresholds"].update(road=1.0), "class_thresholds.road"),
        (lambda d: d["class_thresholds"].update(road="never"), "class_thresholds.road"),
        (lambda d: d["class_thresholds"].update(moon=0.5), "'moon'"),
        (lambda d: d["classes"]["pole"]["curve"][1].update(precision=2), "classes.pole.curve[1].precision"),
        (lambda d: d["classes"].update(road=[]), "classes.road"),
        (lambda d: d["report"]["parts"][0]["classes"]["road"].update(kept_px=-1), "kept_px"),
        (lambda d: d.update(classes=[]), "classes"),
    ],
)
def test_file_that_cannot_be_is_refused_by_the_name_of_the_value(found, tmp_path, change, named):
    document = found.to_dict()
    change(document)
    (tmp_path / FILE).write_text(json.dumps(document))
    with pytest.raises(ValueError, match="calibration") as error:
        read_calibration(tmp_path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_file_that_is_no_json_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no calibration .*nothing\.json; make one"):
        read_calibration(tmp_path / "nothing.json")
    (tmp_path / "cut.json").write_text('{"kind": ')
    with pytest.raises(ValueError, match=r"cut\.json does not read as JSON"):
        read_calibration(tmp_path / "cut.json")
