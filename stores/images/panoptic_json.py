"""What the ids in the PNG files of a panoptic data set mean: the JSON file that COCO and Mapillary have beside them.

Format: https://cocodataset.org/#format-data, "Panoptic Segmentation".
"""

import json
from array import array
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import NotAFile
from hmsa_label.stores.files import FileRoot, public_uri

NUM_IDS = 256**3  # a PNG color spells an id: red + 256 green + 65,536 blue
NO_REGION = 0  # the id of pixels that belong to no class
MAX_CATEGORY = 65_535


class Category(NamedTuple):
    """A class of a panoptic data set; `color` is None where the file does not tell it."""

    id: int
    name: str
    is_thing: bool
    color: tuple[int, int, int] | None


class Regions(NamedTuple):
    """What COCO calls the segments of an image, in the order of the file: id in the PNG, raw class id, crowd flag."""

    ids: NDArray[np.uint32]
    raw_ids: NDArray[np.uint16]
    crowd: NDArray[np.bool_]


@dataclass(kw_only=True)
class PanopticIndex:
    """A panoptic JSON file without what nobody asks for: about 8 bytes per region.

    Attributes:
        categories: by ascending id. image_of: image file by PNG file, as the JSON file names both.
    """

    categories: tuple[Category, ...]
    image_of: dict[str, str]
    _places: dict[str, tuple[int, int]]
    _ids: "array[int]" = field(default_factory=lambda: array("I"))
    _categories: "array[int]" = field(default_factory=lambda: array("H"))
    _crowd: "array[int]" = field(default_factory=lambda: array("B"))

    def regions(self, png: str) -> Regions | None:
        """The regions of a PNG file, with category ids as raw ids; None if the JSON file does not list it."""
        if png not in self._places:
            return None
        start, end = self._places[png]
        return Regions(
            np.array(self._ids[start:end], np.uint32),
            np.array(self._categories[start:end], np.uint16),
            np.array(self._crowd[start:end], np.bool_),
        )

    def _add(self, png: str, image: str, segments: list[Any]) -> None:
        if png in self._places:
            raise ValueError(f"{png} is listed twice")
        start = len(self._ids)
        for segment in segments:
            number, category, crowd = segment if isinstance(segment, tuple) else (None, None, None)
            if not _is_int(number, NUM_IDS - 1) or not _is_int(category, MAX_CATEGORY) or crowd not in (0, 1):
                raise ValueError(f"{png} has a segment without a usable id, category_id or iscrowd: {segment!r:.80}")
            self._ids.append(number)
            self._categories.append(category)
            self._crowd.append(int(crowd))
        self._places[png], self.image_of[png] = (start, len(self._ids)), image


def parse_panoptic_json(data: bytes) -> PanopticIndex:
    """The regions that a panoptic JSON file lists.

    Raises:
        ValueError: it is no such file; the message says in one clause why.
    """
    try:
        document = json.loads(data, object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    parts = [document.get(name) if isinstance(document, dict) else None for name in ("categories", "annotations")]
    if not all(isinstance(part, list) and part for part in parts):
        raise ValueError("it lacks 'categories' or 'annotations'")
    index = PanopticIndex(categories=_categories(document["categories"]), image_of={}, _places={})
    images = _images(document.get("images"))
    for annotation in document["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("segments_info"), list):
            raise ValueError(f"an annotation lacks 'segments_info': {annotation!r:.80}")
        png = _file_name(annotation.get("file_name"))
        image = images.get(str(annotation.get("image_id")))
        index._add(png, png if image is None else _file_name(image), annotation["segments_info"])
    known = {category.id for category in index.categories}
    if unknown := set(index._categories) - known:
        raise ValueError(f"category_id {min(unknown)} is not among its categories")
    return index


def _images(listed: object) -> dict[str, Any]:
    """Image file by the text of its id: a number, or a name."""
    entries = listed if isinstance(listed, list) else []
    return {str(entry.get("id")): entry.get("file_name") for entry in entries if isinstance(entry, dict)}


def read_panoptic_json(files: FileRoot, path: str) -> PanopticIndex:
    """The regions that a panoptic JSON file below a root lists.

    Raises:
        ValueError: it is no such file; the message names it.
    """
    try:
        return parse_panoptic_json(files.read(path))
    except (ValueError, NotAFile, IsADirectoryError, FileNotFoundError) as error:
        place = public_uri(files.uri)
        raise ValueError(f"{path} below {place} cannot be used as a panoptic JSON file: {error}") from error


def _compact(parsed: dict[str, Any]) -> Any:
    """Segments become tuples while the file is parsed: their dictionaries would take a gigabyte for all of COCO."""
    if "category_id" in parsed and "segments_info" not in parsed:
        return (parsed.get("id"), parsed["category_id"], parsed.get("iscrowd", 0))
    return parsed


def _categories(listed: list[Any]) -> tuple[Category, ...]:
    found = [_category(entry if isinstance(entry, dict) else {}) for entry in listed]
    if len({category.id for category in found}) < len(found):
        raise ValueError("two categories have one id")
    return tuple(sorted(found, key=lambda category: category.id))


def _category(entry: dict[str, Any]) -> Category:
    number, name, is_thing = entry.get("id"), entry.get("name"), entry.get("isthing")
    if not _is_int(number, MAX_CATEGORY) or not isinstance(name, str) or is_thing not in (0, 1):
        raise ValueError(f"a category lacks a usable id, name or isthing: {entry!r:.80}")
    color: Any = entry.get("color")
    if not isinstance(color, list) or len(color) != 3 or not all(_is_int(part, 255) for part in color):
        color = None
    return Category(number, name, bool(is_thing), color and (color[0], color[1], color[2]))


def _file_name(value: object) -> str:
    """A path that stays below its folder."""
    if not isinstance(value, str) or not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError(f"{value!r:.80} is no usable file_name")
    return value


def _is_int(value: object, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
