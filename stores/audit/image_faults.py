"""What is wrong with one image of a version: its row, its objects, and whether label, evidence and counts agree."""

import contextlib
import hashlib
import json
from collections.abc import Iterator

import numpy as np

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreError, ThresholdNotStored
from hmsa_label.stores.format import schema
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.format.records import RECEIPT, parse_record
from hmsa_label.stores.format.schema import U8
from hmsa_label.stores.runs.adoption import arrays_of
from hmsa_label.stores.versions.label_store import LabelStore

Fault = tuple[str, str]  # kind as in `Problem`, one line for people


def image_faults(store: LabelStore, receipt: Receipt) -> list[Fault]:
    """Everything that is wrong with what is stored of one image; every object of it is read."""
    return [*_row_faults(store, receipt), *_array_faults(store, receipt)]


def metadata_faults(store: LabelStore, arrays: list[tuple[str, int, int, str]]) -> Iterator[Fault]:
    """What is wrong with the Zarr metadata that other readers rely on; `arrays` as `arrays_in` gives them."""
    for segment in sorted({array[0] for array in arrays}):
        try:
            grid = store.grid(segment)
        except StoreError as error:
            yield "metadata", str(error)
            continue
        if not grid and any(array[0] == segment and array[3] == schema.CODE for array in arrays):
            path = f"{schema.DATA}/{segment}/{schema.ROOT}"
            yield "metadata", f"{path} names no thresholds for the codes of its segment"
    for segment, height, width, name in arrays:
        path = f"{schema.size_folder(segment, height, width)}/{name}/{schema.ROOT}"
        try:
            detail = schema.metadata_fault(store.root.read(path), height, width)
        except FileNotFoundError:
            detail = "is gone"
        if detail:
            yield "metadata", f"{path} {detail}"


def _row_faults(store: LabelStore, receipt: Receipt) -> list[Fault]:
    """A row against the receipt that its image's writer left beside the pixels: the same facts, stored twice."""
    path = schema.receipt_path(receipt.segment, receipt.row)
    try:
        written = parse_record(store.root.read(path), RECEIPT, path)
    except FileNotFoundError:
        return [("receipt", f"{path} is gone; the row cannot be compared with it")]
    except LabelCorrupt as error:
        return [("receipt", str(error))]
    row = json.loads(json.dumps(receipt.to_dict()))
    names = sorted(name for name in row if json.dumps(row[name]) != json.dumps(written.get(name)))
    if not names:
        return []
    detail = f"the manifest's row and {path} differ in {', '.join(names)}"
    return [("receipt", detail)]


def _array_faults(store: LabelStore, receipt: Receipt) -> Iterator[Fault]:
    sound: dict[str, U8] = {}
    for name, array in arrays_of(receipt).items():
        path = array.path
        try:
            data = store.root.read(path)
            pixels = schema.decode(data, receipt.height, receipt.width)
        except FileNotFoundError:
            yield "missing", f"{name}: no object {path}"
        except LabelCorrupt as error:
            yield "corrupt", f"{name}: {path}: {error}"
        else:
            if schema.digest_of(pixels) != array.sha256:
                detail = f"{name}: {path} holds other pixels than were committed"
                yield "digest", detail
                continue
            sound[name] = pixels
            if name != schema.CODE and (strange := schema.stranger(pixels, store.identity.num_classes)) is not None:
                yield "rule", f"{name}: {path} holds {strange}, which is no class"
            if array.chunk_sha256 != hashlib.sha256(data).hexdigest():
                detail = f"{name}: {path} holds the pixels that were committed, but in other bytes; readers refuse it"
                yield "digest", detail
    yield from _rule_faults(store, receipt, sound)


def _rule_faults(store: LabelStore, receipt: Receipt, sound: dict[str, U8]) -> Iterator[Fault]:
    """Whether a label is what its evidence says at its threshold, and holds the pixels that its row counts."""
    label = sound.get(schema.LABEL)
    if label is None:
        return
    counts = np.bincount(label.ravel(), minlength=256)[: store.identity.num_classes]
    if tuple(counts.tolist()) != receipt.class_px:
        yield "rule", "the label holds other class counts than its row states"
    if receipt.evidence_segment is None or len(sound) < 1 + len(schema.EVIDENCE):
        return
    with contextlib.suppress(LabelMissing, LabelCorrupt):  # a segment's damaged metadata is a problem of its own
        try:
            level = level_of(receipt.threshold, store.grid(receipt.evidence_segment))
        except ThresholdNotStored as error:
            yield "rule", str(error)
            return
        if not np.array_equal(label, label_at(sound[schema.TOP1], sound[schema.CODE], level)):
            detail = f"the label is not what its evidence says at threshold {receipt.threshold}"
            yield "rule", detail
