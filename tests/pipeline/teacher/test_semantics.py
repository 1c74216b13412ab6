"""`--semantic-from`: the classes of one teacher with the instances of another, and what is told of both."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig, TeacherConfig
from hmsa_label.pipeline.data.label_checks import about_held_out
from hmsa_label.pipeline.demo.scenes.tree import draw_tree
from hmsa_label.pipeline.label.keeping import keeping_of
from hmsa_label.pipeline.label.open_executor import _spec
from hmsa_label.pipeline.label.plan import Placement
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.runs.record import read_run
from tests.fake_teacher import fake

LOOK = {"scales": [0.5, 1.0]}


def save(path: Path, classes=CITYSCAPES, seed: int = 0, trained_on=None) -> str:
    torch.manual_seed(seed)
    net = build_labeler("hrnet_tiny_ocr", classes.num_classes)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": classes.to_dict(), "trained_on": trained_on}
    path.write_bytes(encode_checkpoint(net, info))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp("weights") / "hmsa.safetensors")


@pytest.fixture
def fused(weights):
    return replace(fake(instances=True), semantic_from=weights, semantic_settings=LOOK)


@pytest.fixture
def image():
    return np.random.default_rng(5).integers(16, 256, (40, 60, 3), np.uint8)


def test_classes_are_those_of_the_other_teacher_and_instances_its_own(fused, weights, image):
    found, alone = Teacher(fused).predict(image), Teacher(fake(instances=True)).predict(image)
    options = {**LOOK, "fusion": "hierarchical", "flip": False}
    other = Teacher(TeacherConfig(weights=weights, options=options, device="cpu"))
    probabilities = other.probabilities(torch.from_numpy(image[None]))[0].numpy()
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.instance, alone.instance)
    free = found.instance == 0
    np.testing.assert_array_equal(found.top1[free], probabilities[:11].argmax(0)[free])
    assert (found.top1[free] != alone.top1[free]).any()


def test_provenance_names_both_files_and_how_both_look(fused, weights):
    info = Teacher(fused).info
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    assert info["semantics"]["weights_sha256"] == info["settings"]["semantics_sha256"] == digest
    assert (info["semantics"]["name"], info["semantics"]["model"]) == ("hmsa", "hrnet_tiny_ocr")
    assert info["semantics"]["weights"] == weights
    assert info["settings"]["semantics"]["scales"] == [0.5, 1.0]
    assert json.loads(json.dumps(info)) == info
    other_look = replace(fused, semantic_settings={"scales": [1.0]})
    assert Teacher(other_look).info["settings"] != info["settings"]


def test_run_records_both_and_is_not_mixed_with_one_of_other_classes(bench, fused, tmp_path):
    bench.draw(3)
    first = bench.label(fused)
    assert first.images_labelled == 3
    store = bench.open()
    record = read_run(store.root, store.commit.run).record
    assert record["teacher"]["semantics"]["weights_sha256"] == record["settings"]["semantics_sha256"]
    assert record["config"]["teacher"]["semantic_from"] == fused.semantic_from
    assert bench.label(fused).images_labelled == 0
    other = save(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(StoreConflict, match="semantics_sha256"):
        bench.label(replace(fused, semantic_from=other))
    with pytest.raises(StoreConflict, match="made with other settings"):
        bench.label(fake(instances=True))


def test_workers_in_other_folders_find_weights_that_were_named_from_here(bench, fused, monkeypatch):
    place = Path(fused.semantic_from)
    monkeypatch.chdir(place.parent)
    config = bench.config(replace(fused, weights=place.name, semantic_from=place.name))
    spec = _spec(config, keeping_of(config), Placement(devices=("cpu",), gpus_per_worker=0, cpus_per_worker=1))
    assert (spec.teacher.weights, spec.teacher.semantic_from) == (str(place), str(place))


def test_evaluate_warns_of_images_that_either_was_trained_on(tmp_path):
    root = tmp_path / "streets"
    draw_tree(root, {"train": 1, "val": 2, "train_extra": 1}, (64, 128))
    keys = sorted(
        f"val/{path.parent.name}/{path.name.removesuffix('_leftImg8bit.png')}"
        for path in root.glob("leftImg8bit/val/*/*")
    )
    drawn = {"data": "d", "split": "val", "labels": "gtFine", "images": 1, "keys": keys[:1], "keys_sha256": "0"}
    weights = save(tmp_path / "hmsa.safetensors", trained_on=drawn)
    teacher = replace(fake(instances=True), semantic_from=weights, semantic_settings=LOOK)
    assert (
        evaluate(EvaluateConfig(data=DataConfig(root=str(root), split="val"), teacher=teacher)).images_trained_on == 1
    )


def test_teachers_that_know_other_classes_are_refused(fused, tmp_path):
    few = replace(
        CITYSCAPES,
        name="few",
        names=CITYSCAPES.names[:3],
        colors=CITYSCAPES.colors[:3],
        raw_ids=CITYSCAPES.raw_ids[:3],
        things=(),
    )
    weights = save(tmp_path / "few.safetensors", few)
    with pytest.raises(ValueError, match="knows 19 classes of 'cityscapes', that of --semantic-from has 3 of 'few'"):
        Teacher(replace(fused, semantic_from=weights))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"semantic_from": "nowhere.safetensors"}, "--semantic-from: no weights file at .*nowhere"),
        ({"semantic_from": "x", "semantic_teacher": "tests.fake_teacher:FakeTeacher", "semantic_settings": {}},
         "--semantic-from: no weights file"),
    ],
)  # fmt: skip
def test_weights_that_are_not_there_are_named_with_their_option(fused, changes, message):
    with pytest.raises(FileNotFoundError, match=message):
        Teacher(replace(fused, **changes))


def test_weights_of_another_kind_name_the_option_of_the_second_teacher(fused, tmp_path):
    path = tmp_path / "panoptic.safetensors"
    info = {"model": "axial_deeplab_tiny", "classes": CITYSCAPES.to_dict(), "trained_on": None}
    path.write_bytes(encode_checkpoint(build_axial_deeplab("axial_deeplab_tiny", 19), info))
    with pytest.raises(ValueError, match=r"--semantic-from: .*; add --semantic-teacher axial_deeplab$"):
        Teacher(replace(fused, semantic_from=str(path)))
    with pytest.raises(ValueError, match=r"gives panoptic, and .* needs the probabilities"):
        Teacher(replace(fused, semantic_from=str(path), semantic_teacher="axial_deeplab", semantic_settings={}))


def test_other_teacher_must_give_probabilities(fused, weights):
    with pytest.raises(ValueError, match=r"gives top1, and .* needs the probabilities of all classes"):
        Teacher(replace(fused, semantic_teacher="tests.fake_teacher:FakeTeacher", semantic_settings={}))


def test_teacher_that_tells_classes_alone_takes_none_of_another(weights):
    with pytest.raises(
        ValueError, match="the teacher hmsa takes no classes of another one; leave --semantic-from away"
    ):
        Teacher(TeacherConfig(weights=weights, device="cpu", semantic_from=weights))


def test_options_of_a_teacher_that_is_not_asked_for_are_refused():
    with pytest.raises(ValueError, match="are about --semantic-from; give that too"):
        replace(fake(instances=True), semantic_settings=LOOK)


def test_finished_store_of_fused_labels_is_not_taken_for_one_of_the_panoptic_teacher_alone(bench, weights, tmp_path):
    bench.draw(2)
    alone = replace(fake(instances=True), weights=weights)  # the same file, so the same digest, with and without
    fused = replace(alone, semantic_from=weights, semantic_settings=LOOK)
    bench.label(fused)
    with pytest.raises(StoreConflict, match="made with other settings"):
        bench.label(alone)
    bench.store = str(tmp_path / "alone")
    bench.label(alone)
    with pytest.raises(StoreConflict, match="semantics"):
        bench.label(fused)


def test_split_that_the_other_teacher_was_validated_on_is_warned_of():
    info = {"val_split": None, "semantics": {"val_split": "val"}}
    assert "held out split val" in about_held_out("train,val", info)
    assert about_held_out("train", info) is None
