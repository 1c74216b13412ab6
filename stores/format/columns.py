"""The manifest's columns, and what their values may be; checked whenever they are read, whole columns at a time.

A row decides which objects are opened and how much memory a reader takes, and anybody can write a Parquet file.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hmsa_label.stores.format.arrays import ARRAYS, BYTES
from hmsa_label.stores.format.forms import FIRST_YEAR, LAST_YEAR, MAX_COUNT, is_plain_name, parse_json
from hmsa_label.stores.format.instances import MAX_INSTANCES, TABLE
from hmsa_label.stores.format.layout import MAX_CLASSES, MAX_PIXELS
from hmsa_label.stores.format.origin import NAMES as ORIGINS
from hmsa_label.stores.format.rule import MORE

EPOCH = 1970
MICROSECONDS_PER_YEAR = 31_556_952_000_000  # of the mean Gregorian year
MAX_TEXT_BYTES = 4096
MAX_RULE_BYTES = 2**16
# Counts of pixels by trainId. Those by origin have a length of their own.
CLASS_COUNTS = ("class_px", "predicted_px", "teacher_px", "polygon_px", "polygon_kept_px", "polygon_agree_px")


def _array_fields() -> list[pa.Field]:
    """Digests and size of each array, in the order of the table; null where an image does not have it."""
    return [
        pa.field(column, pa.int64() if column == array.column(BYTES) else pa.string(), nullable=not array.required)
        for array in ARRAYS.values()
        for column in array.columns
    ]


MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("segment", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        *_array_fields(),
        pa.field("evidence_segment", pa.string()),
        pa.field("evidence_row", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string()),
        pa.field("source_bytes", pa.int64()),
        pa.field("converted", pa.string()),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("rule", pa.string()),
        pa.field("class_px", pa.list_(pa.int64()), nullable=False),
        pa.field("valid_px", pa.int64(), nullable=False),
        pa.field("kept_share", pa.float64(), nullable=False),
        pa.field("predicted_px", pa.list_(pa.int64())),
        pa.field("teacher_px", pa.list_(pa.int64())),
        pa.field("origin_px", pa.list_(pa.int64())),
        pa.field("polygon_px", pa.list_(pa.int64())),
        pa.field("polygon_kept_px", pa.list_(pa.int64())),
        pa.field("polygon_agree_px", pa.list_(pa.int64())),
        pa.field("instances", TABLE),
        pa.field("instance_table_sha256", pa.string()),
        pa.field("mean_confidence", pa.float64()),
        pa.field("coarse_agreement", pa.float64()),
        pa.field("run", pa.string(), nullable=False),
        pa.field("device", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("labelled_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

Values = Any  # pa.Array or pa.ChunkedArray
Check = Callable[[Values], str]


def column_fault(name: str, values: Values, num_classes: int | None = None) -> str:
    """What is wrong with the values of a column, which have its type; empty if nothing is.

    Args:
        num_classes: how many classes the store has, if it is known.
    """
    if len(values) == values.null_count:
        return ""
    fault = _CHECKS[name](values) if name in _CHECKS else ""
    if fault or num_classes is None or name not in _OF_CLASSES:
        return fault
    return _OF_CLASSES[name](values, num_classes)


def _counts_of_others(values: Values, num_classes: int) -> str:
    complete = pc.all(pc.equal(pc.list_value_length(values), num_classes)).as_py()
    return "" if complete else f"counts of other than {num_classes} classes"


def _instances_of_others(values: Values, num_classes: int) -> str:
    highest = pc.max(pc.struct_field(pc.list_flatten(values), "train_id")).as_py()
    return "" if highest is None or highest < num_classes else f"an instance of trainId {highest}, which is no class"


_OF_CLASSES = {**dict.fromkeys(CLASS_COUNTS, _counts_of_others), "instances": _instances_of_others}


def _within(low: float, high: float) -> Check:
    """Numbers from `low` to `high`; NaN lies outside."""

    def check(values: Values) -> str:
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        return "" if pc.all(inside).as_py() else f"a value outside of {low} to {high}"

    return check


def _names(values: Values) -> str:
    strange = next((value for value in pc.unique(values.drop_null()).to_pylist() if not is_plain_name(value)), None)
    return "" if strange is None else f"{strange[:60]!r}, which is no name of letters, digits, . _ - only"


def _text(values: Values, most_bytes: int = MAX_TEXT_BYTES) -> str:
    """Lengths and NUL, which no path, terminal or other program expects."""
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > most_bytes:
        return f"a text of {longest} bytes; {most_bytes} are the most"
    return "a text with a NUL" if pc.any(pc.match_substring(values, "\0")).as_py() else ""


def _keys(values: Values) -> str:
    return "an empty key" if pc.any(pc.equal(values, "")).as_py() else _text(values)


def _paths(values: Values) -> str:
    if fault := _keys(values):
        return fault
    leaves = pc.match_substring_regex(values, r"^/|(^|/)\.\.(/|$)")
    if not pc.any(leaves).as_py():
        return ""
    return f"{values.filter(leaves)[0].as_py()[:60]!r}, which leaves the data root"


def _moments(values: Values) -> str:
    low, high = ((year - EPOCH) * MICROSECONDS_PER_YEAR for year in (FIRST_YEAR, LAST_YEAR))
    return "a time beyond all years" if _within(low, high)(values.cast(pa.int64())) else ""


def _class_counts(values: Values) -> str:
    if pc.any(pc.greater(pc.list_value_length(values), MAX_CLASSES)).as_py():
        return f"counts of more than {MAX_CLASSES} classes"
    flat = pc.list_flatten(values)
    if flat.null_count:
        return "a count that is null"
    return _PIXELS(flat) if len(flat) else ""


def _origin_counts(values: Values) -> str:
    complete = pc.all(pc.equal(pc.list_value_length(values), len(ORIGINS))).as_py()
    return _class_counts(values) if complete else f"counts of other than {len(ORIGINS)} origins"


def _rules(values: Values) -> str:
    if fault := _text(values, MAX_RULE_BYTES):
        return fault
    for text in pc.unique(values.drop_null()).to_pylist():
        try:
            fault = MORE.fault(parse_json(text), "")
        except ValueError as error:
            fault = str(error)
        if fault:
            return f"{text[:60]!r}, which is no rule: {fault}"
    return ""


def _tables(values: Values) -> str:
    """Tables of instances: their lengths, and every field of every entry."""
    if pc.any(pc.greater(pc.list_value_length(values), MAX_INSTANCES)).as_py():
        return f"a table of more than {MAX_INSTANCES:,} instances"
    entries = pc.list_flatten(values)
    if entries.null_count:
        return "an instance that is null"
    for name, check in _ENTRY.items() if len(entries) else ():
        found = pc.struct_field(entries, name)
        if found.null_count:
            return f"an instance without a {name}"
        if fault := check(found):
            return f"{fault} as {name} of an instance"
    return ""


_PIXELS, _COUNT, _FINITE, _SHARE = _within(0, MAX_PIXELS), _within(0, MAX_COUNT), _within(-1e300, 1e300), _within(0, 1)
_ENTRY: dict[str, Check] = {
    "train_id": _within(0, MAX_CLASSES - 1),
    **dict.fromkeys(("center_score", "confidence"), _SHARE),
    "area_px": _within(1, MAX_PIXELS),
    **dict.fromkeys(("x", "y"), _within(0, MAX_PIXELS - 1)),
    **dict.fromkeys(("width", "height"), _within(1, MAX_PIXELS)),
}
_CHECKS: dict[str, Check] = {
    "key": _keys,
    "source": _paths,
    **dict.fromkeys(("height", "width"), _within(1, MAX_PIXELS)),
    **dict.fromkeys(("segment", "evidence_segment", "run"), _names),
    **dict.fromkeys(("row", "evidence_row", "source_bytes"), _COUNT),
    **dict.fromkeys((array.column(BYTES) for array in ARRAYS.values()), _COUNT),
    **dict.fromkeys(("threshold", "kept_share"), _SHARE),
    **dict.fromkeys(("mean_confidence", "coarse_agreement", "seconds"), _FINITE),
    **dict.fromkeys(CLASS_COUNTS, _class_counts),
    "origin_px": _origin_counts,
    "valid_px": _PIXELS,
    "rule": _rules,
    "instances": _tables,
    **dict.fromkeys(("device", "converted"), _text),
    "labelled_at": _moments,
}
