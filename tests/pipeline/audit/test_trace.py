"""The chain from a student to its teacher's data: whole where it is whole, and each break is named."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.audit.card import render_card
from hmsa_label.pipeline.audit.store import card
from hmsa_label.pipeline.audit.trace import trace
from hmsa_label.pipeline.audit.trace_links import UNCHECKED, check_weights
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig, TraceConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.training.config import AutoLabels, CoarseLabels
from hmsa_label.pipeline.training.loop import train_student, train_teacher
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake
from tests.tiny_training import tiny_training


def draw(root):
    """Images of 32x64 px with fine labels in train and val, with polygons in train_extra."""
    rng = np.random.default_rng(0)
    for split in ("train", "train_extra", "val"):
        for number in range(2):
            stem = f"{split}/town/town_{number:06}_000000"
            files = {f"leftImg8bit/{stem}_leftImg8bit.png": rng.integers(0, 256, (32, 64, 3), np.uint8)}
            kind = "gtCoarse" if split == "train_extra" else "gtFine"
            files[f"{kind}/{stem}_{kind}_labelIds.png"] = rng.choice([7, 11], (32, 64)).astype(np.uint8)
            for path, pixels in files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / path)


def train_config(root, output, **changes):
    return tiny_training(root / "data", root / output, low_scale=None, max_steps=1, **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with data, a teacher, a store of its labels, and a student trained on them; not to be changed."""
    root = tmp_path_factory.mktemp("chain")
    draw(root / "data")
    train_teacher(train_config(root, "teacher"))
    teacher = TeacherConfig(
        weights=str(root / "teacher/last.safetensors"), device="cpu", options={"scales": (1.0,), "fusion": "single"}
    )
    label_images(
        LabelConfig(
            data=DataConfig(root=str(root / "data"), split="train_extra"),
            teacher=teacher,
            store=str(root / "labels"),
            rule=RuleConfig(threshold=0.05),
            engine=EngineConfig(executor="local", workers=1),
        )
    )
    train_student(train_config(root, "student", second=AutoLabels(store=str(root / "labels"))))
    return root


@pytest.fixture
def chain(made, tmp_path):
    """A copy of the whole chain at the same place as it was recorded, put back afterwards."""
    kept = tmp_path / "kept"
    shutil.copytree(made, kept)
    yield made
    shutil.rmtree(made)
    shutil.copytree(kept, made)


def traced(root, name="student", **changes):
    return trace(str(root / name / "last.safetensors"), TraceConfig(**changes))


def broken(found):
    return {(problem["part"], problem["check"]) for problem in found.problems}


def unchecked(found):
    return {(link.part, link.check) for link in found.links if link.state == "not checked"}


def rewrite(path, change):
    """Changes a checkpoint's metadata in place."""
    tensors, info = decode_checkpoint(path.read_bytes())
    change(info)
    path.write_bytes(save(tensors, {"format": "pt", "hmsa_label": json.dumps(info)}))


def test_untouched_chain_is_whole_down_to_the_teachers_labels(made):
    found = traced(made, deep=True)
    assert found.ok
    assert unchecked(found) == set()
    store = LabelStore.open(str(made / "labels"))
    assert (found.version, found.digest, found.store) == (store.version, store.digest, store.uri)
    teacher = (made / "teacher/last.safetensors").read_bytes()
    assert found.teacher_sha256 == hashlib.sha256(teacher).hexdigest()
    assert found.teacher_trained_on["images"] == 2
    assert found.threshold == 0.05
    assert [run.run for run in found.runs] == [store.commit.run]
    assert {link.part for link in found.links} == {"student", "labels", "run", "teacher"}


def test_teacher_is_a_chain_of_one_link(made):
    found = traced(made, "teacher")
    assert found.ok
    assert found.student is None
    assert found.version is None
    assert {link.part for link in found.links} == {"teacher"}


def test_places_that_are_gone_are_named_and_break_nothing(chain):
    for name in ("labels", "teacher", "data"):
        (chain / name).rename(chain / f"{name}-moved")
    found = traced(chain)
    assert found.ok
    assert unchecked(found) == {
        ("student", "fine images"),
        ("labels", "store"),
        ("teacher", "weights"),
        ("teacher", "fine data"),
    }
    moved = traced(
        chain,
        teacher=str(chain / "teacher-moved/last.safetensors"),
        store=str(chain / "labels-moved"),
        data=str(chain / "data-moved"),
    )
    assert moved.ok
    assert unchecked(moved) == set()


def test_changed_and_missing_fine_data_break_the_chain(chain):
    fine = chain / "data/gtFine/train/town"
    path = fine / "town_000000_000000_gtFine_labelIds.png"
    Image.fromarray(np.full((32, 64), 7, np.uint8)).save(path)
    assert broken(traced(chain)) == {("student", "fine labels"), ("teacher", "fine labels")}
    path.unlink()
    assert broken(traced(chain)) == {("student", "fine images"), ("teacher", "fine images")}
    shutil.rmtree(fine.parent)
    assert broken(traced(chain)) == {("student", "fine images"), ("teacher", "fine images")}


