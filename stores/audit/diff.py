"""What changed from one version to another: images, and pixel by pixel."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

IGNORE_NAME = "ignore"
COLUMNS = ["key", "height", "width", "label_sha256", "run", "threshold", "rule"]


@dataclass(frozen=True, kw_only=True)
class Diff(Result):
    """Differences from version `a` to version `b`.

    Attributes:
        relabeled: keys in both whose labels differ; resized: those among them whose image size differs.
        restated: keys whose label is the same but whose run or threshold differs.
        names: class names, then `ignore`; the axes of `confusion`.
        confusion: [K+1][K+1] pixels of the relabeled images by class in `a` (row) and `b` (column); None if not asked.
        pixels_changed: of the relabeled images; every pixel of a resized one counts. None if not asked.
        pixels_compared: pixels of the images in both versions.
        worst: (key, changed share 0..1) of the most changed images, most first.
    """

    a: int
    b: int
    added: list[str]
    removed: list[str]
    relabelled: list[str]
    resized: list[str]
    restated: list[str]
    unchanged: int
    names: list[str]
    confusion: list[list[int]] | None = None
    pixels_changed: int | None = None
    pixels_compared: int = 0
    worst: list[tuple[str, float]] = field(default_factory=list)


def diff(
    uri: str,
    a: int | str,
    b: int | str | None = None,
    *,
    pixels: bool = True,
    worst: int = 10,
    threads: int = 4,
    storage_options: dict[str, Any] | None = None,
) -> Diff:
    """Differences from version `a` to version `b` (None: the last finished one) of one store."""
    first = LabelStore.open(uri, a, storage_options=storage_options)
    second = LabelStore.open(uri, b, storage_options=storage_options)
    return diff_versions(first, second, pixels=pixels, worst=worst, threads=threads)


def diff_versions(
    first: LabelStore, second: LabelStore, *, pixels: bool = True, worst: int = 10, threads: int = 4
) -> Diff:
    """Differences between two readers; they may be of different stores with equal classes.

    Raises:
        StoreConflict: if the classes differ.
    """
    names = [str(name) for name in first.classes["names"]]
    if names != second.classes["names"]:
        raise StoreConflict(f"{first.uri} and {second.uri} hold labels of other classes; they cannot be compared")
    rows = _compare(first.table(COLUMNS), second.table(COLUMNS))
    result: dict[str, Any] = {}
    if pixels:
        comparable = [key for key in rows.relabelled if key not in rows.resized]
        tables = map_threads(
            lambda key: confusion_of(first.read(key), second.read(key), len(names)), comparable, threads
        )
        result = _add_up(comparable, tables, len(names), worst)
        result["pixels_changed"] += sum(rows.resized.values())
    return Diff(
        a=first.version,
        b=second.version,
        added=rows.added,
        removed=rows.removed,
        relabelled=rows.relabelled,
        resized=list(rows.resized),
        restated=rows.restated,
        unchanged=rows.unchanged,
        names=[*names, IGNORE_NAME],
        pixels_compared=rows.pixels,
        **result,
    )


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What the manifests alone say; as in `Diff`, and `resized` with the new number of pixels."""

    added: list[str]
    removed: list[str]
    relabelled: list[str]
    resized: dict[str, int]
    restated: list[str]
    unchanged: int
    pixels: int


def _compare(old: pa.Table, new: pa.Table) -> _Rows:
    """Rows of two versions side by side, column by column: a dictionary per row would be gigabytes for a million."""
    place = pc.index_in(new["key"], value_set=old["key"])
    gone = pc.invert(pc.is_in(old["key"], value_set=new["key"]))
    a, b = old.take(place.drop_null()), new.filter(pc.is_valid(place))
    relabelled = pc.not_equal(a["label_sha256"], b["label_sha256"])
    resized = pc.and_(relabelled, _differs(a, b, "height", "width"))
    pixels = pc.multiply(b["height"].cast(pa.int64()), b["width"].cast(pa.int64()))
    return _Rows(
        added=new["key"].filter(pc.is_null(place)).to_pylist(),
        removed=old["key"].filter(gone).to_pylist(),
        relabelled=b["key"].filter(relabelled).to_pylist(),
        resized=dict(zip(b["key"].filter(resized).to_pylist(), pixels.filter(resized).to_pylist(), strict=True)),
        restated=b["key"].filter(pc.and_(pc.invert(relabelled), _differs(a, b, "run", "threshold"))).to_pylist(),
        unchanged=pc.sum(pc.invert(relabelled)).as_py() or 0,
        pixels=pc.sum(pixels).as_py() or 0,
    )


def _differs(a: pa.Table, b: pa.Table, *columns: str) -> pa.ChunkedArray:
    """[rows] bool: whether one of two columns differs."""
    first, second = (pc.not_equal(a[name], b[name]) for name in columns)
    return pc.or_(first, second)


def confusion_of(old: U8, new: U8, num_classes: int) -> NDArray[np.int64]:
    """[K+1, K+1] int64 pixels by trainId in `old` (row) and `new` (column), ignore_index last."""
    place = np.arange(256)
    place[IGNORE_INDEX] = num_classes
    pairs = place[old.ravel()] * (num_classes + 1) + place[new.ravel()]
    return np.bincount(pairs, minlength=(num_classes + 1) ** 2).reshape(num_classes + 1, num_classes + 1)


def _add_up(keys: list[str], tables: Any, num_classes: int, worst: int) -> dict[str, Any]:
    total = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    shares: list[tuple[str, float]] = []
    for key, table in zip(keys, tables, strict=True):
        total += table
        shares.append((key, 1.0 - float(np.trace(table)) / float(table.sum())))
    shares.sort(key=lambda pair: (-pair[1], pair[0]))
    changed = int(total.sum() - np.trace(total))
    return {"confusion": total.tolist(), "pixels_changed": changed, "worst": shares[:worst]}
