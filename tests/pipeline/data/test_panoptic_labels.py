"""Label files with instances become panoptic maps, whatever the data set; small trees, drawn here."""

import io
import json
import re
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.datasets import FineLabelDataset
from hmsa_label.pipeline.data.panoptic_labels import images_with_instances, panoptic_map, read_panoptic
from hmsa_label.pipeline.data.scores import labeled_images, read_pair
from hmsa_label.stores.images.open import open_images

SIZE = (4, 6)


def png(pixels: Any, dtype: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype)).save(buffer, "PNG")
    return buffer.getvalue()


def colored(ids: Any) -> bytes:
    ids = np.asarray(ids)
    return png(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1), np.uint8)


def put(root: str, path: str, data: bytes) -> None:
    filesystem, place = fsspec.core.url_to_fs(f"{root}/{path}")
    filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
    filesystem.pipe_file(place, data)


@pytest.fixture(params=["disk", "memory"])
def root(request: Any, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}"


def cityscapes(root: str, ids: Any, name: str = "ulm_0_0") -> None:
    ids = np.broadcast_to(ids, SIZE)
    stem = f"val/ulm/{name}"
    put(root, f"leftImg8bit/{stem}_leftImg8bit.png", png(np.zeros((*SIZE, 3)), np.uint8))
    labels = np.where(ids >= 1000, ids // 1000, np.minimum(ids, 255))
    put(root, f"gtFine/{stem}_gtFine_labelIds.png", png(labels, np.uint8))
    put(root, f"gtFine/{stem}_gtFine_instanceIds.png", png(ids, np.uint16))


def test_cityscapes_instances_crowds_and_ignored_things(root: str) -> None:
    #      road, sky, car, 2nd car, cars, caravan, trailer, person
    ids = [[7, 23, 26000, 26001, 26, 29003], [30001, 24000, 24007, 1, 33, 12]]
    cityscapes(root, np.repeat(ids, 2, axis=0))
    source = open_images("cityscapes", root)
    (ref,) = images_with_instances(source, "val")
    image, found = read_panoptic(source, ref, CITYSCAPES)
    assert (image.shape, found.dtype) == ((*SIZE, 3), np.int32)
    assert found[::2].tolist() == [[0, 10000, 13001, 13002, 13000, VOID], [VOID, 11001, 11008, VOID, 18000, 3000]]
    semantic = read_pair(source, ref, CITYSCAPES)[1]
    np.testing.assert_array_equal(found // 1000, semantic)


@pytest.mark.parametrize("value", [256, 999, 26999])
def test_a_number_without_meaning_is_named_with_its_file(tmp_path: Path, value: int) -> None:
    cityscapes(str(tmp_path), value)
    cityscapes(str(tmp_path), 7, "ulm_1_1")
    source = open_images("cityscapes", str(tmp_path))
    bad, good = images_with_instances(source, "val")
    line = f"cannot read val/ulm/ulm_0_0: gtFine/val/ulm/ulm_0_0_gtFine_instanceIds.png: it holds {value}, which is no"
    with pytest.raises(ValueError, match=re.escape(line)):
        panoptic_map(source, bad, CITYSCAPES)
    assert not panoptic_map(source, good, CITYSCAPES).any()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (png(np.zeros((*SIZE, 3)), np.uint8), "a PNG of mode RGB; instance ids must be a PNG with one 16-bit channel"),
        (png(np.zeros(SIZE), np.uint16)[:60], "truncated"),
        (png(np.zeros((3, 3)), np.uint16), "the image is (4, 6) px, its instances are (3, 3) px"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    cityscapes(str(tmp_path), 7)
    put(str(tmp_path), "gtFine/val/ulm/ulm_0_0_gtFine_instanceIds.png", data)
    source = open_images("cityscapes", str(tmp_path))
    (ref,) = images_with_instances(source, "val")
    with pytest.raises(ValueError, match="val/ulm/ulm_0_0") as error:
        read_panoptic(source, ref, CITYSCAPES)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tree_without_instances_says_which_files_it_needs(tmp_path: Path) -> None:
    cityscapes(str(tmp_path), 7)
    (tmp_path / "gtFine/val/ulm/ulm_0_0_gtFine_instanceIds.png").unlink()
    source = open_images("cityscapes", str(tmp_path))
    with pytest.raises(ValueError, match=r"has no image with instances; expected \*_gtFine_instanceIds.png"):
        images_with_instances(source, "val")
    (ref,) = source.list("val", labels="gtFine")
    with pytest.raises(ValueError, match="val/ulm/ulm_0_0 has no file with instances"):
        panoptic_map(source, ref, CITYSCAPES)


VISTAS = [
    {"name": "animal--bird", "readable": "Bird", "instances": True, "evaluate": True, "color": [165, 42, 42]},
    {"name": "flat--road", "readable": "Road", "instances": False, "evaluate": True, "color": [128, 64, 128]},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False, "evaluate": False, "color": [0, 0, 0]},
    {"name": "object--car", "readable": "Car", "instances": True, "evaluate": True, "color": [0, 0, 142]},
]


def vistas(root: str, labels: Any) -> None:
    put(root, "config_v1.2.json", json.dumps({"labels": VISTAS}).encode())
    put(root, "training/images/a.jpg", png(np.zeros((*SIZE, 3)), np.uint8))
    put(root, "training/v1.2/labels/a.png", png(labels, np.uint8))


def test_mapillary_instances_from_either_kind_of_file(root: str) -> None:
    labels = np.array([[0, 0, 1, 1, 2, 3]] * 4)
    numbers = np.array([[0, 1, 0, 0, 0, 4]] * 4)
    vistas(root, labels)
    put(root, "training/v1.2/instances/a.png", png(256 * labels + numbers, np.uint16))
    source: Any = open_images("mapillary", root)
    classes = classes_of(source)
    assert (classes.names, classes.things) == (("Bird", "Road", "Car"), (0, 2))
    (ref,) = images_with_instances(source, "train")
    assert panoptic_map(source, ref, classes)[0].tolist() == [1, 2, 1000, 1000, VOID, 2005]
    # Categories count from 1 here, and meet the config by name; the second bird is a flock.
    categories = [
        {"id": raw + 1, "name": label["readable"], "isthing": int(bool(label["instances"]))}
        for raw, label in enumerate(VISTAS)
    ]
    regions = [(9, 1, 0), (70_000, 1, 1), (300, 2, 0), (12, 3, 0), (13, 4, 0)]
    document = {
        "categories": categories,
        "annotations": [
            {
                "image_id": "a",
                "file_name": "a.png",
                "segments_info": [{"id": n, "category_id": c, "iscrowd": crowd} for n, c, crowd in regions],
            }
        ],
    }
    put(root, "training/v1.2/panoptic/a.png", colored([[9, 70_000, 300, 300, 12, 13]] * 4))
    put(root, "training/v1.2/panoptic/panoptic_2018.json", json.dumps(document).encode())
    source = open_images("mapillary", root)
    (ref,) = images_with_instances(source, "train")
    assert ref.instances == "training/v1.2/panoptic/a.png"
    assert panoptic_map(source, ref, classes)[0].tolist() == [1, 0, 1000, 1000, VOID, 2001]


def coco(root: str, regions: list[tuple[int, int, int]], ids: Any, **changes: Any) -> dict[str, Any]:
    categories = [
        {"id": 90, "name": "toothbrush", "isthing": 1},
        {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]},
        {"id": 92, "name": "banner", "isthing": 0},
    ]
    document = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 4, "width": 6}],
        "annotations": [
            {
                "image_id": 139,
                "file_name": "000000000139.png",
                "segments_info": [{"id": n, "category_id": c, "iscrowd": crowd} for n, c, crowd in regions],
            }
        ],
        "categories": categories,
    } | changes
    put(root, "val2017/000000000139.jpg", png(np.zeros((*SIZE, 3)), np.uint8))
    put(root, "annotations/panoptic_val2017/000000000139.png", colored(ids))
    put(root, "annotations/panoptic_val2017.json", json.dumps(document).encode())
    return document