def test_difference_from_a_list_that_only_the_run_wrote_down_proves_nothing(chain):
    (chain / "teacher").rename(chain / "teacher-moved")
    assert ("teacher", "fine images") not in unchecked(traced(chain))
    next((chain / "data/gtFine/train/town").iterdir()).unlink()
    found = traced(chain)
    assert broken(found) == {("student", "fine images")}
    assert ("teacher", "fine images") in unchecked(found)


def test_retrained_teacher_is_not_the_one_that_labeled(chain):
    shutil.rmtree(chain / "teacher")
    train_teacher(train_config(chain, "teacher", seed=1))
    found = traced(chain)
    assert broken(found) == {("teacher", "weights")}
    assert found.teacher_trained_on["images"] == 2  # as the run wrote it down


def test_damaged_label_shows_when_it_is_read(chain):
    chunk = next(
        path for path in chain.glob("labels/data/*/*/label/**/*") if path.is_file() and path.name != "zarr.json"
    )
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    assert broken(traced(chain, deep=True)) == {("labels", "labels as written")}
    chunk.unlink()
    assert broken(traced(chain)) == {("labels", "labels as written")}


def test_another_store_or_version_is_not_taken_for_the_recorded_one(chain):
    other = chain / "other"
    label_images(
        LabelConfig(
            data=DataConfig(root=str(chain / "data"), split="train_extra"),
            teacher=fake(),
            store=str(other),
            engine=EngineConfig(executor="local", workers=1),
        )
    )
    found = broken(traced(chain, store=str(other)))
    assert {("labels", "store"), ("labels", "digest of version 3")} <= found
    assert any(part == "run" for part, _ in found)
    rewrite(chain / "student/last.safetensors", lambda info: info["auto_labels"].update(version=99))
    assert broken(traced(chain)) == {("labels", "version")}


def test_rewritten_record_of_the_run_shows(chain):
    record = next(chain.glob("labels/runs/*.json"))
    document = json.loads(record.read_text())
    document["settings"]["teacher_sha256"] = "0" * 64
    record.write_text(json.dumps(document))
    found = broken(traced(chain))
    assert ("labels", "labels as written") in found
    assert any(part == "run" for part, _ in found)


def test_scored_images_among_those_trained_on_break_the_chain(chain):
    def leak(info):
        info["auto_labels"]["leaked"] = ["val/town/town_000000_000000"]
        keys = [*info["trained_on"]["keys"], "val/town/town_000000_000000"]
        digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
        info["trained_on"] |= {"keys": keys, "keys_sha256": digest}

    rewrite(chain / "student/last.safetensors", leak)
    found = broken(traced(chain))
    assert {("student", "no leak recorded"), ("student", "no val or test image among the fine images")} <= found


def test_labels_by_another_rule_than_was_recorded_break_the_chain(chain):
    assert traced(chain).ok
    rewrite(chain / "student/last.safetensors", lambda info: info["auto_labels"].update(rule={"center_threshold": 0.3}))
    found = traced(chain)
    assert broken(found) == {("labels", "rule"), ("labels", "rule of the training")}
    assert found.rule == {"center_threshold": 0.3}
    assert "center_threshold is not given, recorded was 0.3" in [link.detail for link in found.links]


@pytest.mark.parametrize("change", [{"threshold": 0.123}, {"class_thresholds": {"car": 0.123}}])
def test_threshold_that_the_store_does_not_hold_breaks_the_chain(chain, change):
    rewrite(chain / "student/last.safetensors", lambda info: info["auto_labels"].update(change))
    assert broken(traced(chain)) == {("labels", "threshold"), ("labels", "rule of the training")}


def test_class_that_a_training_switched_off_breaks_nothing(chain):
    labels = AutoLabels(store=str(chain / "labels"), class_thresholds={"car": "off"})
    train_student(train_config(chain, "without_cars", second=labels))
    found = traced(chain, "without_cars")
    assert found.ok
    assert found.class_thresholds == {"car": "off"}


@pytest.mark.parametrize(
    ("val_split", "link"),
    [
        ("train_extra", ("labels", "no val or test image among the labeled images")),
        ("val,train_extra", ("labels", "no val or test image among the labeled images")),
        ("train", ("student", "no val or test image among the fine images")),
    ],
)
def test_split_that_was_validated_on_must_not_be_trained_on_whatever_its_name(chain, val_split, link):
    rewrite(chain / "student/last.safetensors", lambda info: info["config"].update(val_split=val_split))
    assert broken(traced(chain)) == {link}


def test_val_that_was_trained_on_by_its_name_and_not_scored_breaks_nothing(made, tmp_path):
    data = DataConfig(root=str(made / "data"), split="train,val")
    train_teacher(replace(train_config(made, tmp_path / "both"), data=data, val_split=""))
    found = trace(str(tmp_path / "both/last.safetensors"), TraceConfig())
    assert found.ok
    assert found.teacher_trained_on["images"] == 4


