"""Students: fine and auto labels in exact shares, resumed to the bit, and refused where scores would mean nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hmsa_label.cli.main import main
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.training.config import AugmentConfig, AutoLabels, CoarseLabels
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.loop import Trainer, train_student, train_teacher
from hmsa_label.pipeline.training.sets import open_training_sets
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.fake_teacher import fake
from tests.tiny_training import tiny_training


@pytest.fixture(scope="module")
def data(blocks, tmp_path_factory):
    """A tree of blocks, and a store with the labels that the fake teacher gives its unlabeled images."""
    root = tmp_path_factory.mktemp("student") / "tree"
    shutil.copytree(blocks, root)
    return root, label(root, root.parent / "labels.zarr", "train_extra")


def label(root, store, split):
    label_images(
        LabelConfig(
            data=DataConfig(root=str(root), split=split),
            teacher=fake(),
            store=str(store),
            engine=EngineConfig(executor="local", workers=1),
        )
    )
    return str(store)


def settings(data, output, **changes):
    root, store = data
    auto = AutoLabels(store=store, **changes.pop("auto", {}))
    usual = {"second": auto, "low_scale": None, "batch_size": 4, "max_steps": 4, "val_split": ""}
    return tiny_training(root, output, **{**usual, **changes})


def trainer(config):
    return Trainer(config, Processes(), torch.device("cpu"))


def info_of(path):
    return decode_checkpoint(path.read_bytes())[1]


def assert_equal_weights(one, other):
    expected, actual = (decode_checkpoint(path.read_bytes())[0] for path in (one, other))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


def draws_of(config, rank=0, world=1):
    return list(open_training_sets(config, Processes(rank=rank, world=world)).sampler(0, config.max_steps))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_pass_holds_the_mix(data, tmp_path, accumulate):
    for batch in draws_of(settings(data, tmp_path, accumulate=accumulate)):
        kinds = [draw.kind for draw in batch]
        assert sum(kinds) * 2 == len(kinds) == 4 // accumulate


def test_processes_draw_together_what_one_process_draws(data, tmp_path):
    config = settings(data, tmp_path)
    alone = draws_of(config)
    parts = [draws_of(config, rank, 2) for rank in (0, 1)]
    for whole, *shares in zip(alone, *parts, strict=True):
        assert sorted(whole, key=str) == sorted((draw for share in shares for draw in share), key=str)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_mix_that_is_met_over_steps_draws_the_same_crops_in_any_number_of_parts(data, tmp_path, accumulate):
    config = settings(data, tmp_path, mix=0.375, max_steps=3, batch_size=4)
    alone = draws_of(config)
    parts = [draws_of(replace(config, accumulate=accumulate), place, 2) for place in (0, 1)]
    for step, whole in enumerate(alone):
        passes = [batch for part in parts for batch in part[step * accumulate : (step + 1) * accumulate]]
        assert sorted(whole, key=str) == sorted((draw for batch in passes for draw in batch), key=str)


def test_the_tail_sees_fine_labels_alone(data, tmp_path):
    batches = draws_of(settings(data, tmp_path, fine_tail=0.5))
    assert [sum(draw.kind for draw in batch) for batch in batches] == [2, 2, 0, 0]


def test_crops_do_not_depend_on_the_number_of_loader_workers(data, tmp_path):
    alone, helped = (list(trainer(settings(data, tmp_path / str(n), loader_workers=n)).batches()) for n in (0, 2))
    for [one], [other] in zip(alone, helped, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_crops_are_drawn_by_class_from_the_labels_after_the_threshold(data, tmp_path):
    config = settings(data, tmp_path, mix=1.0, augment=AugmentConfig(crop_px=(32, 32), class_uniform=1.0))
    held = trainer(config)
    auto = held.data.auto
    kept = {int(value) for index in range(len(auto)) for value in np.unique(auto.label(index)) if value != 255}
    assert set(held.data.crops(held.folder.cached).tiles[1].tiles) == kept
    for [(_, labels, _)] in held.batches():
        assert ((labels != 255).flatten(1).any(dim=1)).all()


def test_where_classes_are_is_looked_for_again_when_the_labels_change(data, tmp_path):
    root, _ = data
    store = label(root, tmp_path / "labels.zarr", "train_extra")
    held = trainer(settings((root, store), tmp_path / "one"))
    held.data.crops(held.folder.cached)
    before = set(held.folder.path.glob("class_tiles-*.npz"))
    held.data.crops(held.folder.cached)
    assert set(held.folder.path.glob("class_tiles-*.npz")) == before
    rethreshold(store, 0.5)
    again = trainer(settings((root, store), tmp_path / "one"))
    again.data.crops(again.folder.cached)
    assert len(set(held.folder.path.glob("class_tiles-*.npz")) - before) == 1


def test_checkpoint_names_the_labels_down_to_the_teacher(data, tmp_path):
    summary = train_student(
        settings(data, tmp_path, max_steps=1, auto={"threshold": 0.5, "class_thresholds": {"car": 0.9}})
    )
    store = LabelStore.open(data[1])
    info = info_of(tmp_path / "last.safetensors")
    labels = info["auto_labels"]
    assert summary.checkpoint == str(tmp_path / "last.safetensors")
    assert (labels["version"], labels["digest"]) == (store.version, store.digest)
    assert (labels["store"], labels["store_uuid"]) == (store.uri, store.identity.uuid)
    assert (labels["threshold"], labels["class_thresholds"], labels["mix"]) == (0.5, {"car": 0.9}, 0.5)
    assert labels["teacher_sha256"] == store.commit.teacher_sha256
    assert labels["leaked"] == []
    assert info["trained_on"]["keys"] == [f"train/town/town_{number:06}_000000" for number in range(6)]
    assert len(info["trained_on"]["labels_sha256"]) == 64
    assert "storage_options" not in str(info)


def test_a_student_needs_a_store(data, tmp_path):
    with pytest.raises(ValueError, match="trained on the labels of a store"):
        train_student(replace(settings(data, tmp_path), second=None))


def test_coarse_polygons_are_mixed_in_like_auto_labels(data, tmp_path):
    config = replace(settings(data, tmp_path, max_steps=2), second=CoarseLabels(split="train_extra"))
    assert [sum(draw.kind for draw in batch) for batch in draws_of(config)] == [2, 2]
    train_teacher(config)
    info = info_of(tmp_path / "last.safetensors")
    assert "auto_labels" not in info
    coarse = info["coarse_labels"]
    assert (coarse["split"], coarse["labels"], coarse["images"], coarse["mix"]) == ("train_extra", "gtCoarse", 4, 0.5)
    assert len(coarse["labels_sha256"]) == 64


def test_a_limit_takes_the_first_images_with_polygons(data, tmp_path):
    coarse = CoarseLabels(split="train_extra", limit=3)
    train_teacher(replace(settings(data, tmp_path, max_steps=2), second=coarse))
    taken = info_of(tmp_path / "last.safetensors")["coarse_labels"]["keys"]
    assert taken == [f"train_extra/town/town_{number:06}_000000" for number in range(3)]
    with pytest.raises(ValueError, match="limit"):
        CoarseLabels(split="train_extra", limit=0)


def test_images_without_a_labeled_pixel_are_left_out_and_that_is_said(data, tmp_path):
    root, store = data[0], str(tmp_path / "labels")
    shutil.copytree(data[1], store)
    shares = sorted(LabelStore.open(store).table(["kept_share"])["kept_share"].to_pylist())
    rethreshold(store, lambda rule, labels: replace(rule, best_by="kept_share", best_from=shares[-2]))
    labels = LabelStore.open(store)
    empty = [key for key in labels if (labels.read(key) == 255).all()]
    assert 0 < len(empty) < len(labels) == 4
    events = []
    train_student(settings((root, store), tmp_path / "student", max_steps=1), events.append)
    said = f"{len(empty)} of 4 auto-labeled images have no labeled pixel and are left out, such as {empty[0]}"
    assert [event.note for event in events if event.note] == [said]
    recorded = info_of(tmp_path / "student/last.safetensors")["auto_labels"]
    assert (recorded["images"], recorded["images_left_out"]) == (4 - len(empty), len(empty))
    drawn = draws_of(settings((root, store), tmp_path / "draws", mix=1.0, max_steps=8))
    assert {draw.position for batch in drawn for draw in batch} == set(range(6, 10 - len(empty)))
    rethreshold(store, lambda rule, labels: replace(rule, best_from=1.0))
    with pytest.raises(ValueError, match=r"^none of 4 images of version \d+ of .* has a labeled pixel; .*rethreshold"):
        train_student(settings((root, store), tmp_path / "none", max_steps=1))


def test_an_auto_labeled_copy_of_a_validation_image_is_refused(data, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(data[0], root)
    image = root / "leftImg8bit/val/town/town_000001_000000_leftImg8bit.png"
    shutil.copy(image, root / "leftImg8bit/train_extra/town/town_000077_000000_leftImg8bit.png")
    config = settings(
        (root, label(root, tmp_path / "labels.zarr", "train_extra")), tmp_path / "student", val_split="val"
    )
    with pytest.raises(ValueError, match=r"1 images held out .*\(val/town/town_000001_000000\).*--allow-leak"):
        train_student(config)
    train_student(replace(config, second=replace(config.second, allow_leak=True), max_steps=1))
    assert info_of(tmp_path / "student/last.safetensors")["auto_labels"]["leaked"] == ["val/town/town_000001_000000"]


def test_a_finely_labeled_copy_of_a_validation_image_is_refused(data, tmp_path):
    root = tmp_path / "tree"
    shutil.copytree(data[0], root)
    name = "town/town_000001_000000_leftImg8bit.png"
    shutil.copy(root / "leftImg8bit/val" / name, root / "leftImg8bit/train" / name)
    with pytest.raises(ValueError, match="1 images held out"):
        train_teacher(replace(settings((root, data[1]), tmp_path / "t"), second=None, val_split="val"))


def test_a_pixel_counts_by_its_confidence_if_asked(data, tmp_path):
    plain, weighted = (
        trainer(settings(data, tmp_path / str(on), mix=1.0, auto={"confidence_weight": on})) for on in (False, True)
    )
    [(images, labels, seeds)], [(same_images, same_labels, same_seeds, weights)] = (
        next(held.batches()) for held in (plain, weighted)
    )
    assert torch.equal(images, same_images)
    assert torch.equal(labels, same_labels)
    assert torch.equal(seeds, same_seeds)
    kept = labels != 255
    assert (weights[kept] >= 0.9 - 0.5 / 255).all()
    assert weights[~kept].min() < 0.9
    assert weighted.objective(images, labels, seeds, weights) < plain.objective(images, labels, seeds)
    with pytest.raises(ValueError, match="--confidence-weight needs --loss ce"):
        settings(data, tmp_path, loss="rmi", auto={"confidence_weight": True})


def test_batch_size_that_cannot_be_dealt_out_is_named(data, tmp_path):
    with pytest.raises(ValueError, match="--batch-size 4 must be a multiple of 1 processes x 3 passes"):
        train_student(settings(data, tmp_path, accumulate=3))


def test_a_resumed_student_keeps_its_version_though_the_store_went_on(data, tmp_path):
    root, _ = data
    store = label(root, tmp_path / "labels.zarr", "train_extra")
    version = LabelStore.open(store).version
    config = settings((root, store), tmp_path / "student")
    first = trainer(config)
    first.advance(next(first.batches()))
    first.save(None)
    rethreshold(store, 0.5)
    assert LabelStore.open(store).version > version
    train_student(replace(config, resume=True))
    assert info_of(tmp_path / "student/last.safetensors")["auto_labels"]["version"] == version


KILLED = """
import os, signal, sys
from hmsa_label.cli.main import main
from hmsa_label.pipeline.training.state import TrainFolder

