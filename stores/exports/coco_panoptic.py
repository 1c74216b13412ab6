"""A version as COCO panoptic: one PNG of region ids per image, and one JSON file that says what the ids are.

Format: https://cocodataset.org/#format-data, "Panoptic Segmentation".
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from hmsa_label.stores.exports.destination import Destination, Exported, Progress, refuse_outside, require_plain_name
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.exports.regions import Regions, read_regions
from hmsa_label.stores.format.layout import IGNORE_INDEX
from hmsa_label.stores.versions.label_store import LabelStore

COCO_NAME = re.compile(r"\d{12}")  # 000000000139 is image 139
CITYSCAPES_NAME = re.compile(r".+_\d{6}_\d{6}")
IDS_PER_INSTANCE = 256  # id = 256 * instance + trainId + 1: only what has no label is 0, and no class is lost to it


def export_coco(
    store: LabelStore,
    destination: str,
    *,
    name: str = "gtAuto",
    threads: int = 4,
    on_image: Progress | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Exported:
    """`annotations/panoptic_<name>.json`, and `annotations/panoptic_<name>/<key>.png` per image.

    The color of a pixel spells the id of its region: red is trainId + 1, green + 256 blue the instance; black has no
    label. Category ids are the class table's raw ids. Pixels of a thing class whose instances nobody told apart are one
    region with `iscrowd`, so a store without instances has its things as crowds. `file_name` of an image is its path
    below the data root, its id that of the data set where COCO's or Cityscapes' scripts look for it. The JSON file is
    built in memory, about 100 bytes per region; pixels go image by image. An export that was interrupted is finished by
    the same call.

    Raises:
        ValueError: if something else is at the destination already, or `name` or a key would lead outside of it.
    """
    require_plain_name(name)
    refuse_outside(store)
    to = Destination.begin(store, destination, storage_options, {"layout": "coco", "name": name})
    folder, things = f"annotations/panoptic_{name}", store.classes.get("things", [])
    raw_ids, panoptic = store.classes["raw_ids"], store.keys_with_instances()

    def write(key: str) -> bytes:
        regions = read_regions(store, key, panoptic=key in panoptic)
        to.put(f"{folder}/{key}.png", encode_png(_colors(regions)[regions.region_of]))
        return json.dumps(_segments_info(regions, raw_ids, things)).encode()

    to.put(f"{folder}.json", _document(store, to.fill(write, threads, on_image)))
    return to.end(len(store) + 1, _left_out(store))


def _left_out(store: LabelStore) -> str:
    if store.has_instances:
        return "scores of instances, evidence, and how the labels were made"
    crowds = "; things are crowds, as the version has no instances" if store.classes.get("things") else ""
    return f"evidence, and how the labels were made{crowds}"


def _colors(regions: Regions) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[S, 3] uint8 RGB of each region."""
    labeled = regions.train_ids != IGNORE_INDEX
    parts = (regions.train_ids + 1, regions.instances % 256, regions.instances // 256)
    return np.stack([np.where(labeled, part, 0) for part in parts], axis=1).astype(np.uint8)


def _segments_info(regions: Regions, raw_ids: list[int], things: list[int]) -> list[dict[str, Any]]:
    return [
        {
            "id": int(IDS_PER_INSTANCE * instance + train_id + 1),
            "category_id": raw_ids[train_id],
            "area": int(area),
            "bbox": box.tolist(),
            "iscrowd": int(train_id in things and instance == 0),
        }
        for train_id, instance, area, box in zip(
            regions.train_ids, regions.instances, regions.areas_px, regions.boxes, strict=True
        )
        if train_id != IGNORE_INDEX
    ]


def _document(store: LabelStore, segments_info: list[bytes]) -> bytes:
    """The JSON file, from the segments of each image in the order of the keys."""
    rows = store.table(["key", "source", "height", "width"]).to_pylist()
    images, annotations = [], []
    numbers = _image_ids([row["key"] for row in rows])
    for number, row, segments in zip(numbers, rows, segments_info, strict=True):
        image = {"id": number, "file_name": row["source"], "height": row["height"], "width": row["width"]}
        images.append(json.dumps(image).encode())
        about = json.dumps({"image_id": number, "file_name": f"{row['key']}.png"}).encode()
        annotations.append(about[:-1] + b', "segments_info": ' + segments + b"}")
    info = {"description": "labels by hmsa-label", "store": store.identity.uuid, "version": store.version}
    parts = {
        "info": json.dumps({**info, "digest": store.digest}).encode(),
        "categories": json.dumps(_categories(store.classes)).encode(),
        "images": _list(images),
        "annotations": _list(annotations),
    }
    return b"{\n" + b",\n".join(b'"' + part.encode() + b'": ' + text for part, text in parts.items()) + b"\n}\n"


def _image_ids(keys: list[str]) -> Sequence[int | str]:
    """The ids by which evaluators find the labels of an image: COCO's number, or Cityscapes' name; else 1, 2, 3 ..."""
    names = [key.rpartition("/")[2] for key in keys]
    if len(set(names)) == len(names) and all(COCO_NAME.fullmatch(name) for name in names):
        return [int(name) for name in names]
    if len(set(names)) == len(names) and all(CITYSCAPES_NAME.fullmatch(name) for name in names):
        return names
    return range(1, len(keys) + 1)


def _list(entries: list[bytes]) -> bytes:
    return b"[\n" + b",\n".join(entries) + b"\n]"


def _categories(classes: dict[str, Any]) -> list[dict[str, Any]]:
    things = classes.get("things", [])
    rows = zip(classes["raw_ids"], classes["names"], classes["colours"], strict=True)
    return [
        {"id": raw_id, "name": name, "supercategory": name, "isthing": int(train_id in things), "color": color}
        for train_id, (raw_id, name, color) in enumerate(rows)
    ]
