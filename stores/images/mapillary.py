"""Mapillary Vistas: the trees of release 1.1 and of release 1.2 (also inside the 2.0 download)."""

import json
from typing import Any

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.layouts import shown, way_out
from hmsa_label.stores.images.source import IMAGE_SUFFIXES, ImageRef, TreeSource, image_stem, insert_once, safe_key

SPLITS = ("training", "validation", "testing")
SHORT_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
# The 2.0 download holds both taxonomies; the one with 65 evaluated classes is `v1.2`.
LABEL_FOLDERS = ("v1.2/labels", "labels")
CONFIGS = ("config_v1.2.json", "config.json")
IGNORE_INDEX = 255
MAX_LABELS = 253  # raw ids are bytes, and 254 and 255 have other meanings in a store


class MapillarySource(TreeSource):
    """Images `<split>/images/*.jpg` of any size, labels `<split>/labels/*.png` or `<split>/v1.2/labels/*.png`.

    A key is `<split>/<name>`; the splits may also be called train, val and test.
    """

    def list_split(self, split: str, labels: str | None) -> list[ImageRef]:
        """The images of one split; see `list`."""
        if labels not in (None, "gtFine"):
            raise ValueError(f"Mapillary Vistas has fine labels only (gtFine); got {labels!r}")
        name = _split_folder(split)
        images = self._collect(name, "images", IMAGE_SUFFIXES)
        if not images:
            way = way_out(self.files, "mapillary")
            raise NotAStore(f"no image in {name}/images below {self.root}; found: {self._found()}{way}")
        asked = self._labels(name) if labels else {}
        return [
            ImageRef(key=safe_key(f"{name}/{stem}"), image=path, labels=asked.get(stem))
            for stem, path in sorted(images.items())
        ]

    def class_table(self) -> dict[str, Any]:
        """The evaluated classes in the order of the config file, as `ClassTable.from_dict` takes them.

        The raw id of a class is its place in the config's `labels`; classes without `evaluate` are left out.

        Raises:
            NotAStore: if there is no config file.
            ValueError: if it does not list labels in the published form.
        """
        name, config = self._config()
        try:
            labels = [(str(entry["readable"]), tuple(entry["color"]), bool(entry["evaluate"])) for entry in config]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{name} below {self.root}: a label lacks {error}, or is no object") from error
        kept = [raw for raw, (_, _, evaluate) in enumerate(labels) if evaluate]
        return {
            "name": "mapillary",
            "names": [labels[raw][0] for raw in kept],
            "colours": [list(labels[raw][1]) for raw in kept],
            "raw_ids": kept,
            "ignore_index": IGNORE_INDEX,
        }

    def _config(self) -> tuple[str, tuple[dict[str, Any], ...]]:
        present = set(self.files.list_names())
        name = next((name for name in CONFIGS if name in present), None)
        if name is None:
            raise NotAStore(f"no {' or '.join(CONFIGS)} below {self.root}; found: {self._found()}")
        try:
            labels = json.loads(self.files.read(name))["labels"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{name} below {self.root} is not a Mapillary Vistas config: {error}") from error
        if not isinstance(labels, list) or not 1 <= len(labels) <= MAX_LABELS:
            raise ValueError(f"{name} below {self.root} must list 1 to {MAX_LABELS} labels")
        return name, tuple(labels)

    def _labels(self, split: str) -> dict[str, str]:
        for folder in LABEL_FOLDERS:
            table = self._collect(split, folder, (".png",))
            if table:
                return table
        looked = " or ".join(f"{split}/{folder}" for folder in LABEL_FOLDERS)
        raise NotAStore(f"no label PNG in {looked} below {self.root}")

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


def _split_folder(split: str) -> str:
    name = SHORT_SPLITS.get(split, split)
    if name not in SPLITS:
        # Nobody gave this one: it is what `run` takes by default.
        default = " (without --split `run` takes train_extra, which Cityscapes has)" if split == "train_extra" else ""
        raise ValueError(
            f"Mapillary Vistas has no split {split!r}{default}; give one with --split: {', '.join(SPLITS)}"
        )
    return name
