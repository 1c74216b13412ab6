"""`train-teacher` and `evaluate`: a tiny network through the whole command."""

import errno
import os
import signal

import pytest
from PIL import Image

from hmsa_label import pipeline
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint

TINY = ("--model", "hrnet_tiny_ocr", "--max-steps", 2, "--batch-size", 2, "--crop", "32x64", "--loss", "ce",
        "--device", "cpu", "--cpu-threads", 1)  # fmt: skip


@pytest.fixture
def teacher(call_json, street_images, tmp_path):
    """What `train-teacher --json` printed."""
    return call_json("train-teacher", "--data", street_images, "--output", tmp_path / "teacher", *TINY)


def test_training_prints_where_the_best_weights_are(teacher, tmp_path):
    assert set(teacher) == {"checkpoint", "best_miou", "steps", "total_steps", "seconds", "interrupted"}
    assert teacher["steps"] == 2
    assert teacher["checkpoint"] == str(tmp_path / "teacher" / "best.safetensors")
    assert 0 <= teacher["best_miou"] <= 1
    assert (tmp_path / "teacher" / "curve.png").stat().st_size > 5000


def test_trained_weights_are_scored_by_class(call_json, call, teacher, street_images):
    asked = ("evaluate", "--data", street_images, "--weights", teacher["checkpoint"], "--limit", 3, "--scales", "0.5,1")
    scores = call_json(*asked)
    assert set(scores) == {"miou", "iou", "pixel_accuracy", "images", "images_trained_on"}
    assert (scores["images"], len(scores["iou"]), scores["iou"]["train"]) == (3, 19, None)
    table = call(*asked).stdout
    assert f"mIoU            {scores['miou']:.4f}" in table
    assert "\ntrain" in table


@pytest.fixture
def trunk(call_json, tmp_path):
    """What `train-trunk --json` printed, on two classes of images."""
    for split in ("train", "val"):
        for kind, shade in (("day", 200), ("night", 20)):
            for number in range(2):
                folder = tmp_path / "images" / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 48), (shade + len(split) + number,) * 3).save(folder / f"{number}.png")
    return call_json(
        "train-trunk", "--data", tmp_path / "images", "--output", tmp_path / "trunk", "--model", "axial_resnet_tiny",
        "--crop", "32x32", "--batch-size", 4, "--max-steps", 2, "--device", "cpu", "--cpu-threads", 1,
    )  # fmt: skip


def test_trunk_is_trained_by_its_recipe_and_is_no_teacher(trunk, call, street_images, tmp_path):
    assert set(trunk) == {"checkpoint", "best_top1", "steps", "total_steps", "seconds", "interrupted"}
    assert trunk["checkpoint"] == str(tmp_path / "trunk" / "best.safetensors")
    info = decode_checkpoint((tmp_path / "trunk" / "best.safetensors").read_bytes())[1]
    recipe = {"schedule": "cosine", "nesterov": True, "weight_decay": 8e-5, "optimizer": "sgd", "learning_rate": 0.05}
    assert {name: info["config"][name] for name in recipe} == recipe
    assert info["config"]["label_smoothing"] == 0.1
    result = call("evaluate", "--data", street_images, "--weights", trunk["checkpoint"], "--device", "cpu")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "it holds the trunk axial_resnet_tiny" in result.stderr


def test_options_of_pixels_are_none_of_a_trunk(call, tmp_path):
    result = call("train-trunk", "--data", tmp_path, "--output", tmp_path / "out", "--low-scale", "0.5")
    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_second_training_into_a_folder_asks_for_resume(call, teacher, street_images, tmp_path):
    result = call("train-teacher", "--data", street_images, "--output", tmp_path / "teacher", *TINY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--resume" in result.stderr


def test_missing_weights_are_named(call, street_images):
    result = call("evaluate", "--data", street_images, "--weights", "nowhere.safetensors", "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nowhere.safetensors" in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_split_names_those_that_are_there(call, street_images):
    result = call("train-teacher", "--data", street_images, "--output", "out", "--split", "tarin", *TINY)
    assert result.exit_code == 2
    assert "train, train_extra, val" in result.stderr


def test_interrupted_training_says_so_and_how_to_go_on(call, street_images, tmp_path, monkeypatch):
    display = lambda: lambda event: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    monkeypatch.setattr(pipeline, "open_training_display", display, raising=False)
    result = call("train-teacher", "--data", street_images, "--output", tmp_path / "teacher", *TINY)
    assert result.exit_code == 130
    assert "\nsteps        1 of 2\ninterrupted  yes; the same call with --resume goes on\n" in result.stdout


@pytest.mark.parametrize("full_at", [1, 2])
def test_training_that_fails_after_a_save_says_how_to_go_on(call, street_images, tmp_path, monkeypatch, full_at):
    def fill_the_disk(event):
        if event.step == full_at:
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    args = ("train-teacher", "--data", street_images, "--output", tmp_path / "teacher", *TINY, "--save-every", 1)
    monkeypatch.setattr(pipeline, "open_training_display", lambda: fill_the_disk, raising=False)
    result = call(*args)
    told = "; the last save is whole: the same call goes on from it (train-teacher, -student and -trunk with --resume)"
    saved = full_at == 2
    assert result.stderr == f"Error: No space left on device: metrics.jsonl{told if saved else ''}\n"
    monkeypatch.setattr(pipeline, "open_training_display", lambda: None, raising=False)
    assert "steps        2 of 2" in call(*args, "--resume").stdout


def test_scores_on_images_of_the_training_say_so(call, call_json, teacher, street_images):
    asked = (
        "evaluate",
        "--data",
        street_images,
        "--weights",
        teacher["checkpoint"],
        "--split",
        "train,val",
        "--limit",
        6,
    )
    assert call_json(*asked, "--scales", "0.5,1")["images_trained_on"] == 5
    assert "\ntrained on      5 of these images; scores on them" in call(*asked, "--scales", "0.5,1").stdout


def test_score_of_a_model_of_ones_own_is_called_by_its_name(call, call_json, street_images, tmp_path):
    asked = ("train-teacher", "--data", street_images, "--model", "tests.toy_model:ToyModel", "--max-steps", 1,
             "--batch-size", 2, "--crop", "32x64", "--device", "cpu", "--cpu-threads", 1)  # fmt: skip
    assert "\nbest Accuracy  0." in call(*asked, "--output", tmp_path / "one").stdout
    assert "best_accuracy" in call_json(*asked, "--output", tmp_path / "two")
    refused = call(*asked, "--output", tmp_path / "three", "--loss", "ce")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "the model tests.toy_model:ToyModel has no settings loss; those of its loss are smooth" in refused.stderr
