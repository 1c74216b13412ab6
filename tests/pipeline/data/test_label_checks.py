"""Ground truth that is not what it is taken for, and scores that say nothing of new images, are noticed."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import DataConfig, EngineConfig, EvaluateConfig, LabelConfig, TeacherConfig
from hmsa_label.pipeline.data.label_checks import about_held_out
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.pipeline.engine.events import Warned
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.training.config import CoarseLabels
from hmsa_label.pipeline.training.loop import train_teacher
from hmsa_label.stores.images.open import open_images
from tests.tiny_training import tiny_training


def write_labels(root, number, ids):
    path = root / f"gtFine/val/town/town_{number:06}_000000_gtFine_labelIds.png"
    image = root / f"leftImg8bit/val/town/town_{number:06}_000000_leftImg8bit.png"
    for folder in (path.parent, image.parent):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)
    Image.fromarray(np.zeros((*ids.shape, 3), np.uint8)).save(image)


@pytest.mark.parametrize("ignored", [True, False])
def test_train_ids_in_place_of_label_ids_are_refused(tmp_path, ignored):
    rng = np.random.default_rng(0)
    raw = rng.choice([7, 8, 11, 17, 21, 23, 26, *([0, 3] if ignored else [])], (12, 32, 64)).astype(np.uint8)
    for number, ids in enumerate(raw):
        write_labels(tmp_path, number, ids)
    source = open_images("cityscapes", str(tmp_path))
    assert len(labeled_images(source, "val", "gtFine")) == 12
    for number, ids in enumerate(raw):
        write_labels(tmp_path, number, CITYSCAPES.train_id_of[ids])
    said = r"look like trainIds: of 8 files such as gtFine/val/town/.*_labelIds\.png .* must hold labelIds, 0 to 33"
    with pytest.raises(ValueError, match=said):
        labeled_images(source, "val", "gtFine")


@pytest.mark.parametrize("raw", [[7, 8, 11], [0, 7], [1, 2, 3, 23], [0, 7, 255]])
def test_label_ids_of_few_classes_are_not_taken_for_train_ids(tmp_path, raw):
    write_labels(tmp_path, 0, np.random.default_rng(0).choice(raw, (32, 64)).astype(np.uint8))
    labeled_images(open_images("cityscapes", str(tmp_path)), "val", "gtFine")


@pytest.fixture(scope="module")
def trained(blocks, tmp_path_factory):
    """Weights of one step on fine labels of train and polygons of train_extra, validated on val."""
    output = tmp_path_factory.mktemp("trained")
    coarse = CoarseLabels(split="train_extra")
    train_teacher(tiny_training(blocks, output, max_steps=1, low_scale=None, second=coarse))
    return TeacherConfig(
        weights=str(output / "last.safetensors"), device="cpu", options={"scales": (1.0,), "fusion": "single"}
    )


@pytest.mark.parametrize(
    ("split", "labels", "known"), [("train", "gtFine", 6), ("val", "gtFine", 0), ("train,val", "gtFine", 6),
                                   ("train_extra", "gtCoarse", 4)]
)  # fmt: skip
def test_scored_images_that_were_trained_on_are_counted(blocks, trained, split, labels, known):
    scores = evaluate(EvaluateConfig(data=DataConfig(root=str(blocks), split=split), teacher=trained, labels=labels))
    assert scores.images_trained_on == known
    assert scores.images == {"train": 6, "val": 2, "train,val": 8, "train_extra": 4}[split]


@pytest.mark.parametrize(("split", "noticed"), [("val", True), ("train,val", True), ("train", False)])
def test_labeling_the_split_that_was_held_out_is_noticed(blocks, trained, tmp_path, split, noticed):
    events = []
    config = LabelConfig(
        data=DataConfig(root=str(blocks), split=split, limit=2), teacher=trained, store=str(tmp_path / "labels"),
        rule=RuleConfig(threshold=0.5), engine=EngineConfig(executor="local", workers=1),
    )  # fmt: skip
    summary = label_images(config, events.append)
    assert summary.images_labelled == 2
    said = [event.text for event in events if isinstance(event, Warned)]
    assert sum("held out split val for validation" in text for text in said) == noticed
    assert summary.warnings == said


def test_weights_that_say_nothing_of_their_validation_are_not_judged():
    assert about_held_out("val", {"val_split": None}) is None
    assert about_held_out("val", {}) is None


def test_several_splits_are_trained_on_and_none_that_is_validated(blocks, tmp_path):
    config = tiny_training(blocks, tmp_path / "out", max_steps=1, low_scale=None)
    config = replace(config, data=replace(config.data, split="train,val"))
    with pytest.raises(ValueError, match=r"2 images held out .*--val-split, empty for none"):
        train_teacher(config)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert train_teacher(replace(config, val_split="")).steps == 1
