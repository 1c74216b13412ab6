"""`train-teacher` and `evaluate`: a tiny network through the whole command."""

import errno
import os
import signal

import pytest

from hmsa_label import pipeline

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
    told = "; the last save is whole: the same call goes on from it (train-teacher and train-student with --resume)"
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