def log_and_die(folder, values, log=TrainFolder.log, last=int(sys.argv.pop(1))):
    log(folder, values)
    if values["step"] == last:
        os.kill(os.getpid(), signal.SIGKILL)

TrainFolder.log = log_and_die
main()
"""


@pytest.mark.parametrize("step", [4, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 5, 11))])
def test_killed_and_restarted_student_has_the_weights_of_an_uninterrupted_one(data, tmp_path, step):
    root, store = data
    arguments = (
        f"train-student --data {root} --store {store} --model hrnet_tiny_ocr --low-scale none --loss ce --crop 32x32 "
        "--batch-size 4 --max-steps 12 --save-every 1 --validate-every 5 --ema 0.9 --device cpu --precision fp32 "
        "--cpu-threads 1 --seed 3 --output"
    ).split()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(step), *arguments, str(parts)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps_of(parts)[-1] == step
    for words in ([*arguments, str(whole)], [*arguments, str(parts), "--resume"]):
        ended = CliRunner().invoke(main, words)
        assert ended.exit_code == 0, ended.stderr
    assert steps_of(parts) == steps_of(whole)
    assert_equal_weights(whole / "last.safetensors", parts / "last.safetensors")
    assert_equal_weights(whole / "best.safetensors", parts / "best.safetensors")


def steps_of(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_sigterm_saves_the_step_at_hand_and_the_next_start_goes_on(data, tmp_path):
    whole, parts = settings(data, tmp_path / "whole"), settings(data, tmp_path / "parts")

    def interrupt(event):
        if event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    train_student(whole)
    first = train_student(parts, interrupt)
    assert (first.interrupted, first.steps) == (True, 2)
    second = train_student(replace(parts, resume=True))
    assert (second.interrupted, second.steps) == (False, 4)
    assert_equal_weights(tmp_path / "whole/last.safetensors", tmp_path / "parts/last.safetensors")
