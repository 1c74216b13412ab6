"""Deleting pixels that nothing needs any more; by default only saying which."""

import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, StoreConflict, StoreError
from hmsa_label.stores.files import LEFT_OVER, FileInfo, FileRoot, delete_files, join, list_infos, public_uri
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.forms import parse_json
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.manifest.table import GC, Change, Commit, Manifest, Snapshot
from hmsa_label.stores.result import Result
from hmsa_label.stores.runs import claims
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.tags import known_tags, mark_pruned, pruned_versions

LEFT_OVER_SECONDS = 3600.0  # a younger file may be that of a writer who is at it
CLAIM = re.compile(rf"{layout.RUNS}/([^/]+)/{claims.FOLDER}/[^/]+")
CLOCKS_DIFFER = timedelta(days=1)  # at most, those of hosts that wrote
CHUNK = re.compile(rf"{layout.DATA}/[^/]+/(?P<size>\d+x\d+)/(?P<array>[^/]+)/c\.(?P<row>\d+)\.0\.0")
PLACES = tuple(dict.fromkeys(array.place for array in ARRAYS.values()))
PLACE_COLUMNS = ["height", "width", "rule", *(column for place in PLACES for column in place)]


@dataclass(frozen=True, kw_only=True)
class Garbage(Result):
    """What gc deletes, or would delete.

    Attributes:
        objects: number of objects, bytes: their size together.
        pruned: versions that lose their pixels; their log entries and manifest rows stay.
        kept: finished versions that stay readable.
        unreadable: those among them whose rows do not read, so that nothing is deleted that was written before them.
        applied: whether it was done; else this is only the plan.
        paths: the objects, relative to the store.
    """

    objects: int
    bytes: int
    pruned: list[int]
    kept: list[int]
    unreadable: list[int]
    applied: bool
    paths: list[str]


