"""Is a version still what was committed? Every way that bytes can go wrong, found and named."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmsa_label.stores import schema
from hmsa_label.stores.adoption import arrays_of
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreError, ThresholdNotStored
from hmsa_label.stores.evidence import label_at, level_of
from hmsa_label.stores.files import FileRoot, join, list_sizes
from hmsa_label.stores.identity import read_identity
from hmsa_label.stores.label_store import LabelStore, resolve
from hmsa_label.stores.log_files import log_faults, log_path
from hmsa_label.stores.manifest import Manifest
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.receipt import Receipt
from hmsa_label.stores.runs import read_outcomes, read_run
from hmsa_label.stores.schema import U8
from hmsa_label.stores.sources import check_source
from hmsa_label.stores.tags import pruned_versions, read_mark, tag_faults

STORE_KEY = ""  # the key of a problem that belongs to no single image


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        key: the image, empty for the store as a whole.
        kind: `missing` (object gone), `size` (other length than committed), `corrupt` (does not decode), `digest`
            (decodes to something else), `metadata` (Zarr metadata gone or changed), `manifest` (rows or log are not
            those that were committed), `receipt` (row and receipt differ, or the receipt is gone), `run` (provenance
            gone or changed), `rule` (the label is not what its evidence says at its threshold, or other pixels are
            counted), `tag` (a tag or the mark of a pruned version is damaged), `source_missing`,
            `source_changed`.
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
    problems = [_of_store("manifest", fault) for fault in log_faults(root)]
    problems += [_of_store("tag", fault) for fault in tag_faults(root)]
    try:
        # Not by `LabelStore.open`, which would only say that something is wrong with the rows.
        store = LabelStore(root, identity, resolve(root, version))
        receipts = [Receipt.from_row(row) for row in store.table().to_pylist()]
        problems += [*_check_manifest(store), *_check_runs(store), *_check_metadata(store, receipts)]
        problems += [*_check_pruned(store), *_check_log_end(store)]
    except LabelCorrupt as error:
        return [*problems, _of_store("manifest", str(error))]
    problems += _check_sizes(store, receipts)
    if deep:
        found_rows = map_threads(lambda receipt: _check_row(store, receipt), receipts, threads)
        problems += [problem for problem in found_rows if problem]
        known = {(problem.key, problem.kind) for problem in problems}
        for found in map_threads(lambda receipt: list(_check_arrays(store, receipt)), receipts, threads):
            problems += [problem for problem in found if (problem.key, "missing") not in known]
    if data_root is not None:
        sources = FileRoot(data_root, dict(data_options or {}))
        sources.require()
        found_sources = map_threads(lambda receipt: check_source(sources, receipt), receipts, threads)
        problems += [
            Problem(key=receipt.key, kind=found[0], detail=found[1])
            for receipt, found in zip(receipts, found_sources, strict=True)
            if found
        ]
    return sorted(set(problems), key=lambda problem: (problem.key, problem.kind, problem.detail))


def _check_manifest(store: LabelStore) -> Iterator[Problem]:
    """Rows against the content digest in the commit; the chain of digests from version to version."""
    if store.commit.is_finished and store.commit.version == store.version and store.digest != store.commit.digest:
        yield _of_store("manifest", f"the rows hash to {store.digest}, committed was {store.commit.digest}")
    if len(store.keys()) != store.table().num_rows:
        yield _of_store("manifest", "some image has more than one row")
    finished = {c.version: c for c in Manifest(store.root.uri, store.root.storage_options).log() if c.is_finished}
    for commit in finished.values():
        parent = finished.get(commit.parent) if commit.parent is not None else None
        if commit.parent is not None and (parent is None or parent.digest != commit.parent_digest):
            yield _of_store("manifest", f"version {commit.version} does not follow from its parent {commit.parent}")


def _check_runs(store: LabelStore) -> Iterator[Problem]:
    """Records of the runs whose labels the version holds, against the digests in the commits that began them."""
    commits = Manifest(store.root.uri, store.root.storage_options).log()
    began = {commit.run: commit.run_sha256 for commit in commits if commit.run and commit.run_sha256}
    for run_id in sorted(set(store.table()["run"].to_pylist())):
        try:
            run = read_run(store.root, run_id)
        except LabelMissing as error:
            yield _of_store("run", str(error))
            continue
        try:
            read_outcomes(store.root, run_id)
        except LabelCorrupt as error:
            yield _of_store("run", str(error))
        if began.get(run_id) != run.sha256:
            yield _of_store("run", f"the record of run {run_id} is not the one that the run began with")


def _check_pruned(store: LabelStore) -> Iterator[Problem]:
    """Versions that gc pruned and that lost their marks, so that they look whole in the log; pixels are gone though."""
    manifest = Manifest(store.root.uri, store.root.storage_options)
    marked = pruned_versions(store.root)
    for commit in manifest.log():
        for version in sorted(set(commit.pruned) - marked):
            rows = [Receipt.from_row(row) for row in manifest.at(version).table().to_pylist()]
            old = LabelStore(store.root, store.identity, manifest.at(version))
            if any(problem.kind == "missing" for problem in _check_sizes(old, rows)):
                yield _of_store("tag", f"{schema.PRUNED}/{version}.json is gone; gc pruned version {version}")


def _check_log_end(store: LabelStore) -> Iterator[Problem]:
    """Versions that outcomes and marks tell of and that the log does not reach: its newest files are gone."""
    newest = Manifest(store.root.uri, store.root.storage_options).head().version
    told: dict[int, str] = {}
    for run_id in store.root.list_names(schema.RUNS):
        with contextlib.suppress(LabelCorrupt):  # told by _check_runs
            told |= {int(outcome["version"]): f"run {run_id}" for outcome in read_outcomes(store.root, run_id)}
    for version in pruned_versions(store.root):
        with contextlib.suppress(LabelCorrupt):  # told by tag_faults
            told[int(read_mark(store.root, version).get("pruned_by", 0))] = f"the mark of version {version}"
    for version in sorted(set(told) - set(range(newest + 1))):
        yield _of_store("manifest", f"{log_path(version)} is gone; {told[version]} tells of version {version}")


def _check_metadata(store: LabelStore, receipts: list[Receipt]) -> Iterator[Problem]:
    """The Zarr metadata that other readers rely on, once per array."""
    arrays = {
        (segment, receipt.height, receipt.width, name)
        for receipt in receipts
        for name, (segment, _, _) in arrays_of(receipt).items()
    }
    for segment in sorted({array[0] for array in arrays}):
        try:
            grid = store.grid(segment)
        except StoreError as error:
            yield _of_store("metadata", str(error))
            continue
        if not grid and any(array[0] == segment and array[3] == schema.CODE for array in arrays):
            path = f"{schema.DATA}/{segment}/{schema.ROOT}"
            yield _of_store("metadata", f"{path} names no thresholds for the codes of its segment")
    for segment, height, width, name in sorted(arrays):
        path = f"{schema.size_folder(segment, height, width)}/{name}/{schema.ROOT}"
        try:
            detail = schema.metadata_fault(store.root.read(path), height, width)
        except FileNotFoundError:
            detail = "is gone"
        if detail:
            yield _of_store("metadata", f"{path} {detail}")


def _check_sizes(store: LabelStore, receipts: list[Receipt]) -> Iterator[Problem]:
    filesystem, root = store.root.open()
    start = len(root) + 1
    sizes = {path[start:]: size for path, size in list_sizes(filesystem, join(root, schema.DATA)).items()}
    for receipt in receipts:
        for name, (segment, row, _) in arrays_of(receipt).items():
            path = schema.chunk_path(segment, receipt.height, receipt.width, name, row)
            found, expected = sizes.get(path), getattr(receipt, f"{name}_bytes")
            if found is None:
                yield Problem(key=receipt.key, kind="missing", detail=f"{name}: no object {path}")
            elif found != expected:
                detail = f"{name}: {path} has {found} bytes, committed were {expected}"
                yield Problem(key=receipt.key, kind="size", detail=detail)


def _check_row(store: LabelStore, receipt: Receipt) -> Problem | None:
    """A row against the receipt that its image's writer left beside the pixels: the same facts, stored twice."""
    path = schema.receipt_path(receipt.segment, receipt.row)
    try:
        written = dict(json.loads(store.root.read(path)))
    except FileNotFoundError:
        return Problem(key=receipt.key, kind="receipt", detail=f"{path} is gone; the row cannot be compared with it")
    except (ValueError, TypeError) as error:
        return Problem(key=receipt.key, kind="receipt", detail=f"{path} does not read: {error}")
    row = json.loads(json.dumps(receipt.to_dict()))
    names = sorted(name for name in row if json.dumps(row[name]) != json.dumps(written.get(name)))
    if not names:
        return None
    detail = f"the manifest's row and {path} differ in {', '.join(names)}"
    return Problem(key=receipt.key, kind="receipt", detail=detail)


def _check_arrays(store: LabelStore, receipt: Receipt) -> Iterator[Problem]:
    sound: dict[str, U8] = {}
    for name, (segment, row, digest) in arrays_of(receipt).items():
        path = schema.chunk_path(segment, receipt.height, receipt.width, name, row)
        try:
            pixels = schema.decode(store.root.read(path), receipt.height, receipt.width)
        except FileNotFoundError:
            yield Problem(key=receipt.key, kind="missing", detail=f"{name}: no object {path}")
        except LabelCorrupt as error:
            yield Problem(key=receipt.key, kind="corrupt", detail=f"{name}: {path}: {error}")
        else:
            if schema.digest_of(pixels) != digest:
                detail = f"{name}: {path} holds other pixels than were committed"
                yield Problem(key=receipt.key, kind="digest", detail=detail)
            else:
                sound[name] = pixels
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
            detail = f"the label is not what its evidence says at threshold {receipt.threshold:g}"
            yield Problem(key=receipt.key, kind="rule", detail=detail)


def _of_store(kind: str, detail: str) -> Problem:
    return Problem(key=STORE_KEY, kind=kind, detail=detail)
