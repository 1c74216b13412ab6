"""Mapillary Vistas: the trees of releases 1.1, 1.2 and 2.0; where a download holds two sets of classes, that of 1.2."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.layouts import shown, way_out
from hmsa_label.stores.images.panoptic_json import PanopticIndex, Regions, read_panoptic_json
from hmsa_label.stores.images.source import (
    IMAGE_SUFFIXES,
    BadImage,
    ImageRef,
    TreeSource,
    image_stem,
    insert_once,
    safe_key,
)

SPLITS = ("training", "validation", "testing")
SHORT_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
# Config files by preference, and the folders of a split that labels of these classes lie in. The 2.0 download holds
# both taxonomies; the one with 65 evaluated classes is `v1.2`.
EDITIONS = {"config_v1.2.json": ("v1.2/", ""), "config.json": ("v1.2/", ""), "config_v2.0.json": ("v2.0/",)}
INSTANCES_PER_LABEL = 256  # a pixel of `instances/*.png` is label * 256 + instance
IGNORE_INDEX = 255
MAX_LABELS = 253  # raw ids are bytes, and 254 and 255 have other meanings in a store


class MapillarySource(TreeSource):
    """Images `<split>/images/*.jpg` of any size, labels `<split>/labels/*.png` or `<split>/v1.2/labels/*.png`.

    Instances lie beside `labels`: in `panoptic`, PNG files with a JSON file that says what their ids are and which are
    crowds, or else in `instances`. A key is `<split>/<name>`; the splits may also be called train, val and test.
    """

    def __init__(self, root: str, storage_options: dict[str, Any] | None = None) -> None:
        super().__init__(root, storage_options)
        self._indexes: dict[str, tuple[PanopticIndex, NDArray[np.uint16]]] = {}

    def list_split(self, split: str, labels: str | None, coarse: str | None) -> list[ImageRef]:
        """The images of one split; see `list`."""
        if labels not in (None, "gtFine"):
            raise ValueError(f"Mapillary Vistas has fine labels only (gtFine); got {labels!r}")
        name = _split_folder(split)
        images = self._collect(name, "images", IMAGE_SUFFIXES)
        if not images:
            way = way_out(self.files, "mapillary")
            raise NotAStore(f"no image in {name}/images below {self.root}; found: {self._found()}{way}")
        asked, instances = self._labels(name) if labels else ({}, {})
        return [
            ImageRef(key=safe_key(f"{name}/{stem}"), image=path, labels=asked.get(stem), instances=instances.get(stem))
            for stem, path in sorted(images.items())
        ]

    def class_table(self) -> dict[str, Any]:
        """The evaluated classes in the order of the config file, as `ClassTable.from_dict` takes them.

        The raw id of a class is its place in the config's `labels`; classes without `evaluate` are left out. Those with
        `instances` are things.

        Raises:
            NotAStore: if there is no config file.
            ValueError: if it does not list labels in the published form.
        """
        name, config = self._config()
        try:
            labels = [(str(entry["readable"]), tuple(entry["color"]), bool(entry["evaluate"])) for entry in config]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name} below {self.root}: a label lacks {error}") from error
        kept = [raw for raw, (_, _, evaluate) in enumerate(labels) if evaluate]
        things = [train_id for train_id, raw in enumerate(kept) if config[raw].get("instances")]
        return {
            "name": "mapillary",
            "names": [labels[raw][0] for raw in kept],
            "colours": [list(labels[raw][1]) for raw in kept],
            "raw_ids": kept,
            "ignore_index": IGNORE_INDEX,
            **({"things": things} if things else {}),
        }

    def regions(self, path: str) -> Regions | None:
        """What the ids in a PNG of a `panoptic` folder stand for; None for other files, whose ids tell it themselves.

        Raises:
            BadImage: if the JSON file beside it does not list the PNG.
            ValueError: if the JSON file cannot be used.
        """
        folder, _, name = path.rpartition("/")
        if not folder.endswith("/panoptic"):
            return None
        if folder not in self._indexes:
            self._indexes[folder] = self._index(folder)
        index, raw_ids = self._indexes[folder]
        found = index.regions(name)
        if found is None:
            raise BadImage(f"the JSON file in {folder} does not list {name}")
        return found._replace(raw_ids=raw_ids[found.raw_ids])

    def _index(self, folder: str) -> tuple[PanopticIndex, NDArray[np.uint16]]:
        """The JSON file of a folder of PNG files, and the raw id of each of its categories, which meet by name."""
        path = f"{folder}/{_json_in(self.files.list_names(folder))}"
        index, (config_name, config) = read_panoptic_json(self.files, path), self._config()
        raw_of = {str(entry.get(key)): raw for key in ("name", "readable") for raw, entry in enumerate(config)}
        raw_ids = np.zeros(index.categories[-1].id + 1, np.uint16)
        for category in index.categories:
            if category.name not in raw_of:
                raise ValueError(f"{path} below {self.root} has a category {category.name!r} that {config_name} lacks")
            raw_ids[category.id] = raw_of[category.name]
        return index, raw_ids

    def _config(self) -> tuple[str, tuple[dict[str, Any], ...]]:
        name = self._config_name()
        if name is None:
            *most, last = EDITIONS
            raise NotAStore(f"no {', '.join(most)} or {last} below {self.root}; found: {self._found()}")
        try:
            labels = json.loads(self.files.read(name))["labels"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{name} below {self.root} is not a Mapillary Vistas config: {error}") from error
        if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_LABELS:
            raise ValueError(f"{name} below {self.root} must list 1 to {MAX_LABELS} labels")
        if not all(isinstance(label, dict) for label in labels):
            raise ValueError(f"{name} below {self.root}: a label is no object")
        return name, tuple(labels)

    def _config_name(self) -> str | None:
        present = set(self.files.list_names())
        return next((name for name in EDITIONS if name in present), None)

    def _labels(self, split: str) -> tuple[dict[str, str], dict[str, str]]:
        """File stem -> path of the PNG files with class ids, and of those with instances of the same classes."""
        places = EDITIONS[self._config_name() or "config.json"]
        for place in places:
            if table := self._collect(split, f"{place}labels", (".png",)):
                return table, self._instances(split, place)
        looked = " or ".join(f"{split}/{place}labels" for place in places)
        raise NotAStore(f"no label PNG in {looked} below {self.root}")

    def _instances(self, split: str, place: str) -> dict[str, str]:
        has_json = _json_in(self.files.list_names(f"{split}/{place}panoptic")) is not None
        table = self._collect(split, f"{place}panoptic", (".png",)) if has_json else {}
        return table or self._collect(split, f"{place}instances", (".png",))

    def _collect(self, split: str, folder: str, suffixes: tuple[str, ...]) -> dict[str, str]:
        """File stem -> path of everything directly in the folder that has one of the suffixes."""
        table: dict[str, str] = {}
        for name in self.files.list_names(f"{split}/{folder}"):
            stem = image_stem(name)
            if stem is not None and name.lower().endswith(suffixes):
                insert_once(table, stem, f"{split}/{folder}/{name}")
        return table

    def _found(self) -> str:
        return shown(self.files.list_names())


def _json_in(names: list[str]) -> str | None:
    """The panoptic JSON file among the names in a folder, such as panoptic_2018.json."""
    return next((name for name in names if name.startswith("panoptic") and name.endswith(".json")), None)


def _split_folder(split: str) -> str:
    name = SHORT_SPLITS.get(split, split)
    if name not in SPLITS:
        # Nobody gave this one: it is what `run` takes by default.
        default = " (without --split `run` takes train_extra, which Cityscapes has)" if split == "train_extra" else ""
        raise ValueError(
            f"Mapillary Vistas has no split {split!r}{default}; give one with --split: {', '.join(SPLITS)}"
        )
    return name
