"""`hmsa-label calibrate`: the table, the object, and what is refused."""

import json
import shutil

import pytest

from hmsa_label import LabelStore, read_calibration
from tests.fake_teacher import fake_arguments


@pytest.fixture
def street(labeled_tree, tmp_path):
    """A tree with a store `labels` of its validation images in it."""
    shutil.copytree(labeled_tree, tmp_path / "street", ignore=shutil.ignore_patterns("labels"))
    return tmp_path / "street"


def asked(street, *more):
    return ("calibrate", "--data", street, *fake_arguments(), "--resamples", 100, *more)


def test_table_fits_a_terminal_and_names_thresholds_and_reasons(call, street):
    result = call(*asked(street, "--target-precision", 0.25, "--output", street / "out"))
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines()[:-4])) <= 100
    assert "all classes" in result.stdout
    assert "Warning: nothing records what the teacher was trained on" in result.stderr
    found = read_calibration(street / "out")
    for name, one in found.classes.items():
        if one.predicted_px and one.threshold == "off":
            assert any(line.startswith(name) and str(one.reason) in line for line in result.stdout.splitlines())


def test_table_without_a_target_shows_precision_at_some_thresholds(call, street):
    result = call(*asked(street))
    assert "at 0.95" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-3])) <= 100
    assert not (street / "out").exists()


def test_object_is_that_of_the_file(call_json, street):
    printed = call_json(*asked(street, "--target-precision", 0.25, "--output", street / "out"))
    assert printed == json.loads((street / "out/calibration.json").read_text())
    assert printed["target_precision"] == 0.25


def test_store_takes_the_place_of_a_teacher(call, call_json, street):
    arguments = ("run", "--data", street, "--split", "val", "--store", street / "val", *fake_arguments())
    assert call(*arguments, "--executor", "local", "--workers", 1).exit_code == 0
    found = call_json("calibrate", "--data", street, "--store", street / "val", "--resamples", 100)
    assert found["stores"] == [{"store": str(street / "val"), "version": LabelStore.open(street / "val").version,
                                "digest": LabelStore.open(street / "val").digest}]  # fmt: skip
    assert found["all"]["curve"] == call_json(*asked(street))["all"]["curve"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--weights"),
        (("--store", "x", "--weights", "y"), "--weights is of no use with --store; give one of them"),
        (("--store", "x", "--scales", "1.0"), "--scales is of no use with --store"),
        (("--store", "x"), "no label store"),
        ((*fake_arguments(), "--target-precision", "98%"), "neither a number nor a file"),
        ((*fake_arguments(), "--target-precision", "1.5"), "must lie between 0 and 1"),
        ((*fake_arguments(), "--split", "test"), "no folder leftImg8bit/test"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, street, arguments, message):
    result = call("calibrate", "--data", street, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_settings_file_may_name_a_teacher_where_a_store_is_given(call, street, tmp_path):
    (tmp_path / "settings.yaml").write_text("weights: teacher.safetensors\n")
    result = call("calibrate", "--data", street, "--store", "gone", "--config", tmp_path / "settings.yaml")
    assert "is of no use" not in result.stderr


def test_image_that_cannot_be_read_is_named_and_the_exit_code_is_1(call, call_json, street):
    image = sorted((street / "leftImg8bit/val").rglob("*.png"))[1]
    image.write_bytes(b"no image")
    result = call(*asked(street))
    assert result.exit_code == 1
    assert "failed      val/town/town_000001_000019: cannot read" in result.stdout
    assert call_json(*asked(street), exit_code=1)["images"] == 4


def test_without_a_teacher_and_a_store_both_ways_are_named(call, street):
    result = call("calibrate", "--data", street)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "give it with --weights, or --store in its place" in result.stderr
    result = call("calibrate", "--data", street, "--scales", "1.0")
    assert result.stderr.rstrip().endswith("give it with --weights")
