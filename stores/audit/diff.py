"""What changed from one version to another: images, and pixel by pixel."""

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmsa_label.stores.audit.instance_changes import Counts, InstanceChanges, changes_of
from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.manifest.table import DIGESTED
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

IGNORE_NAME = "ignore"
SEALED = DIGESTED.names[1:]  # what differs if an image was labeled otherwise
COLUMNS = ["key", "height", "width", *SEALED, "run", "threshold", "rule"]


@dataclass(frozen=True, kw_only=True)
class Diff(Result):
    """Differences from version `a` to version `b`.

    Attributes:
        relabeled: keys in both whose labels or instances differ; resized: those among them whose image size differs.
        restated: keys whose label is the same but whose run, threshold or rule differs.
        names: class names, then `ignore`; the axes of `confusion`.
        confusion: [K+1][K+1] pixels of the relabeled images by class in `a` (row) and `b` (column); None if not asked.
        pixels_changed: of the relabeled images; every pixel of a resized one counts. None if not asked.
        pixels_compared: pixels of the images in both versions.
        worst: (key, changed share 0..1) of the most changed images, most first.
        instances: by class name, what became of the instances of the relabeled images that tell them in both; those of
            resized ones left out. None if not asked, or if there is no such image.
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
    instances: dict[str, InstanceChanges] | None = None


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
        told = first.keys_with_instances() & second.keys_with_instances()

        def compare(key: str) -> tuple[NDArray[np.int64], Counts]:
            old, new = first.read(key), second.read(key)
            table = confusion_of(old, new, len(names))
            if key not in told:
                return table, np.zeros((len(names), 3), np.int64)
            instances = (old, first.instance_map(key, old)), (new, second.instance_map(key, new))
            return table, changes_of(*instances, len(names))

        result = _add_up(comparable, map_threads(compare, comparable, threads), names, worst)
        result["instances"] = result["instances"] if told else None
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
    relabelled = _differs(a, b, *SEALED)
    resized = pc.and_(relabelled, _differs(a, b, "height", "width"))
    pixels = pc.multiply(b["height"].cast(pa.int64()), b["width"].cast(pa.int64()))
    return _Rows(
        added=new["key"].filter(pc.is_null(place)).to_pylist(),
        removed=old["key"].filter(gone).to_pylist(),
        relabelled=b["key"].filter(relabelled).to_pylist(),
        resized=dict(zip(b["key"].filter(resized).to_pylist(), pixels.filter(resized).to_pylist(), strict=True)),
        restated=b["key"].filter(pc.and_not(_differs(a, b, "run", "threshold", "rule"), relabelled)).to_pylist(),
        unchanged=pc.sum(pc.invert(relabelled)).as_py() or 0,
        pixels=pc.sum(pixels).as_py() or 0,
    )


def _differs(a: pa.Table, b: pa.Table, *columns: str) -> pa.ChunkedArray:
    """[rows] bool: whether one of several columns differs; null differs from every value."""
    found = [pc.xor(pc.is_valid(a[name]), pc.is_valid(b[name])) for name in columns]
    found += [pc.fill_null(pc.not_equal(a[name], b[name]), False) for name in columns]
    return reduce(pc.or_, found)


def confusion_of(old: U8, new: U8, num_classes: int) -> NDArray[np.int64]:
    """[K+1, K+1] int64 pixels by trainId in `old` (row) and `new` (column), ignore_index last."""
    place = np.arange(256)
    place[IGNORE_INDEX] = num_classes
    pairs = place[old.ravel()] * (num_classes + 1) + place[new.ravel()]
    return np.bincount(pairs, minlength=(num_classes + 1) ** 2).reshape(num_classes + 1, num_classes + 1)


def _add_up(keys: list[str], found: Any, names: list[str], worst: int) -> dict[str, Any]:
    total = np.zeros((len(names) + 1, len(names) + 1), np.int64)
    changes = np.zeros((len(names), 3), np.int64)
    shares: list[tuple[str, float]] = []
    for key, (table, instances) in zip(keys, found, strict=True):
        total += table
        changes += instances
        shares.append((key, 1.0 - float(np.trace(table)) / float(table.sum())))
    shares.sort(key=lambda pair: (-pair[1], pair[0]))
    changed = int(total.sum() - np.trace(total))
    of_classes = {
        name: InstanceChanges(added=row[0], removed=row[1], changed=row[2])
        for name, row in zip(names, changes.tolist(), strict=True)
        if any(row)
    }
    return {
        "confusion": total.tolist(),
        "pixels_changed": changed,
        "worst": shares[:worst],
        "instances": of_classes,
    }
