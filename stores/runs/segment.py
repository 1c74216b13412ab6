"""Writing pixels: one write-once segment per process attempt, one row per image, the receipt last.

A segment has one writer and a row is written once, so two writers can never meet in one object; a retried image takes a
new row. What no receipt names was never finished.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format import schema
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.format.receipt import ImageFacts, Receipt, now
from hmsa_label.stores.format.records import RECEIPT
from hmsa_label.stores.format.schema import CODE, LABEL, TOP1, U8


class SegmentWriter:
    """One process attempt's writer; its methods may be called from several threads.

    Args:
        store_uri: the store, which exists already.
        run_id: the run the images belong to, as `RunWriter.run_id` gives it.
        grid: ascending thresholds of the codes, or None if no evidence is written.
        threshold: the one that labels are cut at; on the grid, if there is one.
        capacity: rows per segment; a further image opens the next segment.
    """

    def __init__(
        self,
        store_uri: str,
        run_id: str,
        grid: Sequence[float] | None,
        threshold: float,
        capacity: int,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.root = FileRoot(store_uri, dict(storage_options or {}))
        self.run_id = run_id
        self.grid = tuple(float(value) for value in grid) if grid is not None else None
        self.threshold = threshold
        self.level = level_of(threshold, self.grid) if self.grid is not None else 0
        self.capacity = max(1, capacity)
        self.num_classes = read_identity(self.root).num_classes
        self.segment = ""
        self._lock = threading.Lock()
        self._next_row = self.capacity
        self._sizes: set[tuple[str, int, int]] = set()

    def write(
        self,
        facts: ImageFacts,
        arrays: Mapping[str, U8],
        *,
        evidence_of: Receipt | None = None,
    ) -> Receipt:
        """Stores one image's arrays and returns its manifest row.

        Args:
            arrays: [H, W] by name: `label`, uint8 trainIds with 255 below the threshold; with evidence also `top1` and
                `code`, uint8.
            evidence_of: an older receipt whose evidence the new label was made from, instead of `top1` and `code`.

        Raises:
            ValueError: if arrays disagree in shape, hold other values than classes and 255, the label is not what the
                evidence says at the threshold, or a fact is one that no reader takes.
            OSError: if the storage fails; nothing is recorded then and the image may be written again.
        """
        label, top1, code = arrays[LABEL], arrays.get(TOP1), arrays.get(CODE)
        counts = self._check(facts.key, label, top1, code)
        height, width = label.shape
        segment, row = self._claim(height, width)
        evidence: dict[str, Any] = _evidence_columns(evidence_of)
        if top1 is not None and code is not None:
            evidence = {"evidence_segment": segment, "evidence_row": row}
            for name, array in ((TOP1, top1), (CODE, code)):
                evidence |= self._put_chunk(segment, row, name, array)
        columns = self._put_chunk(segment, row, LABEL, label)
        valid_px = int(counts[: self.num_classes].sum())
        receipt = Receipt(
            **asdict(facts),
            **evidence,
            **columns,
            height=height,
            width=width,
            segment=segment,
            row=row,
            threshold=self.threshold,
            class_px=tuple(int(count) for count in counts[: self.num_classes]),
            valid_px=valid_px,
            kept_share=valid_px / label.size,
            run=self.run_id,
            labelled_at=now(),
        )
        if fault := RECEIPT.fault(receipt.to_dict(), ""):
            raise ValueError(f"{facts.key}: {fault}")
        body = json.dumps(receipt.to_dict(), sort_keys=True).encode()
        self._put(schema.receipt_path(segment, row), body)
        return receipt

    def _check(self, key: str, label: U8, top1: U8 | None, code: U8 | None) -> Any:
        """[256] counts of the label's values, once everything fits together."""
        if (top1 is None) != (code is None):
            raise ValueError(f"{key}: evidence is top1 and code together; got only one of them")
        for name, array in ((LABEL, label), (TOP1, top1), (CODE, code)):
            if array is not None and (array.dtype != np.uint8 or array.ndim != 2 or array.shape != label.shape):
                raise ValueError(
                    f"{key}: {name} must be uint8 [H, W] of one size; got {array.dtype} {list(array.shape)} beside a "
                    f"label of {list(label.shape)}"
                )
        if not 0 < label.size <= schema.MAX_PIXELS:
            raise ValueError(f"{key}: a label of {list(label.shape)}; a store holds 1 to {schema.MAX_PIXELS:,} pixels")
        # by parts: bincount makes 8 bytes of each
        parts = np.array_split(label.ravel(), 1 + label.size // 2**22)
        counts = np.sum([np.bincount(part, minlength=256) for part in parts], axis=0)
        strange = [value for value in np.flatnonzero(counts) if self.num_classes <= value != schema.IGNORE_INDEX]
        if strange:
            raise ValueError(
                f"{key}: the label holds {[int(value) for value in strange]}; expected trainIds below "
                f"{self.num_classes} and {schema.IGNORE_INDEX}"
            )
        if top1 is not None and code is not None:
            if self.grid is None:
                raise ValueError(f"{key}: evidence was given to a writer without a grid")
            if not np.array_equal(label, label_at(top1, code, self.level)):
                raise ValueError(f"{key}: the label is not what top1 and code say at threshold {self.threshold}")
        return counts

    def _claim(self, height: int, width: int) -> tuple[str, int]:
        """A segment and a row nobody else has, with the arrays of this image size in place."""
        with self._lock:
            if self._next_row == self.capacity:
                self._begin_segment()
            row, self._next_row = self._next_row, self._next_row + 1
            if (self.segment, height, width) not in self._sizes:
                self._begin_size(height, width)
                self._sizes.add((self.segment, height, width))
            return self.segment, row

    def _begin_segment(self) -> None:
        segment = f"{self.run_id}.{secrets.token_hex(4)}"
        attributes = {"run": self.run_id, "began_at": now(), "threshold": self.threshold, **self._grid_attributes()}
        self._put(f"{schema.DATA}/{segment}/{schema.ROOT}", schema.group_metadata(attributes))
        self.segment, self._next_row = segment, 0

    def _begin_size(self, height: int, width: int) -> None:
        folder = schema.size_folder(self.segment, height, width)
        self._put(f"{folder}/{schema.ROOT}", schema.group_metadata())
        for name in (LABEL, *(schema.EVIDENCE if self.grid is not None else ())):
            attributes: dict[str, Any] = {"ignore_index": schema.IGNORE_INDEX, "unwritten": schema.UNWRITTEN}
            attributes |= {"threshold": self.threshold} if name == LABEL else {}
            attributes |= self._grid_attributes() if name == CODE else {}
            metadata = schema.array_metadata(self.capacity, height, width, attributes)
            self._put(f"{folder}/{name}/{schema.ROOT}", metadata)

    def _grid_attributes(self) -> dict[str, Any]:
        """The grid in decimals for people and as exact float32 for programs."""
        if self.grid is None:
            return {}
        exact = [float(np.float32(value)).hex() for value in self.grid]
        return {"thresholds": list(self.grid), "thresholds_float32": exact}

    def _put_chunk(self, segment: str, row: int, name: str, array: U8) -> dict[str, Any]:
        """Stores one array of one image; the manifest columns it fills."""
        data = schema.encode(array)
        height, width = array.shape
        self._put(schema.chunk_path(segment, height, width, name, row), data)
        digests = {f"{name}_sha256": schema.digest_of(array), f"{name}_chunk_sha256": hashlib.sha256(data).hexdigest()}
        return {**digests, f"{name}_bytes": len(data)}

    def _put(self, path: str, data: bytes) -> None:
        filesystem, root = self.root.open()
        try:
            create_bytes(filesystem, join(root, path), data, sync_folder=False)  # the commit flushes folders
        except FileExistsError:
            raise StoreConflict(f"{path} was written by another process; nothing was overwritten") from None


def _evidence_columns(receipt: Receipt | None) -> dict[str, Any]:
    if receipt is None:
        return {}
    columns = [f"{name}_{what}" for name in schema.EVIDENCE for what in ("sha256", "bytes", "chunk_sha256")]
    names = (*columns, "evidence_segment", "evidence_row")
    return {name: getattr(receipt, name) for name in names}
