"""Files find their images by name and folders, and what is ambiguous is refused."""

import pytest

from hmsa_label.pipeline.imports.names import fitting, match_files
from hmsa_label.stores.images.source import ImageRef


def cityscapes(split, city, frame):
    name = f"{city}_000000_{frame:06}"
    return ImageRef(key=f"{split}/{city}/{name}", image=f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")


def photo(path):
    return ImageRef(key=path, image=path)


def matched(images, paths, pattern="{name}.png"):
    return match_files(images, fitting(paths, pattern), pattern)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("bonn_000000_000019_leftImg8bit.png", "{name}.png"),
        ("bonn/bonn_000000_000019_leftImg8bit.png", "{name}.png"),
        ("train_extra/bonn/bonn_000000_000019_leftImg8bit.png", "{name}.png"),
        ("refinement_final/train_extra/bonn/bonn_000000_000019_leftImg8bit.png", "{name}.png"),
        ("bonn/bonn_000000_000019.png", "{name}.png"),
        ("bonn_000000_000019_pred.png", "{name}_pred.png"),
        ("pred/train_extra/bonn/bonn_000000_000019.png", "pred/{name}.png"),
    ],
)
def test_a_file_belongs_to_the_image_whose_name_and_folders_it_has(path, pattern):
    image = cityscapes("train_extra", "bonn", 19)
    found = matched([image], [path], pattern)
    assert found.of == {image.key: path}
    assert found.without_image == []


@pytest.mark.parametrize(
    "path", ["koeln/bonn_000000_000019.png", "val/bonn/bonn_000000_000019.png", "a/bonn_000000_000019.png"]
)
def test_a_file_in_other_folders_than_its_image_belongs_to_none(path):
    found = matched([cityscapes("train_extra", "bonn", 19)], [path])
    assert (found.of, found.without_image) == ({}, [path])


def test_images_of_equal_names_are_told_apart_by_folders():
    images = [photo("a/1.jpg"), photo("b/1.jpg")]
    assert matched(images, ["a/1.png", "b/1.png"]).of == {"a/1.jpg": "a/1.png", "b/1.jpg": "b/1.png"}
    assert matched(images, ["b/1.png"]).of == {"b/1.jpg": "b/1.png"}


def test_one_file_for_two_images_is_refused():
    with pytest.raises(ValueError, match=r"1\.png fits two images, a/1\.jpg and b/1\.jpg; put the labels into folders"):
        matched([photo("a/1.jpg"), photo("b/1.jpg")], ["1.png"])


def test_two_files_for_one_image_are_refused():
    image = cityscapes("val", "bonn", 1)
    with pytest.raises(ValueError, match="two files fit the image val/bonn/bonn_000000_000001: "):
        matched([image], ["bonn_000000_000001.png", "bonn_000000_000001_leftImg8bit.png"])


def test_the_folder_tmp_and_hidden_files_are_passed_over():
    paths = ["tmp/1.png", "a/tmp/1.png", ".1.png", ".trash/1.png", "a/1.png"]
    assert fitting(paths, "{name}.png") == ["a/1.png"]


def test_an_image_named_with_its_suffix_is_found():
    assert matched([photo("1.jpg")], ["1.jpg.png"]).of == {"1.jpg": "1.jpg.png"}
