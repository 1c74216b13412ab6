"""What the numbers in class maps stand for, and how a wrong guess is noticed."""

import json

import numpy as np
import pytest

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.classes import (
    classes_for,
    read_classes,
    refuse_other_ids,
    to_train_ids,
    train_ids_of,
)
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.source import BadImage

RAW = np.array([[7, 8, 26, 33], [11, 21, 23, 4]], np.uint8)
TRAIN = np.array([[0, 1, 13, 18], [2, 8, 10, 255]], np.uint8)


def test_label_ids_and_train_ids_give_the_same_classes():
    assert np.array_equal(to_train_ids(RAW, train_ids_of(CITYSCAPES, "raw"), "raw"), TRAIN)
    assert np.array_equal(to_train_ids(TRAIN, train_ids_of(CITYSCAPES, "train"), "train"), TRAIN)


@pytest.mark.parametrize(
    ("raw", "ids", "reason"),
    [
        (RAW, "train", r"it holds 26, which is no trainId \(0 to 18, or 255\); if these are label ids, say --ids raw"),
        (RAW + np.uint8(200), "raw", "it holds 207, which is no label id"),
    ],
)
def test_a_map_with_ids_that_cannot_be_there_is_refused(raw, ids, reason):
    with pytest.raises(BadImage, match=reason):
        to_train_ids(raw, train_ids_of(CITYSCAPES, ids), ids)


@pytest.mark.parametrize(
    ("maps", "ids", "reason"),
    [
        ([RAW], "train", "the labels of here hold no trainIds: 0.png has 33, and cityscapes has 19 classes"),
        ([TRAIN % 16], "raw", "the labels of here look like trainIds: none of the files looked at, such as 0.png"),
        # Half of it is road, sky and vegetation: too few different ids to tell, but nearly all would be of no class.
        (
            [np.array([[0, 0, 10, 8]], np.uint8)],
            "raw",
            "many pixels would be of no class as label ids; say --ids train",
        ),
    ],
)
def test_ids_of_the_other_kind_are_noticed_before_anything_is_imported(maps, ids, reason):
    with pytest.raises(ValueError, match=reason):
        refuse_other_ids([(f"{n}.png", raw) for n, raw in enumerate(maps)], CITYSCAPES, ids, "here")


@pytest.mark.parametrize(("maps", "ids"), [([RAW], "raw"), ([TRAIN], "train"), ([], "raw"), ([RAW * 0 + 255], "raw")])
def test_ids_of_the_right_kind_pass(maps, ids):
    refuse_other_ids([(f"{n}.png", raw) for n, raw in enumerate(maps)], CITYSCAPES, ids, "here")


MAPILLARY = {
    "labels": [{"readable": "Bird", "color": [1, 2, 3], "evaluate": False}, {"readable": "Car", "color": [4, 5, 6]}]
}


@pytest.mark.parametrize(
    ("document", "names", "raw_ids"),
    [
        (["road", "car"], ("road", "car"), (0, 1)),
        ({"names": ["road", "car"]}, ("road", "car"), (0, 1)),
        ({"id2label": {"1": "car", "0": "road"}, "hidden_size": 3}, ("road", "car"), (0, 1)),
        (MAPILLARY, ("Car",), (1,)),
        (CITYSCAPES.to_dict(), CITYSCAPES.names, CITYSCAPES.raw_ids),
    ],
)
def test_classes_are_read_from_the_files_that_people_have(tmp_path, document, names, raw_ids):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    table = read_classes(str(path))
    assert isinstance(table, ClassTable)
    assert (table.names, table.raw_ids) == (names, raw_ids)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"labels": 3}', '{"id2label": {"a": "road"}}', "7", "null"])
def test_a_file_that_names_no_classes_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config.json is no file of classes \(.*\); expected a JSON list of names"):
        read_classes(str(path))


def test_photos_alone_tell_no_classes(tmp_path):
    source = FolderSource(str(tmp_path))
    with pytest.raises(ValueError, match=r"nothing tells the classes of .*say --classes cityscapes, or --classes FILE"):
        classes_for(ImportConfig(labels=str(tmp_path)), source)
    assert classes_for(ImportConfig(labels=str(tmp_path), format="nvidia"), source) is CITYSCAPES
    assert classes_for(ImportConfig(labels=str(tmp_path), classes="cityscapes"), source) is CITYSCAPES
