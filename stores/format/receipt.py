"""One labelled image as it moves: facts from the pipeline, a receipt from the writer, a row of the manifest."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from hmsa_label.stores.format.schema import MANIFEST_SCHEMA


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the pipeline knows of an image beside its pixels.

    Attributes:
        source: path of the image below the data root.
        source_sha256: hex digest of the encoded image file; source_bytes: its size.
        converted: what the file held, such as `grey`, if its pixels were converted to RGB; None if they were RGB.
        device: what computed the label, such as `cuda:NVIDIA H200` or `cpu`.
        mean_confidence: mean top probability over all pixels, 0..1.
        coarse_agreement: share of pixels with the coarse label's class among those valid in both, 0..1; None without.
        seconds: time the teacher spent on the image.
    """

    key: str
    source: str
    source_sha256: str | None = None
    source_bytes: int | None = None
    converted: str | None = None
    device: str | None = None
    mean_confidence: float | None = None
    coarse_agreement: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One row of the manifest: where an image's arrays lie, what they hash to, and what is in them.

    `labelled_at` is ISO 8601 in UTC; digests are lower-case hex sha256 of the raw H*W bytes; `*_bytes` are the sizes of
    the chunk objects, `*_chunk_sha256` their digests. Columns are specified in FORMAT.md.
    """

    key: str
    height: int
    width: int
    segment: str
    row: int
    label_sha256: str
    label_chunk_sha256: str
    label_bytes: int
    top1_sha256: str | None = None
    top1_chunk_sha256: str | None = None
    top1_bytes: int | None = None
    code_sha256: str | None = None
    code_chunk_sha256: str | None = None
    code_bytes: int | None = None
    evidence_segment: str | None = None
    evidence_row: int | None = None
    source: str
    source_sha256: str | None = None
    source_bytes: int | None = None
    converted: str | None = None
    threshold: float
    class_px: tuple[int, ...]
    valid_px: int
    kept_share: float
    mean_confidence: float | None = None
    coarse_agreement: float | None = None
    run: str
    device: str | None = None
    seconds: float | None = None
    labelled_at: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read back by `from_dict`."""
        return {**vars(self), "class_px": list(self.class_px)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Receipt":
        """The receipt that `to_dict` wrote; fields added by later versions are left out."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        return cls(**{**values, "class_px": tuple(values["class_px"])})

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Receipt":
        """The receipt of a manifest row as `Table.to_pylist` gives it."""
        return cls.from_dict({**row, "labelled_at": iso(row["labelled_at"])})


def to_table(receipts: Iterable[Receipt]) -> pa.Table:
    """Manifest rows of receipts."""
    # vars, not asdict, which would copy every field deeply: a third of what an image costs the driver of a run.
    rows = [{**vars(receipt), "labelled_at": datetime.fromisoformat(receipt.labelled_at)} for receipt in receipts]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def iso(moment: datetime) -> str:
    """ISO 8601 spelling in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def now() -> str:
    """The present moment as `iso` spells it."""
    return iso(datetime.now(UTC))
