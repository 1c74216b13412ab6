"""Which images of a version have what is asked for, told from their rows alone."""

import difflib
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SHOWN = 40


def keys_where(
    rows: pa.Table, names: list[str], class_name: str | None, min_pixels: int, kept: tuple[float, float]
) -> list[str]:
    """Keys of the rows that `LabelStore.where` asks for; `rows` has the columns key, class_px and kept_share."""
    share = pc.and_(pc.greater_equal(rows["kept_share"], kept[0]), pc.less_equal(rows["kept_share"], kept[1]))
    found = np.array(share.to_pylist(), bool)
    if class_name is not None:
        if class_name not in names:
            raise ValueError(unknown("class", class_name, names))
        found &= _class_px(rows, len(names))[:, names.index(class_name)] >= min_pixels
    keys: list[str] = rows["key"].filter(pa.array(found)).to_pylist()
    return keys


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """A message on a name that is none of the known ones: the most similar of them, and all."""
    names = list(known)
    match = difflib.get_close_matches(str(name), names, n=1)
    meant = f"did you mean {match[0]!r}? " if match else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"there is no {what} {name!r}; {meant}there are {', '.join(names[:SHOWN])}{more}"


def _class_px(rows: pa.Table, num_classes: int) -> NDArray[np.int64]:
    """[N, K] int64 pixels of each class in each image."""
    flat = pc.list_flatten(rows["class_px"]).to_numpy()
    return np.asarray(flat, np.int64).reshape(rows.num_rows, num_classes)


def like(key: object, known: Iterable[str]) -> str:
    """Hint at a known key that ends as this one does, as names of image files do; empty if there is none."""
    stem = PurePosixPath(str(key)).stem
    found = next((name for name in known if stem and stem in name), None)
    return "" if found is None else f"; did you mean {found!r}?"