def test_scored_image_that_was_labeled_under_another_name_is_found_by_its_file(chain):
    source, copy = (
        chain / f"data/leftImg8bit/{split}/town/town_000000_000000_leftImg8bit.png" for split in ("train_extra", "val")
    )
    shutil.copy(source, copy)
    assert traced(chain).ok
    assert broken(traced(chain, deep=True)) == {("labels", "no val or test file among the labeled images")}


def test_student_of_a_student_is_followed_to_the_end(chain):
    data, labels = DataConfig(root=str(chain / "data"), split="train_extra"), str(chain / "labels2")
    teacher = TeacherConfig(
        weights=str(chain / "student/last.safetensors"), device="cpu", options={"scales": (1.0,), "fusion": "single"}
    )
    engine = EngineConfig(executor="local", workers=1)
    label_images(LabelConfig(data=data, teacher=teacher, store=labels, rule=RuleConfig(threshold=0.05), engine=engine))
    train_student(train_config(chain, "grandchild", second=AutoLabels(store=labels)))
    found = traced(chain, "grandchild")
    assert found.ok
    assert {"labels", "teacher's student", "teacher's labels", "teacher's run", "teacher's teacher"} <= {
        link.part for link in found.links
    }
    shutil.rmtree(chain / "labels/data")
    assert broken(traced(chain, "grandchild")) == {("teacher's labels", "labels as written")}


def test_polygons_of_a_teacher_are_part_of_the_chain(chain):
    coarse = CoarseLabels(split="train_extra", limit=1)
    train_teacher(train_config(chain, "coarse", second=coarse))
    assert traced(chain, "coarse").teacher.coarse_labels["images"] == 1
    assert traced(chain, "coarse").ok
    polygon = next((chain / "data/gtCoarse").rglob("*_labelIds.png"))
    Image.fromarray(np.full((32, 64), 7, np.uint8)).save(polygon)
    assert broken(traced(chain, "coarse")) == {("teacher", "coarse labels")}


def test_a_file_that_is_no_checkpoint_is_an_error(tmp_path):
    (tmp_path / "last.safetensors").write_bytes(save({"weight": torch.zeros(1)}))
    with pytest.raises(ValueError, match="not a safetensors checkpoint"):
        trace(str(tmp_path / "last.safetensors"), TraceConfig())
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        trace(str(Path(tmp_path) / "nothing.safetensors"), TraceConfig())


def test_chain_on_s3_is_followed(chain, s3_storage):
    """The store has moved to S3 with all its objects."""
    import s3fs

    filesystem = s3fs.S3FileSystem(**s3_storage, use_listings_cache=False)
    filesystem.put(str(chain / "labels"), "labels/traced", recursive=True)
    shutil.rmtree(chain / "labels")
    found = traced(chain, store="s3://labels/traced", store_options=s3_storage, deep=True)
    assert found.ok
    assert unchecked(found) == set()


def test_teacher_that_told_the_classes_of_fused_labels_is_a_link_of_its_own(made, tmp_path):
    weights = tmp_path / "semantic.safetensors"
    shutil.copy(made / "teacher/last.safetensors", weights)
    look = {"scales": (1.0,), "fusion": "single"}
    label_images(
        LabelConfig(
            data=DataConfig(root=str(made / "data"), split="train_extra"),
            teacher=replace(fake(instances=True), semantic_from=str(weights), semantic_settings=look),
            store=str(tmp_path / "fused"),
            rule=RuleConfig(threshold=0.05),
            engine=EngineConfig(executor="local", workers=1),
        )
    )
    config = train_config(made, "fused-student", second=AutoLabels(store=str(tmp_path / "fused")))
    train_student(replace(config, output=str(tmp_path / "student")))
    found = traced(tmp_path)
    assert {(link.check, link.state) for link in found.links if link.part == "semantic teacher"} >= {("weights", "ok")}
    assert broken(found) == set()
    assert "classes by the teacher hmsa, weights sha256" in render_card(card(str(tmp_path / "fused")))
    weights.write_bytes((made / "student/last.safetensors").read_bytes())
    assert broken(traced(tmp_path)) == {("semantic teacher", "weights")}
    weights.unlink()
    found = traced(tmp_path)
    assert found.ok
    assert ("semantic teacher", "weights") in unchecked(found)


def test_imported_labels_have_no_weights_to_check_and_trace_says_where_they_are_from():
    imported = {"labels": "/x/maps", "format": "maps", "made_by": "our own W48"}
    data, link = check_weights("teacher", None, "ab" * 32, imported)
    assert (data, link.state) == (None, UNCHECKED)
    assert (
        link.detail == "the labels were imported from /x/maps (maps, made by our own W48); no record of their teacher"
    )
