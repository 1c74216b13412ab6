"""Is a version still what was committed? Every way that bytes can go wrong, found and named."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from hmsa_label.stores.audit.history_faults import history_faults, rows_faults
from hmsa_label.stores.audit.image_faults import image_faults, mask_faults, metadata_faults
from hmsa_label.stores.audit.sources import check_source
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.identity import Identity, read_identity
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.manifest.checkpoints import checkpoint_faults
from hmsa_label.stores.manifest.log_files import log_faults, read_log
from hmsa_label.stores.manifest.pixel_objects import arrays_in, size_faults
from hmsa_label.stores.manifest.table import Commit, sound_commits_in
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.repair import repair_command
from hmsa_label.stores.versions.resolve import HEAD, resolve
from hmsa_label.stores.versions.tags import known_tags, pruned_versions

LABELED_AGAIN = ("missing", "size", "corrupt", "digest", "receipt", "rule")  # problems that a new label ends
STORE_KEY = ""  # the key of a problem that belongs to no single image


@dataclass(frozen=True, kw_only=True)
class Problem(Result):
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
        version: the newest of the versions looked at that is touched; None for the store as a whole.
    """

    key: str
    kind: str
    detail: str
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Verified(Result):
    """What was looked at and what is wrong.

    Attributes:
        ok: whether there is no problem.
        versions: those that could be looked at, the newest first.
        images: rows of these versions, those that several versions share counted once.
        problems: by key; empty if all is sound.
        repair: the command that labels damaged images of the newest version again; None if there are none.
    """

    ok: bool
    versions: list[int]
    images: int
    problems: list[Problem]
    repair: str | None


def verify(uri: str, version: int | str | None = None, **how: Any) -> list[Problem]:
    """Problems of a version, by key; empty if it is sound. Arguments and errors as of `verify_store`."""
    return verify_store(uri, version, **how).problems


