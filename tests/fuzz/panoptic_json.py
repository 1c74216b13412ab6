"""Damaged JSON files of panoptic data sets, COCO's and Mapillary's, and what is then read with them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.label_files import label_content, read_raw_ids
from hmsa_label.pipeline.data.panoptic_labels import images_with_instances, panoptic_map
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.images.open import open_images
from tests.fuzz.mutate import json_text, mutate_bytes, mutate_value

IDS = ((7, 1, 0), (300, 2, 1), (70_000, 3, 0))


class Target:
    """Changes a JSON file, and reads what the tree holds."""

    def __init__(self, folder: Path) -> None:
        pixels = np.zeros((2, 3, 3), np.uint8)
        pixels[0] = [[number % 256, number // 256 % 256, number // 65_536] for number, _, _ in IDS]
        self.files: dict[tuple[str, Path], Any] = {}
        for dataset, root, images, labels in (
            ("coco", folder / "coco", "val2017", "annotations/panoptic_val2017"),
            ("mapillary", folder / "vistas", "validation/images", "validation/panoptic"),
        ):
            for path in (f"{images}/a.png", f"{labels}/a.png", "validation/labels/a.png"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(encode_png(pixels))
            json_path = root / (f"{labels}.json" if dataset == "coco" else f"{labels}/panoptic_2018.json")
            self.files[dataset, json_path] = document()
        self.files["mapillary", folder / "vistas/config.json"] = {
            "labels": [
                {"name": name, "readable": name, "evaluate": True, "instances": name == "a", "color": [0, 0, 0]}
                for name in "abc"
            ]
        }
        for (_, path), value in self.files.items():
            path.write_text(json.dumps(value))
        self.roots = {"coco": folder / "coco", "mapillary": folder / "vistas"}

    def run(self, seed: int) -> None:
        random = Random(seed)
        (dataset, path), value = random.choice(list(self.files.items()))
        body = json.dumps(value).encode()
        if random.random() < 0.8:
            body = json_text(mutate_value(random, value)).encode("utf-8", "replace")
        else:
            body = mutate_bytes(random, body)
        path.write_bytes(body)
        try:
            self._read(dataset)
        except (ValueError, StoreError) as error:
            if "\n" in str(error):
                raise RuntimeError("an error of several lines") from error
        finally:
            path.write_text(json.dumps(value))

    def _read(self, dataset: str) -> None:
        source = open_images(dataset, self.roots[dataset])
        classes = classes_of(source)
        for ref in images_with_instances(source, "val"):
            panoptic_map(source, ref, classes)
            if dataset == "coco":
                read_raw_ids(source, str(ref.labels))
                label_content(source, str(ref.labels))


def document() -> dict[str, Any]:
    """Of an image with three regions."""
    regions = [
        {"id": number, "category_id": category, "iscrowd": crowd, "area": 1, "bbox": [0, 0, 1, 1]}
        for number, category, crowd in IDS
    ]
    return {
        "info": {},
        "images": [{"id": 5, "file_name": "a.png", "height": 2, "width": 3}],
        "annotations": [{"image_id": 5, "file_name": "a.png", "segments_info": regions}],
        "categories": [
            {"id": number, "name": name, "isthing": int(name == "a"), "color": [0, 0, 0]}
            for number, name in enumerate("abc", 1)
        ],
    }
