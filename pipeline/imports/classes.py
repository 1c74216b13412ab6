"""Which classes imported labels have, and what the numbers in their files stand for."""

import colorsys
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.pipeline.data.classes import known_classes_of
from hmsa_label.pipeline.data.label_checks import LAST_LABEL_ID, LAST_TRAIN_ID, MANY_VOID_IDS, VOID_LABEL_IDS
from hmsa_label.pipeline.import_config import NVIDIA, PADDLESEG, RAW_IDS, TRAIN_IDS, ImportConfig
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes
from hmsa_label.stores.images.source import BadImage, ImageSource
from hmsa_label.stores.location import Location

CITYSCAPES_ONLY = (NVIDIA, PADDLESEG)  # formats of Cityscapes' classes alone
UNKNOWN = 256  # in a table of trainIds: an id that the classes do not have


def classes_for(config: ImportConfig, source: ImageSource) -> ClassTable:
    """The classes of the labels: those that were named, else those of the format or the data.

    Raises:
        ValueError: nothing tells them, or a file of classes cannot be used.
        FileNotFoundError: there is no such file.
    """
    if config.classes is not None:
        return CITYSCAPES if str(config.classes) == CITYSCAPES.name else read_classes(config.classes)
    if config.format in CITYSCAPES_ONLY:
        return CITYSCAPES
    classes = known_classes_of(source)
    if classes is None:
        raise ValueError(
            f"nothing tells the classes of {public_uri(config.labels)}: the data at {source.root} has none of its own; "
            f"say --classes {CITYSCAPES.name}, or --classes FILE with a JSON file of their names"
        )
    return classes


def read_classes(place: Location) -> ClassTable:
    """The class table of a JSON file: names in the order of their ids, `id2label`, a config of Mapillary Vistas, or a
    class table as stores have it.

    Raises:
        ValueError: it is none of these.
        FileNotFoundError: there is no such file.
    """
    where = public_uri(place)
    try:
        document = json.loads(read_bytes(*open_filesystem(place)))
        return _table(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{where} is no file of classes ({' '.join(str(error).split()) or type(error).__name__}); expected a JSON "
            'list of names in the order of their ids, {"id2label": {"0": "road", ...}}, or the config of Mapillary '
            "Vistas"
        ) from None


def _table(document: Any) -> ClassTable:
    if isinstance(document, Mapping) and "raw_ids" in document:
        return ClassTable.from_dict(document)
    if isinstance(document, Mapping) and "labels" in document:
        labels = enumerate(document["labels"])
        rows = [(raw, str(one["readable"]), tuple(one["color"])) for raw, one in labels if one.get("evaluate", True)]
        return _of_rows("mapillary", rows)
    names: Any = document.get("id2label") or document["names"] if isinstance(document, Mapping) else document
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    named = sorted((int(raw), str(name)) for raw, name in pairs)
    return _of_rows("imported", [(raw, name, _color(raw)) for raw, name in named])


def _of_rows(name: str, rows: list[tuple[int, str, Any]]) -> ClassTable:
    raw_ids, names, colors = zip(*rows, strict=True)
    return ClassTable.from_dict(
        {"name": name, "names": names, "colours": colors, "raw_ids": raw_ids, "ignore_index": 255}
    )


def _color(raw: int) -> tuple[int, int, int]:
    """One that differs from those of the ids near it: hues by the golden ratio."""
    r, g, b = colorsys.hsv_to_rgb(raw * 0.618034 % 1, 0.5 + raw % 3 / 4, 0.95 - raw % 2 / 4)
    return round(255 * r), round(255 * g), round(255 * b)


def train_ids_of(classes: ClassTable, ids: str) -> NDArray[np.uint16]:
    """[256] trainId of each id in the files, 255 for those of no class, `UNKNOWN` for those that cannot be there.

    Args:
        ids: `raw` or `train`.
    """
    table = np.full(256, UNKNOWN, np.uint16)
    if ids == TRAIN_IDS:
        table[: classes.num_classes] = np.arange(classes.num_classes)
    else:
        last = LAST_LABEL_ID if classes.raw_ids == CITYSCAPES.raw_ids else 254  # others list their last id nowhere
        table[: last + 1] = classes.ignore_index
        table[list(classes.raw_ids)] = np.arange(classes.num_classes)
    table[255] = classes.ignore_index
    return table


def to_train_ids(raw: U8, table: NDArray[np.uint16], ids: str) -> U8:
    """[H, W] uint8 trainIds.

    Raises:
        BadImage: an id cannot be there.
    """
    found = table[raw]
    if (strange := found == UNKNOWN).any():
        other = TRAIN_IDS if ids == RAW_IDS else RAW_IDS
        allowed = np.flatnonzero(table < 255)
        raise BadImage(
            f"it holds {raw[strange][0]}, which is no {'label id' if ids == RAW_IDS else 'trainId'} ({allowed[0]} to "
            f"{allowed[-1]}, or 255); if these are {'trainIds' if ids == RAW_IDS else 'label ids'}, say --ids {other}"
        )
    return found.astype(np.uint8)


def refuse_other_ids(maps: Iterable[tuple[str, U8]], classes: ClassTable, ids: str, place: str) -> None:
    """Looks at a few maps for ids that are of the other kind.

    Label ids of Cityscapes are taken for trainIds if none is above the last of these, and either several of those that
    label ids have for no class are there, or most pixels would be of no class.

    Raises:
        ValueError: naming a file, what is in it, and the option.
    """
    counts, first = np.zeros(256, np.int64), ""
    for path, raw in maps:
        counts, first = counts + np.bincount(raw.ravel(), minlength=256), first or path
        beyond = np.flatnonzero(counts[classes.num_classes : 255]) + classes.num_classes
        if ids == TRAIN_IDS and len(beyond):
            raise ValueError(
                f"the labels of {place} hold no trainIds: {path} has {beyond[-1]}, and {classes.name} has "
                f"{classes.num_classes} classes; if these are label ids, say --ids {RAW_IDS}"
            )
    if ids == TRAIN_IDS or classes.raw_ids != CITYSCAPES.raw_ids or counts[LAST_TRAIN_ID + 1 : 255].any():
        return
    lost = counts[:255][train_ids_of(classes, ids)[:255] == classes.ignore_index].sum()
    if np.count_nonzero(counts[VOID_LABEL_IDS]) >= MANY_VOID_IDS or 2 * lost > counts[:255].sum() > 0:
        raise ValueError(
            f"the labels of {place} look like trainIds: none of the files looked at, such as {first}, has an id above "
            f"{LAST_TRAIN_ID}, and many pixels would be of no class as label ids; say --ids {TRAIN_IDS}"
        )
