"""Are a version's pixel objects there, with their committed sizes? One listing per array, no object is read."""

from collections.abc import Iterator
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hmsa_label.stores.files import join, list_sizes
from hmsa_label.stores.format import schema
from hmsa_label.stores.manifest.rows import BATCH_ROWS, Rows

PLACES = {schema.LABEL: ("segment", "row")} | dict.fromkeys(schema.EVIDENCE, ("evidence_segment", "evidence_row"))


def arrays_in(table: pa.Table) -> set[tuple[str, int, int, str]]:
    """(segment, H, W, array) of all arrays that manifest rows name."""
    found: set[tuple[str, int, int, str]] = set()
    for name, (segment, _) in PLACES.items():
        rows = table.select([segment, "height", "width"]).filter(pc.is_valid(table[segment]))
        groups = rows.group_by([segment, "height", "width"]).aggregate([]).to_pylist()
        found |= {(group[segment], group["height"], group["width"], name) for group in groups}
    return found


def size_faults(rows_of_version: Rows, seen: set[int] | None = None) -> Iterator[tuple[str, str, str]]:
    """(key, `missing` or `size`, detail) of each object that a version names and that is gone or of another size.

    Args:
        seen: hashes of the objects that were looked at before and are passed over; new ones are added. None looks at
            all, and keeps none in mind.
    """
    filesystem, path = rows_of_version.root.open()
    for name, (segment, number) in PLACES.items():
        for (at, height, width), every_row in _by_array(rows_of_version, name, segment, number):
            rows = every_row if seen is None else _unseen(every_row, seen, (name, at, number))
            first = next(rows, None)
            if first is None:  # nothing to list for
                continue
            # One array's listing at a time: millions of objects would not fit into memory.
            sizes = list_sizes(filesystem, join(path, schema.size_folder(at, height, width), name))
            for row in chain([first], rows):
                chunk = schema.chunk_path(at, height, width, name, row[number])
                found, expected = sizes.get(join(path, chunk)), row[f"{name}_bytes"]
                if found is None:
                    yield row["key"], "missing", f"{name}: no object {chunk}"
                elif found != expected:
                    yield row["key"], "size", f"{name}: {chunk} has {found} bytes, committed were {expected}"


def _unseen(rows: Iterator[dict[str, Any]], seen: set[int], place: tuple[str, str, str]) -> Iterator[dict[str, Any]]:
    """Rows whose object of one array was not looked at before."""
    name, segment, number = place
    for row in rows:
        known = hash((name, segment, row[number], row[f"{name}_bytes"]))
        if known not in seen:
            seen.add(known)
            yield row


def _by_array(rows: Rows, name: str, segment: str, number: str) -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
    """Rows of each (segment, H, W) in which one of the arrays lies."""
    places = [segment, "height", "width"]
    table = rows.table([*places, number, "key", f"{name}_bytes"])
    ordered = table.filter(pc.is_valid(table[segment])).sort_by([(place, "ascending") for place in places])
    each = (row for batch in ordered.to_batches(BATCH_ROWS) for row in batch.to_pylist())
    return groupby(each, key=lambda row: (row[segment], row["height"], row["width"]))
