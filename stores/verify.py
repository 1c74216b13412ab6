"""Is a version still what was committed? Every way that bytes can go wrong, found and named."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from hmsa_label.stores import schema
from hmsa_label.stores.adoption import arrays_of
from hmsa_label.stores.checkpoints import checkpoint_faults
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreError, ThresholdNotStored
from hmsa_label.stores.evidence import label_at, level_of
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.identity import read_identity
from hmsa_label.stores.label_store import LabelStore, resolve
from hmsa_label.stores.log_files import log_faults, read_log
from hmsa_label.stores.manifest import commits_in
from hmsa_label.stores.objects import arrays_in, size_faults
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.receipt import Receipt
from hmsa_label.stores.records import RECEIPT, parse_record
from hmsa_label.stores.schema import U8
from hmsa_label.stores.sources import check_source
from hmsa_label.stores.trail import trail_faults

STORE_KEY = ""  # the key of a problem that belongs to no single image


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: the image, empty for the store as a whole.
        kind: `missing` (object gone), `size` (other length than committed), `corrupt` (does not decode), `digest`
            (decodes to something else, or holds other bytes), `metadata` (Zarr metadata gone or changed), `manifest`
            (rows or log are not those that were committed), `receipt` (row and receipt differ, or the receipt is gone),
            `run` (provenance gone or changed), `rule` (the label is not what its evidence says at its threshold, or
            other pixels are counted), `tag` (a tag or the mark of a pruned version is damaged or gone),
            `source_missing`, `source_changed`.
        detail: one line for people.
    """

    key: str
    kind: str
    detail: str


def verify(
    uri: str,
    version: int | str | None = None,
    *,
    deep: bool = True,
    data_root: str | None = None,
    threads: int = 4,
    storage_options: dict[str, Any] | None = None,
    data_options: dict[str, Any] | None = None,
) -> list[Problem]:
    """Problems of a version, by key; empty if it is sound.

    Quick (`deep=False`): one listing; every object is there with its committed size, metadata and provenance are there,
    the rows have the committed content digest. Deep: every array is read, decoded and hashed as well, and the label is
    compared with its evidence and its counts.

    Args:
        data_root: also compare the source images below this root with the digests taken when they were labelled.

    Raises:
        NotAStore, LabelMissing: if there is no such store or version to look at.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    try:
        identity = read_identity(root)
    except LabelCorrupt as error:
        return [_of_store("metadata", str(error))]
    bodies = read_log(root)
    problems = {_of_store("manifest", fault) for fault in [*log_faults(root, bodies), *checkpoint_faults(root)]}
    try:
        # Not by `LabelStore.open`, which would only say that something is wrong with the rows.
        store = LabelStore(root, identity, resolve(root, version))
        runs, arrays = _contents(store)
        problems |= {_of_store(kind, detail) for kind, detail in trail_faults(store, commits_in(bodies), runs)}
        problems |= set(_check_metadata(store, arrays))
    except LabelCorrupt as error:
        problems.add(_of_store("manifest", str(error)))
        return _sorted(problems)
    for key, kind, detail in size_faults(store.rows):
        problems.add(Problem(key=key, kind=kind, detail=detail))
    if deep:
        for found in map_threads(lambda receipt: _check_image(store, receipt), _receipts(store), threads):
            problems.update(found)
    if data_root is not None:
        sources = FileRoot(data_root, dict(data_options or {}))
        sources.require()
        for found in map_threads(lambda receipt: _check_source(sources, receipt), _receipts(store), threads):
            problems.update(found)
    return _sorted(problems)


def _sorted(problems: set[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.key, problem.kind, problem.detail))


def _contents(store: LabelStore) -> tuple[set[str], list[tuple[str, int, int, str]]]:
    """Runs that a version's rows name, and arrays as `arrays_in` gives them; every column has been read by then."""
    runs: set[str] = set()
    arrays: set[tuple[str, int, int, str]] = set()
    for batch in store.rows.batches():
        runs.update(pc.unique(batch["run"]).to_pylist())
        arrays |= arrays_in(batch)
    return runs, sorted(arrays)


def _receipts(store: LabelStore) -> Iterator[Receipt]:
    """The version's rows one after the other: a million of them at a time would take gigabytes."""
    for batch in store.rows.batches():
        yield from map(Receipt.from_row, batch.to_pylist())


def _check_source(sources: FileRoot, receipt: Receipt) -> list[Problem]:
    found = check_source(sources, receipt)
    return [Problem(key=receipt.key, kind=found[0], detail=found[1])] if found else []


