"""Recipes that come with the package."""

import pytest
import yaml

from hmsa_label.cli.commands.train import PRESET_NAMES
from hmsa_label.cli.settings import PRESETS

ARGS = ("--data", "d", "--output", "o")


def recipe(name):
    return yaml.safe_load((PRESETS / f"{name}.yaml").read_text())


def test_presets_on_disk_are_the_ones_offered():
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(PRESET_NAMES)


@pytest.mark.parametrize("names", [("paper", "released-code"), ("axial-paper", "axial-code")])
def test_presets_name_the_same_keys_and_mark_each_that_differs(names):
    paper, code = map(recipe, names)
    assert paper.keys() == code.keys()
    differing = {key for key in paper if paper[key] != code[key]}
    for name in names:
        lines = (PRESETS / f"{name}.yaml").read_text().splitlines()
        assert {line.split(":")[0].strip() for line in lines if "# differs" in line} == differing


@pytest.mark.parametrize(("name", "rate", "side"), [("paper", 0.01, 0.0), ("released-code", 0.005, 0.05)])
def test_preset_sets_the_options(values_of, name, rate, side):
    values = values_of("train-teacher", *ARGS, "--preset", name)
    assert (values["lr"], values["side_weight"]) == (rate, side)
    assert values["crop"] == (1024, 2048)


def test_preset_of_a_panoptic_model_sets_its_options(values_of):
    values = values_of("train-teacher", *ARGS, "--preset", "axial-paper")
    assert (values["model"], values["optimizer"], values["lr"]) == ("axial_deeplab_l", "radam-lookahead", 0.001)
    assert (values["center_weight"], values["offset_weight"], values["class_uniform"]) == (200.0, 0.01, 0.0)


def test_preset_serves_a_student_too(values_of):
    values = values_of("train-student", *ARGS, "--store", "s", "--preset", "released-code")
    assert (values["poly_by_epoch"], values["weight_decay"], values["mix"]) == (True, 0.0001, 0.5)


def test_command_line_and_settings_file_win_over_the_preset(values_of, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("lr: 0.2\nepochs: 3\n")
    for order in (("--preset", "paper", "--config", str(file)), ("--config", str(file), "--preset", "paper")):
        values = values_of("train-teacher", *ARGS, *order, "--epochs", "5")
        assert (values["lr"], values["epochs"], values["weight_decay"]) == (0.2, 5, 0.0005)


def test_unknown_preset_is_refused_with_the_known_ones(call):
    result = call("train-teacher", *ARGS, "--preset", "mine")
    assert result.exit_code == 2
    assert "paper" in result.stderr
    assert "released-code" in result.stderr
