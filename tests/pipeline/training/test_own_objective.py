"""A model with another loss and another score trains through the same loop, logs and files."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.labelers.model_registry import MODELS, find_model
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint
from hmsa_label.labelers.weights.networks import read_network
from hmsa_label.pipeline.compare.students import teacher_of
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig, to_dict
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.training.config import AutoLabels, ModelConfig, TrainConfig
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.loop import train_teacher
from hmsa_label.pipeline.training.model import model_of
from hmsa_label.pipeline.training.trainer import Trainer
from tests.tiny_training import tiny_training
from tests.toy_model import ToyLoss

TOY = "tests.toy_model:ToyModel"


def settings(blocks, output, **changes):
    usual = {"optimizer": "adamw", "learning_rate": 0.1, "max_steps": 12, "validate_every": 6, "objective": None}
    return tiny_training(blocks, output, model=ModelConfig(name=TOY), **{**usual, **changes})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(folder):
    return read_checkpoint((folder / "last.safetensors").read_bytes())[0]


def test_best_checkpoint_is_picked_by_the_score_of_the_model(blocks, tmp_path):
    summary = train_teacher(settings(blocks, tmp_path))
    scores = [line["accuracy"] for line in lines(tmp_path) if "accuracy" in line]
    assert len(scores) == 2
    assert (summary.score, summary.best_score) == ("Accuracy", max(scores))
    assert summary.best_score > 0.6  # three colors, three classes
    assert list(summary.figures) == ["checkpoint", "best_accuracy", "steps", "total_steps", "seconds", "interrupted"]
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert losses[-1] < losses[0] - 0.1
    assert all(line["pixels"] == 2 * 96 * 128 for line in lines(tmp_path) if "accuracy" in line)


def test_a_lower_score_leaves_the_best_checkpoint_alone(blocks, tmp_path):
    trained = Trainer(settings(blocks, tmp_path), Processes(), torch.device("cpu"))
    for score in (0.5, 0.25):
        trained.save(score)
    said = {name: read_checkpoint((tmp_path / f"{name}.safetensors").read_bytes())[1] for name in ("best", "last")}
    assert {name: info["val_accuracy"] for name, info in said.items()} == {"best": 0.5, "last": 0.25}


def test_checkpoint_says_what_the_model_wants_said(blocks, tmp_path):
    train_teacher(settings(blocks, tmp_path, objective=ToyLoss(smooth=2.0), max_steps=1))
    _, info = read_checkpoint((tmp_path / "last.safetensors").read_bytes())
    assert (info["model"], info["kernel"]) == (TOY, 1)
    assert info["config"]["smooth"] == 2.0
    assert 0 <= info["val_accuracy"] <= 1
    assert not {"multi_scale", "val_miou", "low_scale"} & {*info, *info["config"]}


def test_a_checkpoint_of_another_model_is_refused_as_weights_of_hmsa(blocks, tmp_path):
    train_teacher(settings(blocks, tmp_path, max_steps=1))
    with pytest.raises(ValueError, match=rf"cannot use the weights .*toy: it holds the model {TOY}; expected one of "):
        read_network((tmp_path / "last.safetensors").read_bytes(), "toy")


def test_training_goes_on_where_it_was_stopped(blocks, tmp_path):
    whole, parts = settings(blocks, tmp_path / "whole", max_steps=3, accumulate=2), tmp_path / "parts"
    train_teacher(whole)
    stopped = Trainer(replace(whole, output=str(parts)), Processes(), torch.device("cpu"))
    stopped.advance(next(stopped.batches()))
    stopped.save(0.25)
    train_teacher(replace(whole, output=str(parts), resume=True))
    expected = tensors(tmp_path / "whole")
    assert all(torch.equal(value, expected[name]) for name, value in tensors(parts).items())


def test_training_starts_from_a_checkpoint_of_the_model(blocks, tmp_path):
    train_teacher(settings(blocks, tmp_path / "first", max_steps=1))
    start = ModelConfig(name=TOY, init_weights=str(tmp_path / "first/last.safetensors"))
    second = Trainer(replace(settings(blocks, tmp_path / "second"), model=start), Processes(), torch.device("cpu"))
    assert torch.equal(second.net.weight, tensors(tmp_path / "first")["weight"])


@pytest.mark.parametrize("model", [TOY, "hrnet_tiny_ocr_explicit"])
def test_a_student_is_scored_as_it_was_validated(blocks, tmp_path, model):
    config = replace(settings(blocks, tmp_path, max_steps=2), model=ModelConfig(name=model))
    summary = train_teacher(config)
    teacher = teacher_of(config, summary.checkpoint, CITYSCAPES)
    scores = evaluate(EvaluateConfig(data=DataConfig(root=str(blocks), split="val"), teacher=teacher))
    assert summary.best_score == (scores.pixel_accuracy if model == TOY else scores.miou)


def test_settings_of_another_loss_are_refused_unless_nobody_set_them(blocks, tmp_path):
    _, filled = model_of(settings(blocks, tmp_path, objective=HmsaLoss()))
    assert filled.objective == ToyLoss()
    with pytest.raises(ValueError, match=r"has no settings loss, low_scale; those of its loss are smooth$"):
        train_teacher(settings(blocks, tmp_path, objective=HmsaLoss(loss="ce", low_scale=None)))


def test_weights_of_pixels_are_refused_for_a_loss_without_them(blocks, tmp_path):
    auto = AutoLabels(store="nowhere", confidence_weight=True)
    with pytest.raises(ValueError, match="toys have one of regions"):
        train_teacher(settings(blocks, tmp_path, second=auto))
    with pytest.raises(ValueError, match="--confidence-weight needs --loss ce"):
        model_of(TrainConfig(data=DataConfig(root="a"), output="b", objective=HmsaLoss(), second=auto))


def test_settings_that_nobody_changed_do_not_decide_for_another_model():
    asked = TrainConfig(
        data=DataConfig(root="a"),
        output="b",
        model=ModelConfig(name="axial_deeplab_tiny"),
        objective=HmsaLoss(),  # as the command line gives it
        second=AutoLabels(store="nowhere", confidence_weight=True),
    )
    assert model_of(asked)[1].objective == PanopticLoss()


def test_settings_of_the_loss_are_saved_beside_the_others(blocks, tmp_path):
    saved = to_dict(tiny_training(blocks, tmp_path, low_scale=None))
    assert (saved["loss"], saved["low_scale"], saved["learning_rate"]) == ("ce", None, 0.01)
    assert "objective" not in saved


def test_every_network_of_the_package_has_a_model():
    from hmsa_label.labelers.axial_deeplab import models as panoptic
    from hmsa_label.labelers.hmsa import models as semantic

    assert MODELS.keys() == semantic.MODELS.keys() | panoptic.MODELS.keys() | panoptic.CLASSIFIERS.keys()
    assert {find_model(name).score for name in semantic.MODELS} == {"mIoU"}
    assert {find_model(name).score for name in panoptic.MODELS} == {"PQ"}
    assert {find_model(name).score for name in panoptic.CLASSIFIERS} == {"top1"}


@pytest.fixture
def installed_toy(tmp_path, monkeypatch):
    """An installed package that names a model `toy`."""
    folder = tmp_path / "packages" / "toy-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[hmsa_label.models]\ntoy = {TOY}\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")


def test_installed_packages_name_models(installed_toy):
    assert find_model("toy").name == "toy"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hrnet", r"unknown model 'hrnet'; known are axial_deeplab_26s, .*deeplabv3plus_r50, "),
        ("tests.toy_modle:ToyModel", r"no module 'tests\.toy_modle' for the model tests\.toy_modle:ToyModel"),
        ("tests.toy_model:Toy", r"the model tests\.toy_model:Toy is not there: .*; its classes are .*ToyModel"),
        ("tests.toy_model:ToyLoss", r"cannot be trained: ToyLoss has no method objective"),
    ],
)
def test_a_model_that_is_not_there_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        find_model(name)


def test_an_installed_model_is_asked_what_its_checkpoints_must_say(blocks, tmp_path, installed_toy):
    train_teacher(replace(settings(blocks, tmp_path), model=ModelConfig(name="toy"), max_steps=1))
    data = (tmp_path / "last.safetensors").read_bytes()
    assert read_checkpoint(data)[1]["model"] == "toy"
    wrong = data.replace(rb"\"kernel\": 1", rb"\"kernel\": 3")
    with pytest.raises(ValueError, match=r"its metadata says 3 for kernel; expected 1: was the file written"):
        read_checkpoint(wrong)


def test_no_module_is_imported_because_a_checkpoint_names_it(blocks, tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    train_teacher(settings(blocks, tmp_path / "out", max_steps=1))
    data = (tmp_path / "out/last.safetensors").read_bytes().replace(TOY.encode(), b"stranger:AModelForTheToy")
    assert len("stranger:AModelForTheToy") == len(TOY)
    assert read_checkpoint(data)[1]["model"] == "stranger:AModelForTheToy"
    assert "stranger" not in sys.modules


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "beside_the_user.py").write_text("from tests.toy_model import ToyModel as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    config = tiny_training(tmp_path, tmp_path, model=ModelConfig(name="beside_the_user:Mine"), objective=None)
    assert model_of(config)[0].name == "beside_the_user:Mine"
