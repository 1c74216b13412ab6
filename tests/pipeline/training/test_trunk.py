"""Trunks trained on drawn classes of images: they learn, resume exactly, and panoptic trainings start from them."""

import math
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hmsa_label.labelers.axial_deeplab.classification.model import TrunkModel, TrunkObjective
from hmsa_label.labelers.axial_deeplab.classification.settings import TrunkLoss
from hmsa_label.labelers.axial_deeplab.models import CLASSIFIERS, build_axial_deeplab, build_classifier
from hmsa_label.labelers.axial_deeplab.start import load_start
from hmsa_label.labelers.model_registry import find_model, model_places
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.training import StepTotal
from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.config import DataConfig
from hmsa_label.pipeline.training import estimate as estimates
from hmsa_label.pipeline.training.config import AugmentConfig, ModelConfig, TrainConfig
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.loop import train_teacher, train_trunk
from hmsa_label.pipeline.training.optimizer import build_optimizer, learning_rate
from hmsa_label.pipeline.training.trainer import Trainer


def draw(path, stripes, seed):
    """Stripes along the rows or along the columns, of random colors."""
    pixels = np.zeros((40, 56, 3), np.uint8)
    rng = np.random.default_rng(seed)
    lines = pixels if stripes == "rows" else pixels.transpose(1, 0, 2)
    for start in range(0, len(lines), 8):
        lines[start : start + 4] = rng.integers(100, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """Class folders `rows` and `columns` in train and val."""
    root = tmp_path_factory.mktemp("stripes")
    for split, first, count in (("train", 0, 8), ("val", 100, 3)):
        for kind in ("rows", "columns"):
            for number in range(first, first + count):
                draw(root / split / kind / f"{number}.png", kind, number)
    return root


def settings(root, output, **changes):
    usual = TrainConfig(
        data=DataConfig(root=str(root), split="train", dataset="folder"),
        output=str(output),
        model=ModelConfig(name="axial_resnet_tiny"),
        augment=AugmentConfig(crop_px=(32, 32)),
        objective=TrunkLoss(),
        learning_rate=0.05,
        nesterov=True,
        schedule="cosine",
        batch_size=8,
        max_steps=4,
        save_every=1,
        device="cpu",
        precision="fp32",
        cpu_threads=1,
    )
    return replace(usual, **changes)


def weights(folder, name="last"):
    return decode_checkpoint((folder / f"{name}.safetensors").read_bytes())


def test_trunk_learns_to_tell_classes_apart_and_panoptic_training_starts_from_it(stripes, tmp_path):
    quick = {"model": ModelConfig(name="conv_resnet_tiny"), "max_steps": 30, "batch_size": 16, "learning_rate": 0.1}
    summary = train_trunk(settings(stripes, tmp_path, warmup_share=0.2, **quick))
    assert summary.score == "top1"
    assert summary.best_score == 1.0
    state, info = weights(tmp_path, "best")
    assert (info["model"], info["classes"]) == ("conv_resnet_tiny", {"names": ["columns", "rows"]})
    assert (info["trained_on"]["images"], info["val_top1"]) == (16, 1.0)
    net = build_axial_deeplab("panoptic_deeplab_tiny", 19)
    data = (tmp_path / "best.safetensors").read_bytes()
    load_start(net, data, "best.safetensors", classes=CITYSCAPES, new_class_heads=False)
    assert torch.equal(net.trunk.layer4[0].conv2.weight, state["trunk.layer4.0.conv2.weight"])


def test_resumed_training_equals_an_uninterrupted_one(stripes, tmp_path):
    train_trunk(settings(stripes, tmp_path / "whole"))
    config = settings(stripes, tmp_path / "parts")
    stopped = train_trunk(config, lambda event: event.step == 2 and os.kill(os.getpid(), signal.SIGTERM))
    assert (stopped.interrupted, stopped.steps) == (True, 2)
    train_trunk(replace(config, resume=True))
    whole, parts = weights(tmp_path / "whole")[0], weights(tmp_path / "parts")[0]
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_loss_of_a_step_is_the_sum_of_its_passes():
    torch.manual_seed(0)
    objective = TrunkObjective(build_classifier("axial_resnet_tiny", 3).eval(), TrunkLoss(), torch.float32)
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    labels = torch.tensor([0, 2, 1, 1])
    step = StepTotal(labeled_px=0, images=4)
    parts = [objective(images[part], labels[part], step=step) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), objective(images, labels))


