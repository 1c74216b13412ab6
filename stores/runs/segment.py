"""Writing pixels: one write-once segment per process attempt, one row per image, the receipt last.

A segment has one writer and a row is written once, so two writers can never meet in one object; a retried image takes a
new row. What no receipt names was never finished.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.agreement import agreement_faults, count_faults, counts_in, made_by
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    LABEL,
    MASK,
    Bounds,
    Pixels,
    counts_margins,
    counts_thresholds,
    set_fault,
    table_fault,
)
from hmsa_label.stores.format.chunks import digest_of, encode
from hmsa_label.stores.format.evidence import level_of
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.format.instances import StoredInstance, exact, table_digest, to_entries
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.masks import mask_of, put_mask, read_mask
from hmsa_label.stores.format.receipt import FACTS, ImageFacts, Receipt, StoredArray, now
from hmsa_label.stores.format.records import INSTANCES, RECEIPT
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.format.zarr_metadata import array_metadata, group_metadata


class SegmentWriter:
    """One process attempt's writer; its methods may be called from several threads.

    Args:
        store_uri: the store, which exists already.
        run_id: the run the images belong to, as `RunWriter.run_id` gives it.
        grid: ascending thresholds of the codes, or None if no evidence is written.
        rule: what labels are cut by; its thresholds are on the grid, if there is one.
        capacity: rows per segment; a further image opens the next segment.
        margins: ascending, those that the codes of margins count.
        mask: [H, W] uint8 pixels of the rule's mask, which are kept in the store; None reads those that lie there.
    """

    def __init__(
        self,
        store_uri: str,
        run_id: str,
        grid: Sequence[float] | None,
        rule: Rule,
        capacity: int,
        storage_options: dict[str, Any] | None = None,
        *,
        margins: Sequence[float] = (),
        mask: U8 | None = None,
    ) -> None:
        self.root = FileRoot(store_uri, dict(storage_options or {}))
        self.run_id = run_id
        self.grid = tuple(float(value) for value in grid) if grid is not None else None
        self.margins = tuple(float(value) for value in margins)
        self.rule = rule
        if self.grid is not None:
            for threshold in rule.thresholds:
                level_of(threshold, self.grid)  # refuses one that is not stored
        self.capacity = max(1, capacity)
        identity = read_identity(self.root)
        self.names, self.things = tuple(identity.classes["names"]), identity.things
        if fault := rule.fault(self.names):
            raise ValueError(fault)
        self._mask = _mask_of_rule(self.root, rule, mask)
        self.segment = ""
        self._lock = threading.Lock()
        self._next_row = self.capacity
        self._begun: set[tuple[str, int, int, str]] = set()

    def write(self, facts: ImageFacts, arrays: Mapping[str, Pixels], *, evidence_of: Receipt | None = None) -> Receipt:
        """Stores one image's arrays and returns its manifest row.

        Counts among the facts must be those of the arrays; those that are left out are taken from them.

        Args:
            arrays: [H, W] by their names in the store's table of arrays, in the types that it states: `label` always,
                `origin` where the rule gives one, evidence if it is to be kept, `instance` where there is a table of
                instances among the facts.
            evidence_of: an older receipt whose evidence the new label was made from, instead of evidence of its own.

        Raises:
            ValueError: if an array is unknown, missing, of another type, shape or values than the table states, or not
                what those that it follows from say by the rule; if instances are not those of the pixels; or if a fact
                is one that no reader takes.
            OSError: if the storage fails; nothing is recorded then and the image may be written again.
        """
        instances = None if facts.instances is None else exact(facts.instances)
        bounds = self._bounds(facts, instances)
        if fault := self._fault(arrays, bounds, evidence_of):
            raise ValueError(f"{facts.key}: {fault}")
        counts = self._counts(facts, arrays, bounds)
        height, width = arrays[LABEL].shape
        segment, row = self._claim(height, width, list(arrays))
        # What a label was cut from comes before it, the receipt last: a row with a receipt is whole.
        names = sorted(arrays, key=lambda name: (ARRAYS[name].of_rule, ARRAYS[name].required))
        written = [self._put_chunk(segment, row, name, arrays[name]) for name in names]
        valid_px = sum(counts["class_px"])
        receipt = Receipt(
            **{**vars(facts), "instances": instances, **counts},
            **_evidence(evidence_of, segment, row, written),
            height=height,
            width=width,
            segment=segment,
            row=row,
            threshold=self.rule.threshold,
            rule=self.rule.text,
            instance_table_sha256=None if instances is None else table_digest(instances),
            valid_px=valid_px,
            kept_share=valid_px / (height * width),
            run=self.run_id,
            labelled_at=now(),
        )
        if fault := RECEIPT.fault(receipt.to_dict(), ""):
            raise ValueError(f"{facts.key}: {fault}")
        body = json.dumps(receipt.to_dict(), sort_keys=True).encode()
        self._put(layout.receipt_path(segment, row), body)
        return receipt

    def _bounds(self, facts: ImageFacts, instances: tuple[StoredInstance, ...] | None) -> Bounds:
        return Bounds(
            names=self.names,
            things=self.things,
            thresholds=self.grid or (),
            margins=self.margins,
            instances=instances,
            mean_confidence=facts.mean_confidence,
        )

    def _fault(self, arrays: Mapping[str, Pixels], bounds: Bounds, evidence_of: Receipt | None) -> str:
        """What is wrong with an image's arrays, each by itself; empty if they fit the table."""
        kept = {stored.name for stored in evidence_of.arrays} if evidence_of else set()
        if fault := set_fault(set(arrays)) or table_fault(arrays.keys() | kept, bounds.instances):
            return fault
        if fault := INSTANCES.fault(to_entries(bounds.instances or ()), "instances"):
            return fault
        shape = arrays[LABEL].shape
        for name, pixels in arrays.items():
            dtype = ARRAYS[name].dtype
            if pixels.dtype != dtype or pixels.ndim != 2 or pixels.shape != shape:
                found = f"{pixels.dtype} {list(pixels.shape)} beside a label of {list(shape)}"
                return f"{name} must be {dtype} [H, W] of one size; got {found}"
        if not 0 < arrays[LABEL].size <= layout.MAX_PIXELS:
            return f"a label of {list(shape)}; a store holds 1 to {layout.MAX_PIXELS:,} pixels"
        for name, pixels in arrays.items():
            if counts_thresholds(name) and self.grid is None:
                return f"{name}: its segment names no thresholds"
            if counts_margins(name) and not self.margins:
                return f"{name}: its segment names no margins"
            if fault := ARRAYS[name].values.fault(pixels, bounds):
                return f"{name}: {fault}; expected {ARRAYS[name].values.text}, with K = {len(self.names)}"
        return ""

    def _counts(self, facts: ImageFacts, arrays: Mapping[str, Pixels], bounds: Bounds) -> dict[str, Any]:
        """The counts of an image: those of its pixels where they tell, or else what the facts state.

        Raises:
            ValueError: if arrays or facts do not say what follows from the evidence by the rule.
        """
        known = arrays if self._mask is None else {**arrays, MASK: self._mask}
        made = made_by(known, self.rule, bounds, arrays.keys())
        found = counts_in(arrays, bounds, made)
        stated = {name: getattr(facts, name) for name in FACTS if getattr(facts, name) is not None}
        faults = (
            *agreement_faults(arrays, self.rule, bounds, arrays.keys(), made),
            *count_faults(stated, found),
        )
        if faults:
            raise ValueError(f"{facts.key}: {faults[0]}")
        return {**stated, **found}

    def _claim(self, height: int, width: int, names: list[str]) -> tuple[str, int]:
        """A segment and a row nobody else has, with the metadata of these arrays in place for images of this size."""
        with self._lock:
            if self._next_row == self.capacity:
                self._begin_segment()
            row, self._next_row = self._next_row, self._next_row + 1
            for name in ("", *names):
                if (self.segment, height, width, name) not in self._begun:
                    self._begin_array(height, width, name)
                    self._begun.add((self.segment, height, width, name))
            return self.segment, row

    def _begin_segment(self) -> None:
        segment = f"{self.run_id}.{secrets.token_hex(4)}"
        attributes = {"run": self.run_id, "began_at": now(), **self._cut()}
        self._put(f"{layout.DATA}/{segment}/{layout.ROOT}", group_metadata(attributes))
        self.segment, self._next_row = segment, 0

    def _begin_array(self, height: int, width: int, name: str) -> None:
        """Metadata of one array for images of one size; without a name, of the group that holds them."""
        metadata = array_metadata(ARRAYS[name], self.capacity, height, width, self._cut()) if name else group_metadata()
        self._put(join(layout.size_folder(self.segment, height, width), name, layout.ROOT), metadata)

    def _cut(self) -> dict[str, Any]:
        """How labels are cut: the rule and, in decimals for people and as exact float32, the stored thresholds."""
        grids = {"thresholds": self.grid, "margins": self.margins or None}
        stored = {name: values for name, values in grids.items() if values is not None}
        exact = {f"{name}_float32": [float(np.float32(one)).hex() for one in stored[name]] for name in stored}
        return {**self.rule.settings, **{name: list(values) for name, values in stored.items()}, **exact}

    def _put_chunk(self, segment: str, row: int, name: str, array: Pixels) -> StoredArray:
        """Stores one array of one image."""
        data, (height, width) = encode(array), array.shape
        self._put(layout.chunk_path(segment, height, width, name, row), data)
        return StoredArray(name, digest_of(array), hashlib.sha256(data).hexdigest(), len(data))

    def _put(self, path: str, data: bytes) -> None:
        filesystem, root = self.root.open()
        try:
            create_bytes(filesystem, join(root, path), data, sync_folder=False)  # the commit flushes folders
        except FileExistsError:
            raise StoreConflict(f"{path} was written by another process; nothing was overwritten") from None


def _mask_of_rule(root: FileRoot, rule: Rule, mask: U8 | None) -> Pixels | None:
    """[H, W] bool where a rule's mask hides; its pixels are in the store from now on."""
    if rule.mask is None:
        return None
    if mask is None:
        return read_mask(root, rule.mask) != 0
    if (given := mask_of(mask)) != rule.mask:
        raise ValueError(f"the mask is {given}, the rule has {rule.mask}")
    put_mask(root, mask)
    return mask != 0


def _evidence(older: Receipt | None, segment: str, row: int, written: list[StoredArray]) -> dict[str, Any]:
    """What a receipt says of its arrays: those that were written, and the evidence of an older receipt."""
    kept = [array for array in (older.arrays if older else written) if not ARRAYS[array.name].of_rule]
    stored = {array.name: array for array in (*written, *kept)}
    place = (older.evidence_segment, older.evidence_row) if older else (segment, row)
    return {
        "arrays": tuple(stored[name] for name in ARRAYS if name in stored),
        "evidence_segment": place[0] if kept else None,
        "evidence_row": place[1] if kept else None,
    }