def _check_image(store: LabelStore, receipt: Receipt) -> list[Problem]:
    """Everything that is stored of one image."""
    row = _check_row(store, receipt)
    return [*([row] if row else []), *_check_arrays(store, receipt)]


def _check_metadata(store: LabelStore, arrays: list[tuple[str, int, int, str]]) -> Iterator[Problem]:
    """The Zarr metadata that other readers rely on, once per array."""
    for segment in sorted({array[0] for array in arrays}):
        try:
            grid = store.grid(segment)
        except StoreError as error:
            yield _of_store("metadata", str(error))
            continue
        if not grid and any(array[0] == segment and array[3] == schema.CODE for array in arrays):
            path = f"{schema.DATA}/{segment}/{schema.ROOT}"
            yield _of_store("metadata", f"{path} names no thresholds for the codes of its segment")
    for segment, height, width, name in arrays:
        path = f"{schema.size_folder(segment, height, width)}/{name}/{schema.ROOT}"
        try:
            detail = schema.metadata_fault(store.root.read(path), height, width)
        except FileNotFoundError:
            detail = "is gone"
        if detail:
            yield _of_store("metadata", f"{path} {detail}")


def _check_row(store: LabelStore, receipt: Receipt) -> Problem | None:
    """A row against the receipt that its image's writer left beside the pixels: the same facts, stored twice."""
    path = schema.receipt_path(receipt.segment, receipt.row)
    try:
        written = parse_record(store.root.read(path), RECEIPT, path)
    except FileNotFoundError:
        return Problem(key=receipt.key, kind="receipt", detail=f"{path} is gone; the row cannot be compared with it")
    except LabelCorrupt as error:
        return Problem(key=receipt.key, kind="receipt", detail=str(error))
    row = json.loads(json.dumps(receipt.to_dict()))
    names = sorted(name for name in row if json.dumps(row[name]) != json.dumps(written.get(name)))
    if not names:
        return None
    detail = f"the manifest's row and {path} differ in {', '.join(names)}"
    return Problem(key=receipt.key, kind="receipt", detail=detail)


def _check_arrays(store: LabelStore, receipt: Receipt) -> Iterator[Problem]:
    sound: dict[str, U8] = {}
    for name, array in arrays_of(receipt).items():
        path = array.path
        try:
            data = store.root.read(path)
            pixels = schema.decode(data, receipt.height, receipt.width)
        except FileNotFoundError:
            yield Problem(key=receipt.key, kind="missing", detail=f"{name}: no object {path}")
        except LabelCorrupt as error:
            yield Problem(key=receipt.key, kind="corrupt", detail=f"{name}: {path}: {error}")
        else:
            if schema.digest_of(pixels) != array.sha256:
                detail = f"{name}: {path} holds other pixels than were committed"
                yield Problem(key=receipt.key, kind="digest", detail=detail)
                continue
            sound[name] = pixels
            if name != schema.CODE and (strange := schema.stranger(pixels, store.identity.num_classes)) is not None:
                yield Problem(key=receipt.key, kind="rule", detail=f"{name}: {path} holds {strange}, which is no class")
            if array.chunk_sha256 != hashlib.sha256(data).hexdigest():
                detail = f"{name}: {path} holds the pixels that were committed, but in other bytes; readers refuse it"
                yield Problem(key=receipt.key, kind="digest", detail=detail)
    yield from _check_rule(store, receipt, sound)


def _check_rule(store: LabelStore, receipt: Receipt, sound: dict[str, U8]) -> Iterator[Problem]:
    """Whether a label is what its evidence says at its threshold, and holds the pixels that its row counts."""
    label = sound.get(schema.LABEL)
    if label is None:
        return
    counts = np.bincount(label.ravel(), minlength=256)[: store.identity.num_classes]
    if tuple(counts.tolist()) != receipt.class_px:
        yield Problem(key=receipt.key, kind="rule", detail="the label holds other class counts than its row states")
    if receipt.evidence_segment is None or len(sound) < 1 + len(schema.EVIDENCE):
        return
    with contextlib.suppress(LabelMissing, LabelCorrupt):  # a segment's damaged metadata is a problem of its own
        try:
            level = level_of(receipt.threshold, store.grid(receipt.evidence_segment))
        except ThresholdNotStored as error:
            yield Problem(key=receipt.key, kind="rule", detail=str(error))
            return
        if not np.array_equal(label, label_at(sound[schema.TOP1], sound[schema.CODE], level)):
            detail = f"the label is not what its evidence says at threshold {receipt.threshold}"
            yield Problem(key=receipt.key, kind="rule", detail=detail)


def _of_store(kind: str, detail: str) -> Problem:
    return Problem(key=STORE_KEY, kind=kind, detail=detail)