def test_coco_panoptic_is_read_as_labels_and_as_instances(root: str) -> None:
    regions = [(5_000_000, 1, 0), (3, 1, 1), (256, 1, 0), (255, 92, 0), (4, 90, 0)]
    coco(root, regions, [[5_000_000, 3, 256, 255, 4, 0]] * 4)
    source = open_images("coco", root)
    classes = classes_of(source)
    assert (classes.names, classes.raw_ids, classes.things) == (("person", "toothbrush", "banner"), (1, 90, 92), (0, 1))
    assert classes.colors[0] == (220, 20, 60)
    (ref,) = images_with_instances(source, "val")
    assert ref.key == "val2017/000000000139"
    assert read_panoptic(source, ref, classes)[1][0].tolist() == [1, 0, 2, 2000, 1001, VOID]
    (labeled,) = labeled_images(source, "val2017", "gtFine")
    assert read_pair(source, labeled, classes)[1][0].tolist() == [0, 0, 0, 2, 1, 255]
    data = FineLabelDataset(root, dataset="coco", split="val")
    assert data.label(0)[0].tolist() == [0, 0, 0, 2, 1, 255]


def test_what_the_json_file_says_of_an_image_is_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for category in (1, 90, 1):
        coco(str(tmp_path), [(7, category, 0)], np.full(SIZE, 7))
        digests.add(FineLabelDataset(str(tmp_path), dataset="coco", split="val").digest)
    assert len(digests) == 2


def test_an_id_that_the_json_file_does_not_list_is_named(tmp_path: Path) -> None:
    coco(str(tmp_path), [(7, 1, 0)], np.full(SIZE, 8))
    source = open_images("coco", str(tmp_path))
    (ref,) = images_with_instances(source, "val")
    for read in (panoptic_map, read_pair):
        with pytest.raises(ValueError, match=r"cannot read val2017/000000000139: .*it holds id 8, which its JSON file"):
            read(source, ref, classes_of(source))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"annotations": []}, "it lacks 'categories' or 'annotations'"),
        ({"annotations": [3]}, "an annotation lacks 'segments_info': 3"),
        ({"annotations": [{"file_name": "../x.png", "segments_info": []}]}, "'../x.png' is no usable file_name"),
        (
            {"annotations": [{"file_name": "x.png", "segments_info": [{"category_id": 1}]}]},
            "a segment without a usable",
        ),
        ({"categories": [{"id": 1, "name": "person"}]}, "a category lacks a usable id, name or isthing"),
        ({"categories": [{"id": 2, "name": "person", "isthing": 1}]}, "category_id 1 is not among its categories"),
        ({"categories": [{"id": n, "name": "x", "isthing": 0} for n in (1, 1)]}, "two categories have one id"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    coco(str(tmp_path), [(7, 1, 0)], np.full(SIZE, 7), **changes)
    place = f"annotations/panoptic_val2017.json below {tmp_path} cannot be used as a panoptic JSON file: "
    with pytest.raises(ValueError, match=re.escape(place)) as error:
        images_with_instances(open_images("coco", str(tmp_path)), "val")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
