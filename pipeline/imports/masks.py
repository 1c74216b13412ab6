"""Masks with a class and a score -> a class map with confidences: where masks overlap, the higher score wins."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.decode import decode_mask
from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.imports.classes import UNKNOWN, train_ids_of
from hmsa_label.pipeline.imports.rle import Mask, mask_of
from hmsa_label.pipeline.imports.values import Confidence, check_size, naming
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images.source import BadImage, TreeSource

TABLES = (".json", ".csv")
LONGEST_ID = 18  # digits; what is longer is no number of a class
# Names of the fields of a table beside mask files; the first that is there counts.
FILE_FIELDS = ("file", "file_name", "mask", "id")
CLASS_FIELDS = ("class", "class_name", "category", "label", "category_id", "class_id")
SCORE_FIELDS = ("score", "confidence", "predicted_iou")


class Scored(NamedTuple):
    """One mask of one image.

    Attributes:
        category: id, or name of its class.
        pixels: [H, W] bool.
    """

    category: int | str
    score: float
    pixels: Mask


@dataclass(frozen=True, kw_only=True)
class Categories:
    """What the categories of masks are.

    Attributes:
        names: of the ids that the files name.
        ids: what ids without a name are, `raw` or `train`.
    """

    classes: ClassTable
    names: Mapping[int, str]
    ids: str

    def train_id(self, category: int | str) -> int:
        """The trainId of a category; ignore_index if it has a name that the classes do not have.

        Raises:
            BadImage: an id without a name that is no class.
        """
        if (name := self._named(category)) is not None:
            own = [one.casefold() for one in self.classes.names]
            return own.index(name.casefold()) if name.casefold() in own else self.classes.ignore_index
        raw = int(category)
        found = int(train_ids_of(self.classes, self.ids)[raw]) if 0 <= raw < 256 else UNKNOWN
        if found == UNKNOWN:
            raise BadImage(f"a mask of category {category}, which is no id of {self.classes.name}, and has no name")
        return found

    def name(self, category: int | str) -> str:
        """What to call a category in messages."""
        return self._named(category) or str(category)

    def _named(self, category: int | str) -> str | None:
        return self.names.get(category) if isinstance(category, int) else category


def paint(masks: Iterable[Scored], categories: Categories, size: tuple[int, int]) -> tuple[U8, Confidence]:
    """([H, W] uint8 trainIds, 255 where there is no mask; the score of the mask that won, 0 where there is none).

    Of masks with equal scores the first one wins.
    """
    top1, score = np.full(size, categories.classes.ignore_index, np.uint8), np.full(size, -1, np.float32)
    for mask in masks:
        train_id = categories.train_id(mask.category)
        if train_id != categories.classes.ignore_index:
            won = mask.pixels & (np.float32(mask.score) > score)
            top1[won], score[won] = train_id, mask.score
    return top1, Confidence(values=np.maximum(score, 0))


def masks_of_results(entries: Iterable[Mapping[str, Any]], size: tuple[int, int]) -> Iterable[Scored]:
    """The masks of the COCO results of one image.

    Raises:
        BadImage: an entry cannot be used.
    """
    for number, entry in enumerate(entries):
        try:
            yield Scored(
                category_of(entry.get("category_id", entry.get("category"))),
                _score(entry.get("score")),
                mask_of(entry.get("segmentation"), size),
            )
        except BadImage as error:
            raise BadImage(f"result {number + 1} of this image: {error}") from None


def masks_of_folder(files: TreeSource, folder: str, size: tuple[int, int]) -> Iterable[Scored]:
    """The masks of a folder of PNG files with a table that says the class and score of each.

    Raises:
        BadImage: the folder has no table or several, or a file or row of it cannot be used.
        OSError: the storage fails.
    """
    names = with_retries(f"listing {folder}", lambda: files.files.list_names(folder))
    tables = [name for name in names if name.endswith(TABLES)]
    if len(tables) != 1:
        found = f"found {', '.join(tables) or 'none'}"
        raise BadImage(f"labels {folder}: one JSON or CSV file must say class and score of each mask; {found}")
    table = f"{folder}/{tables[0]}"
    with naming(table):
        rows = _rows(_read(files, table), table)
    for row in rows:
        with naming(table):
            name = str(_field(row, FILE_FIELDS))
            name = name if name.endswith(".png") else f"{name}.png"
            if name not in names:
                raise BadImage(f"it names {name}, and there is no such file beside it")
            category, score = category_of(_field(row, CLASS_FIELDS)), _score(_field(row, SCORE_FIELDS))
        with naming(f"{folder}/{name}"):
            pixels = decode_mask(_read(files, f"{folder}/{name}"))
            check_size(pixels.shape, size)
        yield Scored(category, score, pixels)


def _read(files: TreeSource, path: str) -> bytes:
    return with_retries(f"reading {path}", lambda: files.read(path))


def _rows(data: bytes, path: str) -> list[Mapping[str, Any]]:
    try:
        if path.endswith(".csv"):
            rows: Any = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
        else:
            rows = json.loads(data)
    except (ValueError, csv.Error, RecursionError) as error:
        raise BadImage(f"it does not read: {' '.join(str(error).split())}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadImage("it must hold a list of objects, one for each mask")
    return rows


def _field(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if row.get(name) not in (None, ""):
            return row[name]
    raise BadImage(f"a mask has none of {', '.join(names)}; it has {', '.join(map(str, row))}")


def category_of(value: Any) -> int | str:
    """An id where it is a whole number, also as text, else a name.

    Raises:
        BadImage: it is neither.
    """
    text = str(value).strip()
    if value is None or isinstance(value, (bool, dict, list)) or not text:
        raise BadImage(f"a mask needs a category; got {value!r:.60}")
    return int(text) if text.isdecimal() and len(text) <= LONGEST_ID else text


def _score(value: Any) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        score = float("nan")
    if not 0.0 <= score <= 1.0 or isinstance(value, bool):
        raise BadImage(f"a mask needs a score from 0 to 1; got {value!r:.60}")
    return score
