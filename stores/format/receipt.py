"""One labeled image as it moves: facts from the pipeline, a receipt from the writer, a row of the manifest."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.arrays import ARRAYS, PARTS
from hmsa_label.stores.format.columns import CLASS_COUNTS, MANIFEST_SCHEMA
from hmsa_label.stores.format.instances import StoredInstance, from_entries, to_entries
from hmsa_label.stores.format.layout import chunk_path
from hmsa_label.stores.format.rule import Rule

COUNTS = (*CLASS_COUNTS, "origin_px")
# Those that the pipeline may state; `class_px` is the writer's.
FACTS = (*COUNTS[1:], "coarse_agreement")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the pipeline knows of an image beside its pixels.

    Attributes:
        source: path of the image below the data root.
        source_sha256: hex digest of the encoded image file; source_bytes: its size.
        converted: what the file held, such as `gray`, if its pixels were converted to RGB; None if they were RGB.
        device: what computed the label, such as `cuda:NVIDIA H200` or `cpu`.
        mean_confidence: mean top probability over all pixels, 0..1.
        coarse_agreement: share of pixels with the polygons' class where both they and the teacher's label have one,
            0..1; None without.
        predicted_px: [K] pixels of each class before the rule. teacher_px: that the rule keeps of the teacher, before
            polygons; None if these are those of the label. origin_px: of each origin; None without polygons that give
            labels.
        polygon_px, polygon_kept_px, polygon_agree_px: [K] as `PolygonCounts`; None without polygons. `Cut.facts` has
            all of these counts.
        seconds: time the teacher spent on the image.
        instances: all that a panoptic teacher found, whatever the rule keeps of them; None of other teachers.
    """

    key: str
    source: str
    source_sha256: str | None = None
    source_bytes: int | None = None
    converted: str | None = None
    device: str | None = None
    mean_confidence: float | None = None
    coarse_agreement: float | None = None
    predicted_px: tuple[int, ...] | None = None
    teacher_px: tuple[int, ...] | None = None
    origin_px: tuple[int, ...] | None = None
    polygon_px: tuple[int, ...] | None = None
    polygon_kept_px: tuple[int, ...] | None = None
    polygon_agree_px: tuple[int, ...] | None = None
    seconds: float | None = None
    instances: tuple[StoredInstance, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoredArray:
    """What is recorded of one array of an image.

    Attributes:
        sha256: lower-case hex digest of its raw bytes, row by row.
        chunk_sha256: of its chunk object; bytes: the size of that.
    """

    name: str
    sha256: str
    chunk_sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One row of the manifest: where an image's arrays lie, what they hash to, and what is in them.

    `arrays` are those that the image has, in the order of the table of arrays. `labelled_at` is ISO 8601 in UTC.
    Columns are specified in FORMAT.md.
    """

    key: str
    height: int
    width: int
    segment: str
    row: int
    arrays: tuple[StoredArray, ...]
    evidence_segment: str | None = None
    evidence_row: int | None = None
    source: str
    source_sha256: str | None = None
    source_bytes: int | None = None
    converted: str | None = None
    threshold: float
    rule: str | None = None
    class_px: tuple[int, ...]
    valid_px: int
    kept_share: float
    predicted_px: tuple[int, ...] | None = None
    teacher_px: tuple[int, ...] | None = None
    origin_px: tuple[int, ...] | None = None
    polygon_px: tuple[int, ...] | None = None
    polygon_kept_px: tuple[int, ...] | None = None
    polygon_agree_px: tuple[int, ...] | None = None
    instances: tuple[StoredInstance, ...] | None = None
    instance_table_sha256: str | None = None
    mean_confidence: float | None = None
    coarse_agreement: float | None = None
    run: str
    device: str | None = None
    seconds: float | None = None
    labelled_at: str

    @property
    def label_rule(self) -> Rule:
        """What decided which pixels have a label.

        Raises:
            LabelCorrupt: if this version does not know such a rule.
        """
        try:
            return Rule.parse(self.threshold, self.rule)
        except LabelCorrupt as error:
            raise LabelCorrupt(f"{self.key}: {error}") from None

    def array(self, name: str) -> StoredArray | None:
        """What is recorded of one array; None if the image does not have it."""
        return next((array for array in self.arrays if array.name == name), None)

    def path_of(self, name: str) -> str:
        """The chunk object of one of the image's arrays, relative to the store."""
        segment, row = (getattr(self, column) for column in ARRAYS[name].place)
        return chunk_path(segment, self.height, self.width, name, row)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, a field per column of the manifest; read back by `from_dict`."""
        values = {**vars(self), **self.other_columns()}
        values |= {name: _maybe(list, values[name]) for name in COUNTS}
        return {name: values.get(name) for name in MANIFEST_SCHEMA.names}

    def other_columns(self) -> dict[str, Any]:
        """What the columns of the image's arrays hold, and its table of instances as the manifest has it."""
        columns = {f"{array.name}_{part}": getattr(array, part) for array in self.arrays for part in PARTS}
        return {**columns, "instances": None if self.instances is None else to_entries(self.instances)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Receipt":
        """The receipt that `to_dict` wrote; fields added by later versions are left out."""
        values = {name: data[name] for name in _OWN_FIELDS if name in data}
        values |= {name: _maybe(tuple, values[name]) for name in COUNTS if name in values}
        arrays = []
        for array in ARRAYS.values():
            parts: list[Any] = [data.get(column) for column in array.columns]
            if data.get(array.place[0]) is not None and any(part is not None for part in parts):
                arrays.append(StoredArray(array.name, *parts))
        entries = values.get("instances")
        return cls(
            **{
                **values,
                "arrays": tuple(arrays),
                "instances": None if entries is None else from_entries(entries),
            }
        )

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Receipt":
        """The receipt of a manifest row as `Table.to_pylist` gives it."""
        return cls.from_dict({**row, "labelled_at": iso(row["labelled_at"])})


def _maybe(kind: type, value: Any) -> Any:
    return None if value is None else kind(value)


_OWN_FIELDS = [field.name for field in fields(Receipt) if field.name != "arrays"]


def to_table(receipts: Iterable[Receipt]) -> pa.Table:
    """Manifest rows of receipts."""
    # vars, not asdict, which would copy every field deeply: a third of what an image costs the driver of a run.
    rows = [
        {**vars(receipt), **receipt.other_columns(), "labelled_at": datetime.fromisoformat(receipt.labelled_at)}
        for receipt in receipts
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def iso(moment: datetime) -> str:
    """ISO 8601 spelling in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def now() -> str:
    """The present moment as `iso` spells it."""
    return iso(datetime.now(UTC))
