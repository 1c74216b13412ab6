"""The precision that is asked for."""

import json

import pytest

from hmsa_label.pipeline.calibrate.targets import targets_of

NAMES = ("road", "pole")


@pytest.mark.parametrize("asked", ["0.98", 0.98])
def test_number_holds_for_all_classes(asked):
    assert targets_of(asked, NAMES) == {"road": 0.98, "pole": 0.98}


def test_mapping_or_file_holds_for_the_classes_that_it_names(tmp_path):
    (tmp_path / "asked.json").write_text(json.dumps({"pole": 0.9}))
    assert targets_of(str(tmp_path / "asked.json"), NAMES) == targets_of({"pole": 0.9}, NAMES) == {"pole": 0.9}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("1", "must lie between 0 and 1, both excluded; got 1.0$"),
        (0.0, "must lie between"),
        ("nan", "must lie between"),
        ({"pole": 2}, "got 2 for pole"),
        ({"pole": True}, "got True for pole"),
        ({"moon": 0.9}, "names the class 'moon'; the classes are road, pole"),
        ({}, "names no class"),
    ],
)
def test_precision_or_class_that_cannot_be_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        targets_of(asked, NAMES)


@pytest.mark.parametrize("text", ["{", "[0.9]", "0.9"])
def test_file_that_holds_no_precisions_is_refused(tmp_path, text):
    (tmp_path / "asked.json").write_text(text)
    with pytest.raises(ValueError, match=r"asked\.json .*; give a number such as 0\.98"):
        targets_of(str(tmp_path / "asked.json"), NAMES)


def test_text_that_is_neither_number_nor_file_is_refused():
    with pytest.raises(FileNotFoundError, match="--target-precision 98% is neither a number nor a file"):
        targets_of("98%", NAMES)
