"""Damaged files of labels that are to be imported: arrays, gray images, COCO results, tables of masks, class names."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.decode import decode_gray, decode_mask
from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.classes import read_classes
from hmsa_label.pipeline.imports.find import find_labels
from hmsa_label.pipeline.imports.masks import Categories, masks_of_folder, masks_of_results, paint
from hmsa_label.pipeline.imports.results import read_results
from hmsa_label.pipeline.imports.values import read_confidence, read_ids
from hmsa_label.stores.images.source import BadImage, ImageRef, TreeSource
from tests.fuzz.images import with_checksums
from tests.fuzz.mutate import json_text, mutate_bytes, mutate_value

SIZE = (9, 10)
RESULTS = {
    "images": [{"id": 5, "file_name": "a.jpg"}],
    "categories": [{"id": 26, "name": "car"}],
    "annotations": [
        {"image_id": 5, "category_id": 26, "score": 0.5, "segmentation": {"size": [9, 10], "counts": "61X13mN000`0"}},
        {"image_id": 5, "category_id": 26, "score": 0.9, "segmentation": {"size": [9, 10], "counts": [6, 84]}},
        {"image_id": 5, "category_id": 26, "score": 0.7, "segmentation": [[0, 0, 4, 0, 4, 4]]},
    ],
}
TABLE = [{"file": "0.png", "class": "car", "score": 0.5}]
CLASSES = [["road", "car"], {"id2label": {"0": "road", "1": "car"}}, CITYSCAPES.to_dict(),
           {"labels": [{"readable": "Car", "color": [4, 5, 6], "evaluate": True}]}]  # fmt: skip


class Target:
    """Reads one damaged file as an import does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "labels"
        (self.folder / "a").mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
        arrays = (pixels, pixels.astype(np.uint16) * 257, pixels / 255, (pixels / 255).astype(">f2"))
        self.files = [_npy(array) for array in arrays] + [_png(pixels), _png(arrays[1]), _png(pixels > 99)]
        (self.folder / "a/0.png").write_bytes(_png(pixels > 99))
        self.number = 0

    def run(self, seed: int) -> None:
        random = Random(seed)
        try:
            (self._values, self._results, self._table, self._classes)[seed % 4](random)
        except ValueError as error:  # BadImage is one
            if "\n" in str(error):
                raise RuntimeError("an error of several lines") from error

    def _values(self, random: Random) -> None:
        body = mutate_bytes(random, random.choice(self.files), random.choice(self.files))
        if body[:4] == b"\x89PNG" and random.random() < 0.7:
            body = with_checksums(body)
        with of_one_image():
            random.choice((read_ids, read_confidence, decode_gray, decode_mask))(body)

    def _results(self, random: Random) -> None:
        self.number += 1
        path = self.folder / f"{self.number}.json"
        path.write_text(_damaged(random, random.choice((RESULTS, RESULTS["annotations"]))), "utf-8", "surrogatepass")
        config = ImportConfig(labels=path, format="masks", sha256=str(self.number))
        try:
            image = ImageRef(key="a", image="a.jpg")
            (found,) = find_labels(config, [image], CITYSCAPES).images
            results = read_results(config)
            categories = Categories(classes=CITYSCAPES, names=results.categories, ids="raw")
            with of_one_image():
                paint(masks_of_results(results.entries[found.made[0]], SIZE), categories, SIZE)
        finally:
            path.unlink()

    def _table(self, random: Random) -> None:
        (self.folder / "a/masks.json").write_text(_damaged(random, TABLE), "utf-8", "surrogatepass")
        categories = Categories(classes=CITYSCAPES, names={}, ids="raw")
        with of_one_image():
            paint(masks_of_folder(TreeSource(str(self.folder)), "a", SIZE), categories, SIZE)

    def _classes(self, random: Random) -> None:
        path = self.folder / "classes.txt"
        path.write_text(_damaged(random, random.choice(CLASSES)), "utf-8", "surrogatepass")
        read_classes(str(path))


@contextmanager
def of_one_image() -> Iterator[None]:
    """What is wrong with the labels of one image must not end an import."""
    try:
        yield
    except ValueError as error:
        if not isinstance(error, BadImage):
            raise RuntimeError(f"{type(error).__name__} would end an import: {error}") from error
        raise


def _damaged(random: Random, value: Any) -> str:
    if random.random() < 0.3:
        return mutate_bytes(random, json.dumps(value).encode()).decode("utf-8", "replace")
    return json_text(mutate_value(random, value))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()