def gc(
    uri: str,
    *,
    keep_last: int | None = None,
    older_than: float | None = None,
    apply: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> Garbage:
    """Finds, and with `apply` deletes, pixels that no kept version, no tag, no progress and no open run needs.

    Half-written files that a crash left anywhere in the store go with them once they are an hour old.

    Args:
        keep_last: number of finished versions to keep, beside the tagged ones.
        older_than: seconds; only versions made longer ago lose their pixels. The newest version is always kept.
            Without both all versions are kept, so that only left-overs of killed attempts and of discarded runs go.

    Raises:
        ValueError: if `keep_last` is below 1 or `older_than` below 0.
        StoreConflict: if a tag was set on a version while it was being pruned; nothing was deleted then.
    """
    retention = Retention(keep_last=keep_last, older_than=older_than)
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    manifest = Manifest(root.uri, storage_options)
    # Listed before the head is read: whatever begins later is not in the list and cannot be deleted.
    sizes = _list(root)
    if not apply:
        return _plan(root, manifest, manifest.head(), sizes, retention)
    plans: list[Garbage] = []

    def decide(head: Snapshot) -> Change | None:
        plans.append(_plan(root, manifest, head, sizes, retention))
        return _record(head, plans[-1])

    commit = manifest.transact(decide)
    plan = plans[-1]
    _mark_pruned(root, plan.pruned, commit.version)
    _delete(root, plan.paths)
    return Garbage(**{**vars(plan), "applied": True})


@dataclass(frozen=True, kw_only=True)
class Retention:
    """Which finished versions stay beside the tagged ones; `gc` explains the fields."""

    keep_last: int | None = None
    older_than: float | None = None

    def __post_init__(self) -> None:
        if self.keep_last is not None and self.keep_last < 1:
            raise ValueError(f"--keep-last must be at least 1, the version taken by default; got {self.keep_last}")
        if self.older_than is not None and not self.older_than >= 0:
            raise ValueError(f"--older-than must be at least 0 seconds; got {self.older_than}")

    def of(self, finished: list[Commit], tagged: set[int], head: Commit) -> list[int]:
        """Versions that stay, among the finished ones that still have their pixels."""
        versions = [commit.version for commit in finished]
        if self.keep_last is None and self.older_than is None:
            return versions
        # Version 0 is empty: it needs no pixels and so never has to go.
        stay = {*versions[-(self.keep_last or 1) :], head.finished, 0, *tagged}
        if self.older_than is not None:
            stay |= {commit.version for commit in finished if _age(commit) <= self.older_than}
        return [version for version in versions if version in stay]


def _age(commit: Commit) -> float:
    """Seconds since a commit."""
    return time.time() - datetime.fromisoformat(commit.time).timestamp()


def _list(root: FileRoot) -> dict[str, int]:
    """Size of every object below data/, of every claim and every left-over, by path relative to the store."""
    filesystem, path = root.open()
    found, sizes = list_infos(filesystem, path), {}
    for place, info in found.items():
        name = place[len(path) + 1 :]
        if LEFT_OVER.search(name):
            if _is_old(info):
                sizes[name] = info.size_bytes
        elif name.startswith(f"{layout.MASKS}/"):
            if _is_old(info):  # a younger one may be of a run that is about to begin
                sizes[name] = info.size_bytes
        elif name.startswith(f"{layout.DATA}/") or CLAIM.fullmatch(name):
            sizes[name] = info.size_bytes
    return sizes


def _is_old(info: FileInfo) -> bool:
    return info.written_at is not None and time.time() - info.written_at > LEFT_OVER_SECONDS


def _delete(root: FileRoot, names: list[str]) -> None:
    filesystem, path = root.open()
    delete_files(filesystem, [join(path, name) for name in names])
    for folder in {name.rpartition("/")[0] for name in names if name.startswith(".probe-")}:
        with contextlib.suppress(OSError):  # object stores know no folders
            filesystem.rmdir(join(path, folder))


def _plan(root: FileRoot, manifest: Manifest, head: Snapshot, sizes: dict[str, int], retention: Retention) -> Garbage:
    gone = pruned_versions(root)
    finished = [commit for commit in manifest.log() if commit.is_finished and commit.version not in gone]
    tags = known_tags(root)
    kept = retention.of(finished, set(tags.by_version), head.commit)
    if tags.unknown and len(kept) < len(finished):
        raise LabelCorrupt(f"nothing is pruned, as nobody knows which version a tag names: {tags.unknown[0]}")
    rows, unreadable = _rows_of(manifest, head, kept)
    needed = _needed(rows)
    needed.masks.update(_masks_of_runs(root, head.commit.open_runs, sizes))
    segments = needed.segments()
    last = max((commit.time for commit in finished if commit.version in unreadable), default="")
    paths = [
        path
        for path in sizes
        if not _is_needed(path, needed, segments, head.commit.open_runs) and not _may_be_of(path, last)
    ]
    return Garbage(
        objects=len(paths),
        bytes=sum(sizes[path] for path in paths),
        pruned=[commit.version for commit in finished if commit.version not in kept],
        kept=sorted(kept),
        unreadable=unreadable,
        applied=False,
        paths=sorted(paths),
    )


def _rows_of(manifest: Manifest, head: Snapshot, kept: list[int]) -> tuple[list[dict[str, Any]], list[int]]:
    """Places that the rows of kept versions and of the head name; versions whose rows are damaged."""
    rows, unreadable = head.table(PLACE_COLUMNS).to_pylist(), []
    for version in kept:
        try:
            rows += manifest.at(version).table(PLACE_COLUMNS).to_pylist() if version != head.version else []
        except LabelCorrupt:
            unreadable.append(version)
    return rows, unreadable


def _may_be_of(path: str, last: str) -> bool:
    """Whether a version that was made at `last` could need an object: its run, named by its time, began before."""
    parts = path.split("/")
    if not last or len(parts) < 2 or LEFT_OVER.search(path):
        return False
    if parts[0] == layout.MASKS:
        return True
    return parts[1] <= (datetime.fromisoformat(last) + CLOCKS_DIFFER).strftime("%Y%m%dT%H%M%SZ~")


Place = tuple[str, str, str]  # segment, size and row, as paths spell them


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What rows name.

    Attributes:
        places: by the column of the segment, so that a label beside kept evidence can go.
        receipts: those of the rows, as paths. masks: of their rules and those of open runs, as paths.
    """

    places: dict[str, set[Place]]
    receipts: set[str]
    masks: set[str]

    def segments(self) -> set[str]:
        return {segment for places in self.places.values() for segment, _, _ in places}

    def has(self, array: str, place: Place) -> bool:
        """Whether an array's object is needed; of arrays that a later version of this package added, any of a row."""
        known = ARRAYS.get(array)
        columns = self.places if known is None else (known.place[0],)
        return any(place in self.places[column] for column in columns)


def _needed(rows: list[dict[str, Any]]) -> Needed:
    needed = Needed(places={segment: set() for segment, _ in PLACES}, receipts=set(), masks=set())
    for row in rows:
        needed.receipts.add(layout.receipt_path(row["segment"], row["row"]))
        for segment, number in PLACES:
            if row[segment] is not None:
                needed.places[segment].add((row[segment], f"{row['height']}x{row['width']}", str(row[number])))
    needed.masks.update(_masks_of({row["rule"] for row in rows if row["rule"] is not None}))
    return needed


def _masks_of(rules: Iterable[Any]) -> Iterator[str]:
    """Masks that rules name, as paths; also those of rules that this version of the package does not know."""
    for rule in rules:
        more = parse_json(rule) if isinstance(rule, str) else rule or {}
        if more.get("mask"):
            yield layout.mask_path(more["mask"]["sha256"])


def _masks_of_runs(root: FileRoot, open_runs: Iterable[str], sizes: Iterable[str]) -> Iterator[str]:
    """Masks that open runs need: all that there are, if the record of one does not read."""
    try:
        yield from _masks_of([read_run(root, run_id).rule for run_id in open_runs])
    except StoreError:
        yield from sizes


def _is_needed(path: str, needed: Needed, segments: set[str], open_runs: tuple[str, ...]) -> bool:
    if LEFT_OVER.search(path):
        return False  # only old ones are listed
    if claim := CLAIM.fullmatch(path):
        return claim[1] in open_runs
    parts = path.split("/")
    if parts[0] == layout.MASKS:
        return path in needed.masks
    if path in needed.receipts or len(parts) < 3:  # data/zarr.json itself
        return True
    segment, name = parts[1], parts[-1]
    if segment.rpartition(".")[0] in open_runs:
        return True
    if name == layout.ROOT:
        return segment in segments
    chunk = CHUNK.fullmatch(path)
    return chunk is not None and needed.has(chunk["array"], (segment, chunk["size"], chunk["row"]))


def _record(head: Snapshot, plan: Garbage) -> Change | None:
    """The commit that announces the deletion: it is in the audit trail, and it stops writers whose pixels it takes."""
    if not plan.objects and not plan.pruned:
        return None
    note = f"deletes {plan.objects} objects, {plan.bytes} bytes" + (f"; prunes {plan.pruned}" if plan.pruned else "")
    return Change(
        commit=head.commit.successor(
            GC, collected=head.version + 1, images=head.count(), note=note, pruned=tuple(plan.pruned)
        )
    )


def _mark_pruned(root: FileRoot, versions: list[int], pruned_by: int) -> None:
    """Marks come before deletion, so that nobody takes a version for whole; a tag set meanwhile calls it all off."""
    filesystem, path = root.open()
    marks = {version: join(path, layout.PRUNED, f"{version}.json") for version in versions}
    for version in versions:
        mark_pruned(root, version, pruned_by)
    tagged = sorted(set(versions) & set(known_tags(root).by_version))
    if tagged:
        delete_files(filesystem, list(marks.values()))
        raise StoreConflict(f"version {tagged[0]} of {public_uri(root.uri)} was tagged just now; nothing was deleted")
