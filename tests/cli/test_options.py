"""Options follow the config dataclasses: every field has one, types and defaults are the fields' own."""

import dataclasses
import typing
from typing import Any

import click
import pytest

from hmsa_label import (
    AugmentConfig,
    AutoLabels,
    CoarseLabels,
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    HmsaLoss,
    HmsaOptions,
    TeacherConfig,
    TrainConfig,
)
from hmsa_label.cli.options import SETTINGS, settings
from hmsa_label.cli.parameters import Numbers, OrNone, Section, Size


def holds_config(annotation):
    parts = typing.get_args(annotation) or (annotation,)
    return any(dataclasses.is_dataclass(part) for part in parts)


def test_every_field_of_every_config_is_an_option_or_a_nested_config():
    for config, (_, table) in SETTINGS.items():
        parts = {setting.part for setting in table if setting.part is not None}
        nested = {name for name, _ in parts}
        asked = [field for field in dataclasses.fields(config) if not field.metadata.get("found")]
        scalar = {field.name for field in asked if not holds_config(field.type)} - nested
        # options of a teacher of the user's own are an option themselves, beside those of the default teacher
        assert {setting.field for setting in table if setting.part is None} - nested == scalar, config.__name__
        for part in parts:
            own = {field.name for field in dataclasses.fields(part[1])}
            assert {setting.field for setting in table if setting.part == part} == own, part
            assert not own & scalar  # saved settings have them side by side


def test_options_left_alone_build_the_config_that_the_dataclass_builds_itself():
    made = []

    @click.command()
    @settings(DataConfig, "data")
    @settings(TeacherConfig, "teacher")
    @settings(EvaluateConfig, "config")
    def command(config):
        made.append(config)

    command.main(["--data", "d", "--weights", "w"], standalone_mode=False)
    assert made == [EvaluateConfig(data=DataConfig(root="d"), teacher=TeacherConfig(weights="w"))]


def test_defaults_of_train_teacher_are_those_of_its_config(values_of):
    values = values_of("train-teacher", "--data", "d", "--output", "o")
    config = TrainConfig(data=DataConfig(root="d", split="train"), output="o")
    assert values["lr"] == config.learning_rate
    assert values["crop"] == config.augment.crop_px
    assert values["scale_range"] == config.augment.scale_range
    assert values["low_scale"] == HmsaLoss().low_scale
    assert values["model"] == config.model.name
    assert values["split"] == "train"


def test_splits_default_to_what_each_command_is_for(values_of):
    needed = ("--data", "d", "--weights", "w")
    assert values_of("run", *needed, "--store", "s")["split"] == "train_extra"
    assert values_of("evaluate", *needed)["split"] == "val"


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Numbers(), "0.5,1,2", (0.5, 1.0, 2.0)),
        (Numbers(), [0.5, 1], (0.5, 1.0)),
        (Numbers(), 1.0, (1.0,)),
        (Numbers(2), "0.5,2", (0.5, 2.0)),
        (Size(), "512x1024", (512, 1024)),
        (Size(), [512, 1024], (512, 1024)),
        (Section(), '{"anon": true}', {"anon": True}),
        (Section(), {"anon": True}, {"anon": True}),
        (OrNone(click.FLOAT), "none", None),
        (OrNone(click.FLOAT), "0.5", 0.5),
    ],
)
def test_value_is_read_from_text_and_from_yaml(kind, given, expected):
    assert kind.convert(given, None, None) == expected


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (Numbers(), "0.5;1", "list of numbers such as"),
        (Numbers(), None, "list of numbers such as"),
        (Numbers(2), "0.5", "expected 2 numbers"),
        (Size(), "512", "size, height x width"),
        (Size(), 512, "size, height x width"),
        (Section(), '["anon"]', "expected a section"),
        (Section(), "{anon", "expected a section"),
        (OrNone(click.FLOAT), "off", "not a valid float"),
    ],
)
def test_bad_value_is_refused_with_an_example(kind, given, message):
    with pytest.raises(click.BadParameter, match=message):
        kind.convert(given, None, None)


def test_value_that_the_config_refuses_is_one_line_and_exit_code_2(call):
    result = call("run", "--data", "d", "--weights", "w", "--store", "s", "--threshold", "1.5")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: --threshold must lie between 0 and 1, 1 excluded; got 1.5\n"


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: DataConfig(root="streets", limit=0), "--limit must"),
        (lambda: EngineConfig(item_timeout=0), "--item-timeout must"),
        (lambda: TeacherConfig(weights="w.pth", max_memory_gb=0), "--max-memory must"),
        (lambda: AugmentConfig(crop_px=(16, 16)), "--crop must be at least 32 x 32; got 16x16"),
        (lambda: train_config(fine_tail=2), "--fine-tail is"),
        (lambda: train_config(second=CoarseLabels(limit=0)), "--coarse-limit must"),
        (
            lambda: train_config(
                second=AutoLabels(store="labels", confidence_weight=True), objective=HmsaLoss(low_scale=None)
            ),
            "--confidence-weight needs --loss ce",
        ),
        (lambda: HmsaLoss(aux_loss="none"), "--aux-loss must"),
        (lambda: HmsaOptions(fusion="none"), "--fusion must"),
    ],
)
def test_a_refused_value_is_told_by_the_name_of_its_option(make, option):
    with pytest.raises(ValueError, match=f"^{option}"):
        make()


def train_config(**fields: Any) -> TrainConfig:
    return TrainConfig(data=DataConfig(root="streets"), output="out", **fields)
