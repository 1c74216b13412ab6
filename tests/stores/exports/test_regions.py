"""Exports with instances: their regions worked out by hand, and what stores of several kinds give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.exports.cityscapes_tree import _instance_ids, _require_room, export_cityscapes
from hmsa_label.stores.exports.coco_panoptic import export_coco
from hmsa_label.stores.exports.regions import find_regions
from hmsa_label.stores.versions.label_store import LabelStore
from tests.stores.conftest import CLASSES

RAW_IDS = np.zeros(256, np.uint8)
RAW_IDS[[0, 11, 13]] = (7, 24, 26)

# road, a crowd of people, two cars (7 lies in two parts), no label
LABEL = np.array([[0, 0, 0, 0], [13, 13, 11, 13], [13, 13, 11, 13], [255, 255, 0, 13]], np.uint8)
INSTANCE = np.array([[0, 0, 0, 0], [7, 65534, 0, 7], [7, 65534, 0, 7], [9, 0, 0, 7]], np.uint16)


def test_regions_are_instances_and_what_each_class_has_beside_them() -> None:
    found = find_regions(LABEL, INSTANCE)
    assert found.train_ids.tolist() == [0, 11, 13, 13, 255]
    assert found.instances.tolist() == [0, 0, 7, 65534, 0]
    assert found.areas_px.tolist() == [5, 2, 5, 2, 2]
    assert found.boxes.tolist() == [[0, 0, 4, 4], [2, 1, 1, 2], [0, 1, 4, 3], [1, 1, 1, 2], [0, 3, 2, 1]]
    assert found.region_of.tolist() == [[0, 0, 0, 0], [2, 3, 1, 2], [2, 3, 1, 2], [4, 4, 0, 2]]


def test_instance_ids_count_from_0_within_their_class() -> None:
    ids = _instance_ids(find_regions(LABEL, INSTANCE), RAW_IDS, "a")
    assert ids.dtype == np.uint16
    assert ids.tolist() == [[7, 7, 7, 7], [26000, 26001, 24, 26000], [26000, 26001, 24, 26000], [0, 0, 7, 26000]]


def test_more_instances_than_instance_ids_have_numbers_for_are_refused() -> None:
    instance = np.arange(1, 1001, dtype=np.uint16).reshape(10, 100)
    label = np.full(instance.shape, 11, np.uint8)
    assert _instance_ids(find_regions(label, instance), RAW_IDS, "a").max() == 24999
    with pytest.raises(ValueError, match="a/b has 1001 instances of class 11; 1000 fit into instanceIds; use --format"):
        _instance_ids(find_regions(np.full((1, 1001), 11, np.uint8), np.arange(1, 1002)[None]), RAW_IDS, "a/b")


@pytest.mark.parametrize("raw_id", [0, 65, 200])
def test_things_whose_ids_do_not_fit_into_instance_ids_are_refused(raw_id: int) -> None:
    _require_room({**CLASSES, "things": [1, 2]})
    classes = {**CLASSES, "raw_ids": [7, raw_id, 24, 23, 28], "things": [1]}
    with pytest.raises(ValueError, match=f"class 'car' has raw id {raw_id}; instanceIds hold instances of ids 1 to 64"):
        _require_room(classes)


def test_images_of_two_kinds_of_teachers_are_exported_with_what_they_have(
    uri: str, labels: Any, tmp_path: Path
) -> None:
    labels.fill(uri, ["a", "b"])
    labels.fill(uri, ["b", "c"], panoptic=True, teacher="b", relabel=True)
    store = LabelStore.open(uri)
    done = export_cityscapes(store, f"{tmp_path}/png")
    assert len([path for path in (tmp_path / "png").rglob("*") if path.is_file()]) == done.files == 3 * 3 + 2
    assert not (tmp_path / "png/gtAuto/a_gtAuto_instanceIds.png").exists()
    export_coco(store, f"{tmp_path}/coco")
    document = json.loads((tmp_path / "coco/annotations/panoptic_gtAuto.json").read_text())
    things = {entry["id"] for entry in document["categories"] if entry["isthing"]}
    for entry in document["annotations"]:
        found = [segment["iscrowd"] for segment in entry["segments_info"] if segment["category_id"] in things]
        assert found
        assert set(found) == {int(entry["file_name"] == "a.png")}


@pytest.mark.parametrize(
    ("keys", "ids"),
    [
        (["val2017/000000000139", "val2017/000000000285"], [139, 285]),
        (["val/ulm/ulm_000000_000019", "val/ulm/ulm_000001_000019"], ["ulm_000000_000019", "ulm_000001_000019"]),
        (["drive1/000000000001", "drive2/000000000001"], [1, 2]),
        (["drive1/0001.jpg", "drive1/0002.jpg"], [1, 2]),
    ],
)
def test_image_ids_are_those_of_the_data_set(uri: str, labels: Any, tmp_path: Path, keys: list[str], ids: Any) -> None:
    labels.fill(uri, keys)
    export_coco(LabelStore.open(uri), f"{tmp_path}/coco", name="x")
    document = json.loads((tmp_path / "coco/annotations/panoptic_x.json").read_text())
    assert [image["id"] for image in document["images"]] == ids
    assert [(entry["image_id"], entry["file_name"]) for entry in document["annotations"]] == [
        (number, f"{key}.png") for number, key in zip(ids, keys, strict=True)
    ]
