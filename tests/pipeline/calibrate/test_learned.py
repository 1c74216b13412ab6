"""Which images a teacher was trained on: by name, by the bytes of their files, through a store."""

import hashlib
import shutil

import pytest

from hmsa_label.pipeline.calibrate.learned import Learned, known_images
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.images.cityscapes import CityscapesSource
from tests.pipeline.calibrate.painted import frames, paint, painted


@pytest.fixture
def held_out(tmp_path):
    """Three images of val; the first is also in train, under the same name below the split."""
    names = paint(tmp_path, frames("aachen", 3))
    first = tmp_path / f"leftImg8bit/{names[0]}_leftImg8bit.png"
    copy = tmp_path / f"leftImg8bit/{names[0].replace('val', 'train', 1)}_leftImg8bit.png"
    copy.parent.mkdir(parents=True)
    shutil.copy(first, copy)
    return tmp_path


def known(root, learned):
    source = CityscapesSource(str(root))
    return known_images(learned, source.list("val"), source, DataConfig(root=root, split="val"))


def drawn(data, *keys, split="train"):
    return Learned.of_info({"trained_on": {"data": str(data), "split": split, "keys": list(keys)}})


def test_image_is_known_by_its_name(held_out):
    found = known(held_out, drawn("/gone", "val/aachen/aachen_000000_000002"))
    assert found.keys == {"val/aachen/aachen_000000_000002"}


def test_image_is_known_by_its_bytes_under_another_split(held_out):
    learned = drawn(held_out, "train/aachen/aachen_000000_000000", "train/aachen/aachen_000000_000009")
    assert known(held_out, learned).keys == {"val/aachen/aachen_000000_000000"}


def test_same_name_with_other_bytes_is_another_image(held_out):
    copy = held_out / "leftImg8bit/train/aachen/aachen_000000_000000_leftImg8bit.png"
    shutil.copy(held_out / "leftImg8bit/val/aachen/aachen_000000_000001_leftImg8bit.png", copy)
    found = known(held_out, drawn(held_out, "train/aachen/aachen_000000_000000"))
    assert found.keys == frozenset()
    assert len(found.familiar) == 3  # frames of the same drive all the same


def test_place_of_the_training_that_is_gone_tells_nothing(held_out):
    assert known(held_out, drawn("/gone", "train/aachen/aachen_000000_000000")).keys == frozenset()


def test_images_of_a_store_that_a_student_learned_from_are_known_by_their_bytes(held_out, tmp_path):
    store = label_images(
        LabelConfig(
            data=DataConfig(root=held_out, split="train"),
            teacher=painted(),
            store=tmp_path / "store",
            engine=EngineConfig(executor="local", workers=1),
        )
    )
    learned = Learned.of_info({"auto_labels": {"store": store.store, "version": store.version}})
    assert known(held_out, learned).keys == {"val/aachen/aachen_000000_000000"}


def test_store_that_cannot_be_read_is_said(held_out):
    (line,) = known(held_out, Learned.of_info({"auto_labels": {"store": "/gone", "version": 3}})).warnings
    assert "trained on labels in /gone, which cannot be read" in line


def test_two_teachers_know_what_either_knows():
    both = drawn("/a", "x") | drawn("/b", "y")
    assert both.keys == {"x", "y"}
    assert [part["data"] for part in both.drawn] == ["/a", "/b"]


def test_weights_that_are_not_ours_tell_nothing(tmp_path):
    (tmp_path / "own.bin").write_bytes(hashlib.sha256(b"own").digest())
    assert Learned.of_weights(tmp_path / "own.bin") == Learned()
