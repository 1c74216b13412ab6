"""Images in one folder per class: which are found, what class they have, and trees that are refused."""

import pickle

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.pipeline.data.class_folders import open_class_folders
from hmsa_label.stores.errors import NotAStore


def draw(path, color=(9, 9, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), color).save(path)


@pytest.fixture
def pets(tmp_path):
    for name in ("train/dog/a.png", "train/dog/young/b.png", "train/cat/c.jpg", "val/dog/d.png"):
        draw(tmp_path / name, (200, 0, 0) if "dog" in name else (0, 0, 200))
    return tmp_path


def test_class_of_an_image_is_the_folder_below_its_split(pets):
    found = open_class_folders(str(pets), "train")
    assert found.classes.names == ("cat", "dog")
    assert found.keys == ["cat/c.jpg", "dog/a.png", "dog/young/b.png"]
    image, label = found.pair(2)
    assert (image.shape, image.dtype, label) == ((3, 4, 3), np.uint8, 1)
    assert [found.pair(index)[1] for index in range(3)] == [0, 1, 1]


def test_images_to_validate_on_have_the_numbers_of_the_trained_classes(pets):
    classes = ImageClasses(("ant", "cat", "dog"))
    assert open_class_folders(str(pets), "val", classes=classes).pair(0)[1] == 2


def test_without_a_split_classes_lie_below_the_root(pets):
    assert open_class_folders(str(pets), "").classes.names == ("train", "val")


def test_folders_go_to_other_processes(pets):
    copy = pickle.loads(pickle.dumps(open_class_folders(str(pets), "train", limit=2)))
    assert [copy.pair(index)[1] for index in range(len(copy))] == [0, 1]


def test_file_that_is_no_image_is_named(pets):
    (pets / "train/cat/c.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read cat/c\.jpg of .*train: "):
        open_class_folders(str(pets), "train").pair(0)


def test_trees_without_class_folders_are_refused(pets):
    draw(pets / "train/stray.png")
    with pytest.raises(
        ValueError, match=r"1 images lie directly in .*train, such as stray\.png; expected a folder for"
    ):
        open_class_folders(str(pets), "train")
    with pytest.raises(ValueError, match="images of one class, dog; expected two class folders or more"):
        open_class_folders(str(pets), "val")
    with pytest.raises(ValueError, match="has classes that nothing is trained on: dog; rename or remove them"):
        open_class_folders(str(pets), "val", classes=ImageClasses(("ant", "cat")))
    with pytest.raises(NotAStore, match=r"no folder test below .*, there is train, val; expected one for each split"):
        open_class_folders(str(pets), "test")
    (pets / "test").mkdir()
    (pets / "test/notes.txt").touch()
    with pytest.raises(NotAStore, match=r"no \.png, \.jpg or \.jpeg file"):
        open_class_folders(str(pets), "test")
    with pytest.raises(NotAStore, match="does not exist; correct --data"):
        open_class_folders(str(pets / "nowhere"), "test")
