"""COCO panoptic: images in a folder per split, PNG files of region ids, and a JSON file that says what the ids are."""

import colorsys
from typing import Any

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.layouts import shown, way_out
from hmsa_label.stores.images.panoptic_json import Category, PanopticIndex, Regions, read_panoptic_json
from hmsa_label.stores.images.source import BadImage, ImageRef, TreeSource, image_stem, insert_once, safe_key

PREFIX = "panoptic_"
SPLITS = ("train2017", "val2017", "test2017")
SHORT_SPLITS = {"train": "train2017", "val": "val2017", "test": "test2017"}
# Where a split's images, and the JSON and PNG files of its labels, can lie.
IMAGE_FOLDERS = ("{split}", "images/{split}")
LABEL_FOLDERS = ("annotations", "")
IGNORE_INDEX = 255
MAX_CLASSES = 253  # class ids are bytes in a store, and 254 and 255 have other meanings there
MAX_ID = 254  # 255 stands for what belongs to no class


class CocoSource(TreeSource):
    """Images `<split>/*.jpg`; labels `annotations/panoptic_<split>.json` and `annotations/panoptic_<split>/*.png`.

    A key is `<split>/<name>`; train and val stand for train2017 and val2017 where nothing has their own name. If there
    is no folder of images for the split, its images are the paths that the JSON file names, below the root.
    """

    def __init__(self, root: str, storage_options: dict[str, Any] | None = None) -> None:
        super().__init__(root, storage_options)
        self._indexes: dict[str, PanopticIndex] = {}

    def list_split(self, split: str, labels: str | None, coarse: str | None) -> list[ImageRef]:
        """The images of one split; see `list`."""
        if labels not in (None, "gtFine"):
            raise ValueError(f"COCO has fine labels only (gtFine); got {labels!r}")
        if not split or "/" in split or split.startswith("."):
            raise ValueError(f"split must be a name such as {', '.join(SPLITS)}; got {split!r}")
        name = split if self._exists(split) else SHORT_SPLITS.get(split, split)
        images = self._images(name)
        pngs = self._labels(name) if labels else {}
        return [
            ImageRef(key=safe_key(f"{name}/{stem}"), image=path, labels=pngs.get(stem), instances=pngs.get(stem))
            for stem, path in sorted(images.items())
        ]

    def class_table(self) -> dict[str, Any]:
        """The categories by ascending id, as `ClassTable.from_dict` takes them; raw ids are category ids.

        Raises:
            NotAStore: if there is no panoptic JSON file.
            ValueError: if its categories do not fit into a store.
        """
        kept = self._index(next(iter(self._indexes), None) or self._any_json()).categories
        return {
            "name": "coco",
            "names": [category.name for category in kept],
            "colours": [list(_color(category)) for category in kept],
            "raw_ids": [category.id for category in kept],
            "ignore_index": IGNORE_INDEX,
            "things": [train_id for train_id, category in enumerate(kept) if category.is_thing],
        }

    def regions(self, path: str) -> Regions:
        """What the ids in a label PNG stand for.

        Raises:
            BadImage: if the JSON file does not list the PNG.
        """
        folder, png = _parted(path)
        found = self._index(f"{folder}.json").regions(png)
        if found is None:
            raise BadImage(f"{folder}.json does not list {png}")
        return found

    def _images(self, split: str) -> dict[str, str]:
        """Stem -> path of the split's images."""
        table: dict[str, str] = {}
        for folder in (place.format(split=split) for place in IMAGE_FOLDERS):
            for entry in self.files.list_tree(folder):
                stem = image_stem(entry.path)
                if stem is not None:
                    insert_once(table, stem[len(folder) + 1 :], entry.path)
        json_path = self._json_of(split)
        if not table and json_path:
            for image in self._index(json_path).image_of.values():
                insert_once(table, image_stem(image) or image, image)
        if not table:
            found = f"no image in {split} or images/{split} below {self.root}"
            if there := self._splits():
                raise NotAStore(f"{found}; give a split with --split: {', '.join(there)}")
            raise NotAStore(f"{found}; found: {shown(self.files.list_names())}{way_out(self.files, 'coco')}")
        return table

    def _labels(self, split: str) -> dict[str, str]:
        """Stem of the image -> path of the PNG of its labels, for what JSON file and folder both have.

        Raises:
            NotAStore: if either is missing.
        """
        json_path = self._json_of(split)
        if json_path is None:
            raise NotAStore(f"no annotations/{PREFIX}{split}.json below {self.root}; found: {self._annotations()}")
        folder = json_path.removesuffix(".json")
        there = {entry.path for entry in self.files.list_tree(folder)}
        if not there:
            raise NotAStore(
                f"no PNG file in {folder} below {self.root}; found: {self._annotations()}; unpack its archive"
            )
        images = self._index(json_path).image_of
        return {
            image_stem(image) or image: f"{folder}/{png}" for png, image in images.items() if f"{folder}/{png}" in there
        }

    def _exists(self, split: str) -> bool:
        folders = (place.format(split=split) for place in IMAGE_FOLDERS)
        return self._json_of(split) is not None or any(self.files.list_names(folder) for folder in folders)

    def _splits(self) -> list[str]:
        """Splits that have labels, or a folder that is called as one of COCO's."""
        names = {name for folder in LABEL_FOLDERS for name in self.files.list_names(folder)}
        labeled = {
            name[len(PREFIX) : -len(".json")] for name in names if name.startswith(PREFIX) and name.endswith(".json")
        }
        return sorted(labeled | {name for name in self.files.list_names() if name in SPLITS})

    def _json_of(self, split: str) -> str | None:
        for folder in LABEL_FOLDERS:
            if f"{PREFIX}{split}.json" in self.files.list_names(folder):
                return f"{folder}/{PREFIX}{split}.json".lstrip("/")
        return None

    def _any_json(self) -> str:
        """A panoptic JSON file; that of a validation split is the quickest to read."""
        for folder in LABEL_FOLDERS:
            names = [
                name for name in self.files.list_names(folder) if name.startswith(PREFIX) and name.endswith(".json")
            ]
            if names:
                return f"{folder}/{min(names, key=lambda name: ('val' not in name, name))}".lstrip("/")
        raise NotAStore(f"no annotations/{PREFIX}<split>.json below {self.root}; found: {self._annotations()}")

    def _index(self, path: str) -> PanopticIndex:
        if path not in self._indexes:
            index = read_panoptic_json(self.files, path)
            kept = index.categories
            if len(kept) > MAX_CLASSES or kept[-1].id > MAX_ID:
                raise ValueError(
                    f"{path} below {self.root} has {len(kept)} categories with ids up to {kept[-1].id}; "
                    f"at most {MAX_CLASSES} with ids up to {MAX_ID} fit into a store"
                )
            for other, known in self._indexes.items():
                if known.categories != index.categories:
                    raise ValueError(f"{path} and {other} below {self.root} have different categories")
            self._indexes[path] = index
        return self._indexes[path]

    def _annotations(self) -> str:
        return shown(self.files.list_names(LABEL_FOLDERS[0]) or self.files.list_names())


def _parted(path: str) -> tuple[str, str]:
    """The folder of a split's PNG files, and the PNG's path in it."""
    parts = path.split("/")
    place = next(number for number, part in enumerate(parts) if part.startswith(PREFIX)) + 1
    return "/".join(parts[:place]), "/".join(parts[place:])


def _color(category: Category) -> tuple[int, int, int]:
    """The category's own color, or one that differs from those of the ids near it: hues by the golden ratio."""
    if category.color is not None:
        return category.color
    r, g, b = colorsys.hsv_to_rgb(category.id * 0.618034 % 1, 0.5 + category.id % 3 / 4, 0.95 - category.id % 2 / 4)
    return round(255 * r), round(255 * g), round(255 * b)