def test_smoothed_loss_is_worked_out_by_hand():
    objective = TrunkObjective(build_classifier("axial_resnet_tiny", 2).eval(), TrunkLoss(), torch.float32)
    objective.net.forward = lambda x: torch.tensor([[2.0, 0.0]])
    chosen, other = (math.log(math.exp(2) + 1) - logit for logit in (2, 0))
    loss = objective(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.tensor([0]))
    assert loss.item() == pytest.approx(0.95 * chosen + 0.05 * other)


def test_validation_sees_the_middle_of_each_image(stripes, tmp_path):
    trainer = Trainer(settings(stripes, tmp_path), Processes(), torch.device("cpu"))
    assert [trainer.data.val_pair(number)[1] for number in range(6)] == [0, 0, 0, 1, 1, 1]
    assert trainer.data.val_pair(0)[0].shape == (32, 32, 3)
    score = trainer.validate()
    assert score.value in [right / 6 for right in range(7)]
    assert trainer.net.training == trainer.net.trunk.training


def test_images_that_are_trained_on_are_not_validated_on(stripes, tmp_path):
    shutil.copytree(stripes, tmp_path / "data")
    shutil.copy(stripes / "train/rows/3.png", tmp_path / "data/val/rows/3.png")
    with pytest.raises(ValueError, match=r"1 images of .*val are trained on, too \(rows/3\.png\)"):
        train_trunk(settings(tmp_path / "data", tmp_path / "out"))


def test_models_and_commands_that_do_not_fit_are_named(stripes, tmp_path):
    with pytest.raises(ValueError, match="hrnet_tiny_ocr learns from labels of pixels, by train-teacher; trunks are"):
        train_trunk(settings(stripes, tmp_path, model=ModelConfig(name="hrnet_tiny_ocr")))
    semantic = settings(stripes, tmp_path, data=DataConfig(root=str(stripes)))
    with pytest.raises(ValueError, match="axial_resnet_tiny learns classes of whole images; train it by train-trunk"):
        train_teacher(semantic)


def test_training_that_does_not_fit_names_a_smaller_trunk(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "available_bytes", lambda: 50e6)
    config = settings(stripes, tmp_path, augment=AugmentConfig(crop_px=(224, 224)))
    with pytest.raises(ValueError, match="would fit: --model axial_resnet_hybrid_s --crop 128x256 --batch-size 4"):
        train_trunk(config)


def test_checkpoint_of_a_trunk_is_no_teacher(stripes, tmp_path):
    train_trunk(settings(stripes, tmp_path, max_steps=1, val_split=""))
    with pytest.raises(ValueError, match=r"it holds the trunk axial_resnet_tiny .* starts from it with --init-weights"):
        read_checkpoint((tmp_path / "last.safetensors").read_bytes())


def test_every_trunk_can_be_found_by_its_name():
    names = {name for name, place in model_places().items() if place.endswith(":TrunkModel")}
    assert names == set(CLASSIFIERS)
    assert isinstance(find_model("axial_resnet_tiny"), TrunkModel)


def test_learning_rate_warms_up_and_falls_along_a_cosine(stripes, tmp_path):
    config = settings(stripes, tmp_path, learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate(config, step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[50] == pytest.approx(0.5)
    assert rates[75] == pytest.approx((1 + math.cos(0.75 * math.pi)) / 2)
    assert rates[99] < 1e-3


def test_nesterov_is_asked_of_sgd(stripes, tmp_path):
    config = settings(stripes, tmp_path)
    assert build_optimizer(config, nn.Linear(1, 1)).defaults["nesterov"] is True
    assert build_optimizer(replace(config, nesterov=False), nn.Linear(1, 1)).defaults["nesterov"] is False


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"momentum": 0.0}, "--nesterov needs a --momentum above 0; got 0.0"),
        ({"poly_by_epoch": True}, "--poly-by-epoch is for --schedule poly; got --schedule cosine"),
        ({"schedule": "step"}, "--schedule must be one of poly, cosine"),
        ({"warmup_share": 1.5}, "--warmup-share is a share between 0 and 1"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(stripes, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        settings(stripes, tmp_path, **changes)


def test_label_smoothing_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="--label-smoothing is a share from 0 to below 1; got 1"):
        TrunkLoss(label_smoothing=1)