def verify_store(
    uri: str,
    version: int | str | None = None,
    *,
    every: bool = False,
    deep: bool = True,
    data_root: str | None = None,
    threads: int = 4,
    storage_options: dict[str, Any] | None = None,
    data_options: dict[str, Any] | None = None,
) -> Verified:
    """Looks for damage in a version and in the history of the store.

    Quick (`deep=False`): one listing; every object is there with its committed size, metadata and provenance are there,
    the rows have the committed content digest. Deep: every array is read, decoded and hashed as well, and the label is
    compared with its evidence and its counts.

    Args:
        every: look at every finished version that has its pixels, and at unfinished progress, instead of at `version`.
            What several versions share is looked at once; evidence once for each label that was made from it.
        data_root: also compare the source images below this root with the digests taken when they were labeled.

    Raises:
        NotAStore, LabelMissing: if there is no such store or version to look at.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    try:
        identity = read_identity(root)
    except LabelCorrupt as error:
        return _verified([_of_store("metadata", str(error))], [], 0)
    bodies = read_log(root)
    commits = sound_commits_in(bodies)
    look = _Look(root=root, identity=identity, deep=deep, threads=threads, remember=every)
    look.add_all("manifest", [*log_faults(root, bodies), *checkpoint_faults(root)])
    if data_root is not None:
        look.sources = FileRoot(data_root, dict(data_options or {}))
        look.sources.require()
    for asked in _all_versions(root, commits) if every else [version]:
        look.at(asked, strict=not every)
    for kind, detail in history_faults(root, commits, look.runs, newest=max(bodies, default=-1)):
        look.add_all(kind, [detail])
    problems = sorted(look.problems.values(), key=lambda problem: (problem.key, problem.kind, problem.detail))
    return _verified(problems, look.versions, look.images)


def _verified(problems: list[Problem], versions: list[int], images: int) -> Verified:
    newest = versions[:1]
    keys = sorted({p.key for p in problems if p.key and p.kind in LABELED_AGAIN and p.version in newest})
    repair = repair_command(keys) if keys else None
    return Verified(ok=not problems, versions=versions, images=images, problems=problems, repair=repair)


def _all_versions(root: FileRoot, commits: list[Commit]) -> list[int | str]:
    """Progress, then the versions that are finished or tagged, the newest first, without those that gc has pruned."""
    finished = {commit.version for commit in commits if commit.is_finished} | set(known_tags(root, commits).by_version)
    progress: list[int | str] = [] if not commits or commits[-1].is_finished else [HEAD]
    return [*progress, *sorted(finished - pruned_versions(root), reverse=True)]


@dataclass
class _Look:
    """A look at one version after the other; keeps in mind what it has seen."""

    root: FileRoot
    identity: Identity
    deep: bool
    threads: int
    remember: bool  # what was looked at, for the versions to come
    images: int = 0
    sources: FileRoot | None = None
    problems: dict[tuple[str, str, str], Problem] = field(default_factory=dict)
    versions: list[int] = field(default_factory=list)
    runs: set[str] = field(default_factory=set)
    seen_rows: set[int] = field(default_factory=set)  # hashes: rows themselves would be gigabytes
    seen_objects: set[int] = field(default_factory=set)
    seen_arrays: set[tuple[str, int, int, str]] = field(default_factory=set)

    def add(self, key: str, kind: str, detail: str, version: int | None) -> None:
        """Keeps a problem, and the first version that it was found in."""
        problem = Problem(key=key, kind=kind, detail=detail, version=version)
        self.problems.setdefault((key, kind, detail), problem)

    def add_all(self, kind: str, details: list[str]) -> None:
        """Keeps problems of the store as a whole."""
        for detail in details:
            self.add(STORE_KEY, kind, detail, None)

    def at(self, version: int | str | None, *, strict: bool) -> None:
        """Looks at a version.

        Args:
            strict: a version that is not there is the caller's mistake, not a problem.
        """
        try:
            # Not by `LabelStore.open`, which would only say that something is wrong with the rows.
            store = LabelStore(self.root, self.identity, resolve(self.root, version))
            arrays = self._contents(store)
        except (LabelCorrupt, LabelMissing) as error:
            if strict and isinstance(error, LabelMissing):
                raise
            self.add(STORE_KEY, "manifest", str(error), version if isinstance(version, int) else None)
            return
        self.versions.append(store.version)
        for detail in rows_faults(store):
            self.add(STORE_KEY, "manifest", detail, store.version)
        for kind, detail in metadata_faults(store, sorted(arrays - self.seen_arrays)):
            self.add(STORE_KEY, kind, detail, store.version)
        self.seen_arrays |= arrays
        for kind, detail in mask_faults(store):
            self.add(STORE_KEY, kind, detail, store.version)
        for key, kind, detail in size_faults(store.rows, self.seen_objects if self.remember else None):
            self.add(key, kind, detail, store.version)
        self._images(store)

    def _contents(self, store: LabelStore) -> set[tuple[str, int, int, str]]:
        """Arrays that a version's rows name; keeps their runs. Every column has been read by then."""
        arrays: set[tuple[str, int, int, str]] = set()
        for batch in store.rows.batches():
            self.runs.update(pc.unique(batch["run"]).to_pylist())
            arrays |= arrays_in(batch)
        return arrays

    def _images(self, store: LabelStore) -> None:
        """Looks at the images of rows that no version before had."""
        if not self.deep and self.sources is None and not self.remember:
            self.images += len(store)  # of rows one by one there is nothing to look at
            return

        def check(receipt: Receipt) -> list[tuple[str, str, str]]:
            found = image_faults(store, receipt) if self.deep else []
            source = check_source(self.sources, receipt) if self.sources is not None else None
            return [(receipt.key, kind, detail) for kind, detail in [*found, *([source] if source else [])]]

        for faults in map_threads(check, self._new_receipts(store), self.threads):
            for key, kind, detail in faults:
                self.add(key, kind, detail, store.version)

    def _new_receipts(self, store: LabelStore) -> Iterator[Receipt]:
        """The version's rows one after the other: a million of them at a time would take gigabytes."""
        for batch in store.rows.batches():
            for receipt in map(Receipt.from_row, batch.to_pylist()):
                if self.remember:
                    if hash(receipt) in self.seen_rows:
                        continue
                    self.seen_rows.add(hash(receipt))
                self.images += 1
                yield receipt


def _of_store(kind: str, detail: str) -> Problem:
    return Problem(key=STORE_KEY, kind=kind, detail=detail)
