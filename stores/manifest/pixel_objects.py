"""Are a version's pixel objects there, with their committed sizes? One listing per array, no object is read."""

from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hmsa_label.stores.files import join, list_sizes
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import ARRAYS, BYTES, Array
from hmsa_label.stores.manifest.rows import BATCH_ROWS, Rows


def arrays_in(table: pa.Table) -> set[tuple[str, int, int, str]]:
    """(segment, H, W, array) of all arrays that manifest rows name."""
    found: set[tuple[str, int, int, str]] = set()
    for array in ARRAYS.values():
        segment = array.place[0]
        rows = table.select([segment, "height", "width"]).filter(_have(table, array))
        groups = rows.group_by([segment, "height", "width"]).aggregate([]).to_pylist()
        found |= {(group[segment], group["height"], group["width"], array.name) for group in groups}
    return found


def size_faults(rows_of_version: Rows, seen: set[int] | None = None) -> Iterator[tuple[str, str, str]]:
    """(key, `missing` or `size`, detail) of each object that a version names and that is gone or of another size.

    Args:
        seen: hashes of the objects that were looked at before and are passed over; new ones are added. None looks at
            all, and keeps none in mind.
    """
    filesystem, path = rows_of_version.root.open()
    for array in ARRAYS.values():
        name, number, size_column = array.name, array.place[1], array.column(BYTES)
        for (at, height, width), every_row in _by_array(rows_of_version, array):
            rows = every_row if seen is None else _unseen(every_row, seen, (name, at, number, size_column))
            first = next(rows, None)
            if first is None:  # nothing to list for
                continue
            # One array's listing at a time: millions of objects would not fit into memory.
            sizes = list_sizes(filesystem, join(path, layout.size_folder(at, height, width), name))
            for row in chain([first], rows):
                chunk = layout.chunk_path(at, height, width, name, row[number])
                found, expected = sizes.get(join(path, chunk)), row[size_column]
                if found is None:
                    yield row["key"], "missing", f"{name}: no object {chunk}"
                elif found != expected:
                    yield row["key"], "size", f"{name}: {chunk} has {found} bytes, committed were {expected}"


def _unseen(
    rows: Iterator[dict[str, Any]], seen: set[int], place: tuple[str, str, str, str]
) -> Iterator[dict[str, Any]]:
    """Rows whose object of one array was not looked at before."""
    name, segment, number, size_column = place
    for row in rows:
        known = hash((name, segment, row[number], row[size_column]))
        if known not in seen:
            seen.add(known)
            yield row


def _have(table: pa.Table, array: Array) -> pa.ChunkedArray:
    """[rows] bool: whether an image has the array."""
    return pc.and_(pc.is_valid(table[array.place[0]]), pc.is_valid(table[array.column(BYTES)]))


def _by_array(rows: Rows, array: Array) -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
    """Rows of each (segment, H, W) in which an array lies."""
    segment, number = array.place
    places = [segment, "height", "width"]
    table = rows.table([*places, number, "key", array.column(BYTES)])
    ordered = table.filter(_have(table, array)).sort_by([(place, "ascending") for place in places])
    each = (row for batch in ordered.to_batches(BATCH_ROWS) for row in batch.to_pylist())
    return groupby(each, key=lambda row: (row[segment], row["height"], row["width"]))
