"""Training on drawn blocks: it learns, repeats itself and resumes exactly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig, TeacherConfig
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.training.config import ModelConfig
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.loop import Trainer, train_teacher
from hmsa_label.pipeline.training.optimizer import learning_rate
from tests.tiny_training import tiny_training


@pytest.fixture(scope="module")
def tree(blocks):
    return blocks


def settings(tree, output, **changes):
    usual = {"optimizer": "adamw", "learning_rate": 5e-3, "max_steps": 6, "validate_every": 3, "save_every": 1}
    return tiny_training(tree, output, crop_px=(48, 64), **{**usual, **changes})


def trainer(config):
    return Trainer(config, Processes(), torch.device("cpu"))


def weights(path):
    return decode_checkpoint(path.read_bytes())[0]


def test_training_learns_to_tell_colors_apart(tree, tmp_path):
    # On images this small half the size leaves nothing to see: two scales need far more steps than a test has.
    changes = {"low_scale": None, "batch_size": 6, "max_steps": 60, "validate_every": 30, "ema_decay": 0.8}
    summary = train_teacher(settings(tree, tmp_path, **changes))
    assert summary.steps == 60
    assert summary.best_score > 0.5
    data = DataConfig(root=str(tree), split="val")
    teacher = TeacherConfig(weights=summary.checkpoint, device="cpu", options={"scales": (1.0,), "fusion": "single"})
    scores = evaluate(EvaluateConfig(data=data, teacher=teacher))
    assert scores.miou == pytest.approx(summary.best_score, abs=0.02)
    assert scores.images == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_gives_the_figures_of_evaluate(tree, tmp_path, precision):
    summary = train_teacher(settings(tree, tmp_path, max_steps=3, precision=precision))
    teacher = TeacherConfig(
        weights=summary.checkpoint, device="cpu", precision=precision, options={"scales": (0.5, 1.0)}
    )
    scores = evaluate(EvaluateConfig(data=DataConfig(root=str(tree), split="val"), teacher=teacher))
    assert scores.miou == summary.best_score


def test_checkpoint_says_what_it_is_and_what_it_was_trained_on(tree, tmp_path):
    train_teacher(settings(tree, tmp_path, max_steps=1))
    _, info = decode_checkpoint((tmp_path / "last.safetensors").read_bytes())
    assert info["model"] == "hrnet_tiny_ocr"
    assert info["classes"]["name"] == "cityscapes"
    assert info["trained_on"]["images"] == 6
    assert info["trained_on"]["keys"][0] == "train/town/town_000000_000000"
    assert info["config"]["learning_rate"] == 5e-3


@pytest.mark.parametrize("loss", ["ce", "rmi"])
def test_resumed_training_equals_an_uninterrupted_one(tree, tmp_path, loss):
    whole, parts = settings(tree, tmp_path / "whole", loss=loss, ema_decay=0.9), tmp_path / "parts"
    train_teacher(whole)
    interrupted = trainer(replace(whole, output=str(parts)))
    for passes, _ in zip(interrupted.batches(), range(4), strict=False):
        interrupted.advance(passes)
        interrupted.save(None)
    train_teacher(replace(whole, output=str(parts), resume=True))
    expected, actual = weights(tmp_path / "whole/last.safetensors"), weights(parts / "last.safetensors")
    assert all(torch.equal(actual[key], value) for key, value in expected.items())
    steps = [json.loads(line)["step"] for line in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 6]


def test_a_folder_with_a_training_is_not_overwritten(tree, tmp_path):
    train_teacher(settings(tree, tmp_path, max_steps=1))
    with pytest.raises(ValueError, match=r"already holds a training; use --resume"):
        train_teacher(settings(tree, tmp_path, max_steps=1))
    with pytest.raises(ValueError, match=r"other settings \(learning_rate 0.005 -> 0.1\)"):
        train_teacher(settings(tree, tmp_path, max_steps=1, learning_rate=0.1, resume=True))


def test_samples_do_not_depend_on_the_number_of_loader_workers(tree, tmp_path):
    alone, helped = (
        list(trainer(settings(tree, tmp_path / str(n), loader_workers=n, max_steps=3)).batches()) for n in (0, 2)
    )
    for [one], [other] in zip(alone, helped, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_single_scale_training_has_no_attention_head(tree, tmp_path):
    train_teacher(settings(tree, tmp_path, low_scale=None, max_steps=1))
    assert not [key for key in weights(tmp_path / "last.safetensors") if key.startswith("attention")]
    teacher = TeacherConfig(weights=str(tmp_path / "last.safetensors"), device="cpu")
    with pytest.raises(
        ValueError, match=r"last\.safetensors has no attention head, .*; use --scales 1\.0 --fusion single"
    ):
        evaluate(EvaluateConfig(data=DataConfig(root=str(tree), split="val"), teacher=teacher))


def test_learning_rate_warms_up_and_ends_near_zero(tree, tmp_path):
    config = settings(tree, tmp_path, learning_rate=1.0, warmup_steps=4, poly_power=2.0)
    rates = [learning_rate(config, step, 100, 10) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[50] == pytest.approx(0.25)
    assert rates[99] == pytest.approx(1e-4)


def test_learning_rate_can_fall_by_epoch(tree, tmp_path):
    config = settings(tree, tmp_path, learning_rate=1.0, poly_power=1.0, poly_by_epoch=True)
    rates = [learning_rate(config, step, 25, 10) for step in range(25)]  # three epochs, the last one half
    assert rates == pytest.approx([1.0] * 10 + [2 / 3] * 10 + [1 / 3] * 5)


@pytest.mark.parametrize("aux_loss", ["side", "ce", "rmi"])
def test_explicit_attention_trains_and_is_validated_over_its_scales(tree, tmp_path, aux_loss):
    model = ModelConfig(name="hrnet_tiny_ocr_explicit")
    explicit = trainer(settings(tree, tmp_path / "explicit", model=model, aux_loss=aux_loss))
    before = explicit.net.attention.mix[-1].weight.clone()
    loss, _ = explicit.advance(next(explicit.batches()))
    assert np.isfinite(loss)
    assert not torch.equal(explicit.net.attention.mix[-1].weight, before)
    assert 0 <= explicit.validate().value <= 1


def test_metrics_of_a_start_that_saved_nothing_are_dropped(tree, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "total_steps": 6, "loss": 9.0}\n')
    train_teacher(settings(tree, tmp_path, max_steps=1, val_split=""))
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_first_start_with_resume_takes_the_initial_weights(tree, tmp_path):
    train_teacher(settings(tree, tmp_path / "first", max_steps=1))
    model = ModelConfig(name="hrnet_tiny_ocr", init_weights=str(tmp_path / "first/last.safetensors"))
    started = trainer(settings(tree, tmp_path / "second", model=model, resume=True)).net.state_dict()
    given = weights(tmp_path / "first/last.safetensors")
    assert torch.equal(started["trunk.conv1.weight"], given["trunk.conv1.weight"])


@pytest.fixture
def mapillary(tmp_path):
    """A Vistas tree of two training images with two evaluated classes and one that is not."""
    root = tmp_path / "vistas"
    colors = [(10, 20, 30), (200, 10, 10), (0, 0, 0)]
    names = ("Road", "Car", "Unlabeled")
    entries = zip(names, colors, (True, True, False), strict=True)
    config = {"labels": [{"readable": name, "color": color, "evaluate": kept} for name, color, kept in entries]}
    for folder in ("images", "labels"):
        (root / "training" / folder).mkdir(parents=True)
    (root / "config.json").write_text(json.dumps(config))
    for number, size in enumerate(((64, 96), (80, 64))):
        ids = np.random.default_rng(number).integers(0, 3, size).astype(np.uint8)
        Image.fromarray(np.array(colors, np.uint8)[ids]).save(root / f"training/images/{number}.jpg")
        Image.fromarray(ids).save(root / f"training/labels/{number}.png")
    return root


def test_a_network_of_mapillary_starts_a_training_on_cityscapes(tree, mapillary, tmp_path):
    first = settings(tree, tmp_path / "first", max_steps=1, low_scale=None)
    vistas = DataConfig(root=str(mapillary), dataset="mapillary", split="train")
    train_teacher(replace(first, data=vistas, val_split=""))
    state, info = decode_checkpoint((tmp_path / "first/last.safetensors").read_bytes())
    assert info["classes"]["names"] == ["Road", "Car"]
    start = ModelConfig(name="hrnet_tiny_ocr", init_weights=str(tmp_path / "first/last.safetensors"))
    second = settings(tree, tmp_path / "second", model=replace(start, new_class_heads=True))
    started = trainer(second).net.state_dict()
    assert torch.equal(started["trunk.conv1.weight"], state["trunk.conv1.weight"])
    assert started["head.class_head.weight"].shape[0] == 19
    with pytest.raises(ValueError, match=r"knows 2 classes, the training has 19; --new-class-heads"):
        trainer(settings(tree, tmp_path / "third", model=start))
