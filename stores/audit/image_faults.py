"""What is wrong with one image of a version: its row, its objects, and whether label, evidence and counts agree."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.compute as pc

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreError
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.agreement import agreement_faults, count_faults, counts_in, made_by
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    MASK,
    Bounds,
    Pixels,
    counts_margins,
    counts_thresholds,
    set_fault,
    table_fault,
)
from hmsa_label.stores.format.chunks import decode, digest_of
from hmsa_label.stores.format.instances import table_digest
from hmsa_label.stores.format.receipt import COUNTS, Receipt
from hmsa_label.stores.format.records import RECEIPT, Grids, parse_record
from hmsa_label.stores.format.rule import MaskOf, Rule
from hmsa_label.stores.format.zarr_metadata import metadata_fault
from hmsa_label.stores.versions.label_store import LabelStore

Fault = tuple[str, str]  # kind as in `Problem`, one line for people


def image_faults(store: LabelStore, receipt: Receipt) -> list[Fault]:
    """Everything that is wrong with what is stored of one image; every object of it is read."""
    return [*_row_faults(store, receipt), *_array_faults(store, receipt)]


def metadata_faults(store: LabelStore, arrays: list[tuple[str, int, int, str]]) -> Iterator[Fault]:
    """What is wrong with the Zarr metadata that other readers rely on; `arrays` as `arrays_in` gives them."""
    for segment in sorted({array[0] for array in arrays}):
        try:
            grids = store.grids(segment)
        except StoreError as error:
            yield "metadata", str(error)
            continue
        names = {array[3] for array in arrays if array[0] == segment}
        path = f"{layout.DATA}/{segment}/{layout.ROOT}"
        if grids.thresholds is None and any(map(counts_thresholds, names)):
            yield "metadata", f"{path} names no thresholds for the codes of its segment"
        if grids.margins is None and any(map(counts_margins, names)):
            yield "metadata", f"{path} names no margins for the codes of its segment"
    for segment, height, width, name in arrays:
        path = f"{layout.size_folder(segment, height, width)}/{name}/{layout.ROOT}"
        try:
            detail = metadata_fault(store.root.read(path), ARRAYS[name], height, width)
        except FileNotFoundError:
            detail = "is gone"
        if detail:
            yield "metadata", f"{path} {detail}"


def _row_faults(store: LabelStore, receipt: Receipt) -> list[Fault]:
    """A row against the receipt that its image's writer left beside the pixels: the same facts, stored twice."""
    path = layout.receipt_path(receipt.segment, receipt.row)
    try:
        written = parse_record(store.root.read(path), RECEIPT, path)
    except FileNotFoundError:
        return [("receipt", f"{path} is gone; the row cannot be compared with it")]
    except LabelCorrupt as error:
        return [("receipt", str(error))]
    row = json.loads(json.dumps(receipt.to_dict()))
    names = sorted(name for name in row if _spelled(row[name]) != _spelled(written.get(name)))
    if not names:
        return []
    detail = f"the manifest's row and {path} differ in {', '.join(names)}"
    return [("receipt", detail)]


def _spelled(value: Any) -> str:
    """A value as JSON, so that 1 and true are two."""
    return json.dumps(value, sort_keys=True)


def _array_faults(store: LabelStore, receipt: Receipt) -> Iterator[Fault]:
    sound: dict[str, Pixels] = {}
    for stored in receipt.arrays:
        name, path = stored.name, receipt.path_of(stored.name)
        try:
            data = store.root.read(path)
            pixels = decode(data, receipt.height, receipt.width, ARRAYS[name].dtype)
        except FileNotFoundError:
            yield "missing", f"{name}: no object {path}"
        except LabelCorrupt as error:
            yield "corrupt", f"{name}: {path}: {error}"
        else:
            if digest_of(pixels) != stored.sha256:
                yield "digest", f"{name}: {path} holds other pixels than were committed"
                continue
            sound[name] = pixels
            if stored.chunk_sha256 != hashlib.sha256(data).hexdigest():
                detail = f"{name}: {path} holds the pixels that were committed, but in other bytes; readers refuse it"
                yield "digest", detail
    yield from (("rule", detail) for detail in _rule_faults(store, receipt, sound))


def _rule_faults(store: LabelStore, receipt: Receipt, sound: dict[str, Pixels]) -> Iterator[str]:
    """Whether an image has the arrays, and these the values, that the table of arrays and its row say."""
    names = {stored.name for stored in receipt.arrays}
    if fault := set_fault(names) or table_fault(names, receipt.instances):
        yield fault
    if receipt.instances is not None and table_digest(receipt.instances) != receipt.instance_table_sha256:
        yield "the row holds other instances than were found"
    grids, identity = _grids(store, receipt), store.identity
    bounds = Bounds(
        names=tuple(identity.classes["names"]),
        things=identity.things,
        thresholds=grids.thresholds or (),
        margins=grids.margins or (),
        instances=receipt.instances,
        mean_confidence=receipt.mean_confidence,
    )
    unknown = {name for name in sound if grids.thresholds is None and counts_thresholds(name)}
    unknown |= {name for name in sound if grids.margins is None and counts_margins(name)}
    for name in unknown:
        del sound[name]
    for name, pixels in sound.items():
        if fault := ARRAYS[name].values.fault(pixels, bounds):
            yield f"{name}: {receipt.path_of(name)}: {fault}"
    stated = {name: getattr(receipt, name) for name in (*COUNTS, "coarse_agreement")}
    try:
        rule = receipt.label_rule
        mask = None if rule.mask is None else _mask(store, rule.mask)
        hidden = {} if mask is None else {MASK: mask}
        made = None if rule.mask and mask is None else made_by({**sound, **hidden}, rule, bounds, names)
    except (StoreError, ValueError) as error:
        yield str(error)
        rule, made = Rule(receipt.threshold), None
    yield from count_faults(stated, counts_in(sound, bounds, made))
    yield from agreement_faults(sound, rule, bounds, names, made)


def _mask(store: LabelStore, named: MaskOf) -> Pixels | None:
    """[H, W] bool mask of a rule; None if it does not read, which is a problem of the version."""
    try:
        return store.mask(named) != 0
    except (LabelCorrupt, LabelMissing):
        return None


def mask_faults(store: LabelStore) -> Iterator[Fault]:
    """Which masks that a version's rules name do not read."""
    for text in pc.unique(store.rows.table(["rule"])["rule"].drop_null()).to_pylist():
        with contextlib.suppress(LabelCorrupt):  # a rule of a later version
            if (named := Rule.parse(0.0, text).mask) is None:
                continue
            try:
                store.mask(named)
            except LabelMissing as error:
                yield "missing", str(error)
            except LabelCorrupt as error:
                yield "corrupt", str(error)


def _grids(store: LabelStore, receipt: Receipt) -> Grids:
    """What an image's codes count; nothing without evidence, or if its segment's metadata does not read."""
    with contextlib.suppress(StoreError):  # a problem of its own
        if receipt.evidence_segment is not None:
            return store.grids(receipt.evidence_segment)
    return Grids(None, None)
