"""The images of a store are found where they were labeled, beside the fine labels, or where somebody says."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.audit.trace import trace
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TraceConfig, to_dict
from hmsa_label.pipeline.data.auto_images import AutoImages
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.training.config import AutoLabels
from hmsa_label.pipeline.training.lineage import open_auto_labels
from hmsa_label.pipeline.training.loop import train_student
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.fake_teacher import fake
from tests.tiny_training import tiny_training


@pytest.fixture
def photos(tmp_path, draw):
    """A plain folder of three photos, one of them below a folder."""
    for number, name in enumerate(("a.png", "b.png", "trip/a.png")):
        draw(tmp_path / "photos" / name, number, (48, 64))
    return tmp_path / "photos"


def label(store, root, dataset, split="train_extra"):
    engine = EngineConfig(executor="local", workers=1)
    data = DataConfig(root=str(root), dataset=dataset, split=split)
    teacher = fake()
    label_images(LabelConfig(data=data, teacher=teacher, store=str(store), engine=engine))
    return str(store)


@pytest.fixture
def store(photos, tmp_path):
    return label(tmp_path / "labels", photos, "folder")


def student(blocks, store, output, **auto):
    second = AutoLabels(store=store, **auto)
    return tiny_training(blocks, output, second=second, low_scale=None, max_steps=1, val_split="")


def test_a_student_learns_from_a_cityscapes_tree_and_a_folder_of_photos(blocks, photos, store, tmp_path):
    train_student(student(blocks, store, tmp_path / "student"))
    info = decode_checkpoint((tmp_path / "student/last.safetensors").read_bytes())[1]
    assert info["auto_labels"]["data"] == [{"root": str(photos), "dataset": "folder"}]
    assert info["trained_on"]["data"] == str(blocks)
    assert trace(str(tmp_path / "student/last.safetensors"), TraceConfig(deep=True)).ok


def test_photos_that_moved_are_named_and_found_where_auto_data_says(blocks, photos, store, tmp_path):
    config = student(blocks, store, tmp_path / "student")
    photos.rename(tmp_path / "moved")
    said = rf"such as a\.png \(a\.png\) are not in {blocks} or {photos} as they were .*--auto-data"
    with pytest.raises(ValueError, match=said):
        train_student(config)
    train_student(replace(config, second=replace(config.second, data=str(tmp_path / "moved"))))


def test_other_files_of_the_same_names_are_not_taken_for_the_photos(photos, store, tmp_path, draw):
    for number, name in enumerate(("a.png", "b.png", "trip/a.png")):
        draw(tmp_path / "others" / name, 10 + number, (48, 64))
    with pytest.raises(ValueError, match=r"are not in .*others as they were"):
        AutoLabelDataset(LabelStore.open(store), str(tmp_path / "others"))
    labels = AutoLabelDataset(LabelStore.open(store))
    shutil.copy(tmp_path / "others/b.png", photos / "b.png")
    with pytest.raises(ValueError, match=r"^b\.png: b\.png below .* is not the file that was labeled; .*--only-new"):
        labels.pair(1)
    assert labels.pair(0)[0].shape == (48, 64, 3)


def test_a_store_of_two_roots_reads_each_image_from_its_own_also_after_a_change_of_threshold(
    blocks, photos, store, tmp_path
):
    label(store, blocks, "cityscapes")
    rethreshold(store, 0.5)
    labels = AutoLabelDataset(LabelStore.open(store))
    assert {place["root"] for place in labels.images.places} == {str(blocks), str(photos)}
    for index, key in enumerate(labels.keys):
        path = photos / key if key.endswith(".png") else blocks / f"leftImg8bit/{key}_leftImg8bit.png"
        assert np.array_equal(labels.pair(index)[0], np.asarray(Image.open(path).convert("RGB")))


def test_images_beside_the_fine_labels_come_first(blocks, tmp_path):
    store, copy = label(tmp_path / "labels", blocks, "cityscapes"), tmp_path / "copy"
    shutil.copytree(blocks, copy)
    config = student(copy, store, tmp_path / "student")
    labels = open_auto_labels(config, config.second, AutoLabelDataset(LabelStore.open(store)).classes)
    assert [place["root"] for place in labels.images.places] == [str(copy)]
    assert [place["root"] for place in AutoImages(LabelStore.open(store), None).places] == [str(blocks)]


def test_options_of_a_storage_are_not_written_down():
    config = AutoLabels(store="labels", data_options={"secret": "hush"}, storage_options={"secret": "hush"})
    assert "hush" not in str(to_dict(config))
