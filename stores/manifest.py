"""The manifest: a Delta table with one row per image, whose commits are the versions of the store.

Every commit lands exactly one version after the state it was computed from, or not at all: delta-rs' own silent retry
is off, and `Manifest.transact` looks again at the new head instead. So each commit can carry what holds after it (the
newest finished version, the open runs), and opening a store reads one commit, however long the history is.
"""

import hashlib
import os
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError, TableNotFoundError

from hmsa_label.stores.delta_options import delta_options, delta_uri
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, NotAStore, StoreConflict, StoreError
from hmsa_label.stores.files import FileRoot, join, public_uri, refuse_full_or_read_only
from hmsa_label.stores.log_files import (
    COMMIT_KEY,
    log_faults,
    log_path,
    mark_commit,
    read_log,
    record_in,
    refuse_lost_end,
)
from hmsa_label.stores.receipt import now
from hmsa_label.stores.rows import Rows
from hmsa_label.stores.schema import MANIFEST, MANIFEST_CONFIGURATION, MANIFEST_SCHEMA
from hmsa_label.stores.sealed import seal

PAIRS = pa.schema([(name, pa.large_string()) for name in ("key", "label_sha256")])
EMPTY = hashlib.sha256().hexdigest()  # content digest of no images
# What a commit hands on to the next.
STATE = ("finished", "finished_digest", "epoch", "collected", "open_runs", "fingerprint")
COMMIT_SECONDS = 300.0
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
TREE = re.compile(r"\x1b\[\d*m|↳")  # colours and arrows in the errors of delta-rs
ATTEMPTS_AT_ONE_VERSION = 6  # a lost race shows as a newer version; without one it is the storage that refuses

CREATE, BEGIN, PROGRESS, PAUSE, LABEL, RELABEL, RETHRESHOLD, ROLLBACK, CLOSE, TAG, GC = (
    "create", "begin", "progress", "pause", "label", "relabel", "rethreshold", "rollback", "close", "tag", "gc",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What one commit did, and what holds after it.

    Attributes:
        version: the Delta version this commit made; the store's version number.
        kind: create, begin, progress, pause, label, relabel, rethreshold, rollback, close, tag or gc.
        finished: the newest finished version as of this commit, itself included; 0 is the empty store.
        finished_digest: the content digest of that version.
        epoch: the newest version that replaced labels; a run begun before it must not add to what came after.
        collected: the newest version at which gc deleted pixels that no run of its time could still need.
        open_runs: runs begun and not finished.
        fingerprint: of the settings that the labels at this commit were made with; None while there are none.
        parent, digest, images, threshold, teacher_sha256, run, note: of a finished version; `digest` is the content
            digest, `images` the number of rows, `parent` the finished version before.
        restores: the version that a roll back brought back.
        pruned: versions that gc set out to prune.
        log_sha256: hex digest of the log file before this one.
        token: drawn for each try to commit, so that a writer whose answer was lost knows its own commit again.
        attempt, outcome_sha256: the attempt that this commit ends, and the hex digest of its outcome's file.
        tag: what the file of the tag says that this commit records.
    """

    version: int
    kind: str
    time: str
    finished: int
    finished_digest: str | None = None
    epoch: int = 0
    collected: int = 0
    open_runs: tuple[str, ...] = ()
    fingerprint: str | None = None
    parent: int | None = None
    parent_digest: str | None = None
    digest: str | None = None
    images: int = 0
    threshold: float | None = None
    teacher_sha256: str | None = None
    run: str | None = None
    run_sha256: str | None = None
    restores: int | None = None
    note: str | None = None
    pruned: tuple[int, ...] = ()
    log_sha256: str | None = None
    token: str | None = None
    attempt: str | None = None
    outcome_sha256: str | None = None
    tag: dict[str, Any] | None = None

    def successor(self, kind: str, **changes: Any) -> "Commit":
        """A commit after this one that takes over what holds (not what this one did), with changes."""
        state = {name: getattr(self, name) for name in STATE}
        return Commit(**{"version": -1, "kind": kind, "time": "", **state, **changes})

    @property
    def is_finished(self) -> bool:
        """Whether readers may take this version by default."""
        return self.finished == self.version


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a transaction wants to do to the head it was shown.

    `append` adds rows, `merge` replaces rows of equal key and adds the others, `rewrite` puts rows in place of all
    others, as one file; at most one is set, none records the commit alone. `commit` is what holds after it; its version
    and time are filled in by the manifest.
    """

    commit: Commit
    append: pa.Table | None = None
    merge: pa.Table | None = None
    rewrite: pa.Table | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The manifest at one version."""

    commit: Commit
    delta: Any = field(repr=False)
    root: FileRoot = field(repr=False)

    @property
    def version(self) -> int:
        return int(self.delta.version())

    def count(self) -> int:
        """Number of rows, from the log's statistics."""
        return int(self.delta.count())

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Rows sorted by key, with the columns of `schema.MANIFEST_SCHEMA` or those asked for.

        Raises:
            LabelCorrupt: if a file of the table is gone or damaged.
        """
        return self.rows().table(columns)

    def rows(self) -> Rows:
        """Where the rows are, for reading them later or in another process."""
        actions = pa.table(self.delta.get_add_actions())
        files = zip(map(unquote, actions["path"].to_pylist()), actions["size_bytes"].to_pylist(), strict=True)
        return Rows(version=self.version, root=self.root, files=tuple(files))


class Manifest:
    """The Delta table of one store."""

    def __init__(self, store_uri: str, storage_options: dict[str, Any] | None = None) -> None:
        self.store_uri = store_uri
        self.root = FileRoot(store_uri, dict(storage_options or {}))
        self.uri = delta_uri(store_uri)
        self.options = delta_options(store_uri, storage_options)

    def create(self) -> None:
        """Makes the empty table, version 0; leaves a table that is there already alone."""
        commit = Commit(version=0, kind=CREATE, time=now(), finished=0, finished_digest=EMPTY, digest=EMPTY)
        try:
            DeltaTable.create(
                self.uri,
                schema=MANIFEST_SCHEMA,
                name="hmsa-label manifest",
                configuration=MANIFEST_CONFIGURATION,
                storage_options=self.options,
                commit_properties=_properties(commit),
            )
        except (DeltaError, CommitFailedError):
            self._load()  # lost the race to another creator; any other trouble shows here again

    def head(self) -> Snapshot:
        """The newest version, finished or not.

        Raises:
            LabelCorrupt: if the log is damaged, or its newest file is gone.
        """
        delta = self._load()
        refuse_lost_end(self.root, int(delta.version()))
        return Snapshot(commit=self._newest_commit(int(delta.version())), delta=delta, root=self.root)

    def at(self, version: int) -> Snapshot:
        """The manifest at `version`.

        Raises:
            LabelMissing: if there is no such version.
            LabelCorrupt: if the log is damaged.
        """
        try:
            delta = self._load(version)
        except DeltaError:
            head = int(self._load().version())
            raise LabelMissing(
                f"the store {public_uri(self.store_uri)} has no version {version}; the newest is {head}, "
                f"`hmsa-label audit log` lists the finished ones"
            ) from None
        return Snapshot(commit=self._newest_commit(int(delta.version())), delta=delta, root=self.root)

    def log(self) -> list[Commit]:
        """All commits that this software made, oldest first.

        Raises:
            LabelCorrupt: if a file of the log is damaged, or the newest one is gone.
        """
        bodies = read_log(self.root)
        refuse_lost_end(self.root, max(bodies, default=-1))
        return commits_in(bodies)

    def _newest_commit(self, version: int) -> Commit:
        """The newest commit of ours at or before a version; other tools may have committed since (an OPTIMIZE, say).

        Read from the log itself: delta-rs' `history` holds Python's global lock while it waits for the storage.
        """
        for candidate in range(version, -1, -1):
            commit = _commit_in(self.root.read(log_path(candidate)), candidate)
            if commit:
                return commit
        raise NotAStore(f"the manifest of {public_uri(self.store_uri)} was not written by hmsa-label")

    def transact(self, decide: Callable[[Snapshot], Change | None]) -> Commit:
        """Commits what `decide` makes of the head; shows it the new head again whenever another writer was faster.

        `decide` returns None when nothing is left to do; the head's commit is returned then. It may raise.

        Raises:
            StoreConflict: if other writers were faster for five minutes.
            OSError: if commits fail although nobody else commits.
        """
        deadline, pause, tried = time.monotonic() + COMMIT_SECONDS, 0.02, Counter[int]()
        while True:
            head = self.head()
            change = decide(head)
            if change is None:
                return head.commit
            before = hashlib.sha256(self.root.read(log_path(head.version))).hexdigest()
            version, token = head.version + 1, secrets.token_hex(8)
            commit = replace(change.commit, version=version, time=now(), log_sha256=before, token=token)
            refusal = self._commit(head, replace(change, commit=commit))
            if refusal is None:
                return commit
            tried[head.version] += 1
            if tried[head.version] == ATTEMPTS_AT_ONE_VERSION:
                raise self._in_one_line(refusal) from refusal
            if time.monotonic() > deadline:
                raise StoreConflict(
                    f"other writers were faster at {public_uri(self.uri)} for {COMMIT_SECONDS:.0f} s; try again"
                ) from refusal
            time.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 1.0)

    def _commit(self, head: Snapshot, change: Change) -> Exception | None:
        """One try to commit: None if the commit is there now, else why another writer's is.

        Raises:
            OSError: if the storage fails; what became of the commit is known then, too: it is not there.
        """
        filesystem, path = self.root.open()
        # delta-rs takes either for another writer, and panics in a thread of its own.
        refuse_full_or_read_only(filesystem, join(path, MANIFEST))
        try:
            self._apply(head, change)
        except (DeltaError, OSError) as error:
            if not self._has_landed(change.commit):
                if isinstance(error, CommitFailedError):
                    return error
                raise self._in_one_line(error) from error
        mark_commit(self.root, change.commit.version)
        return None

    def _in_one_line(self, error: Exception) -> Exception:
        """A refusal of the storage, which delta-rs draws as a coloured tree, for people; other errors as they are."""
        if isinstance(error, SchemaMismatchError | StoreError):
            return error
        place, system = public_uri(self.uri), SYSTEM_ERROR.search(str(error))
        if system is not None:
            number = int(system[1])
            return OSError(number, f"cannot commit, {os.strerror(number)}", place)
        return OSError(f"cannot commit to {place}: {' '.join(TREE.sub('', str(error)).split())}")

    def _has_landed(self, commit: Commit) -> bool:
        """Whether a try to commit that ended in an error succeeded all the same: only the answer to it was lost."""
        try:
            found = _commit_in(self.root.read(log_path(commit.version)), commit.version)
        except FileNotFoundError:
            return False
        return found is not None and found.token == commit.token

    def _load(self, version: int | None = None) -> Any:
        try:
            return DeltaTable(self.uri, version=version, storage_options=self.options)
        except TableNotFoundError:
            raise NotAStore(f"there is no manifest at {public_uri(self.uri)}; the store is incomplete") from None
        except DeltaError as error:
            fault = next(iter(log_faults(self.root, read_log(self.root))), None)
            if version is not None and fault is None:
                raise
            what = fault or str(error).partition("\n")[0]
            raise LabelCorrupt(f"the manifest of {public_uri(self.store_uri)} does not read: {what}") from None

    def _apply(self, head: Snapshot, change: Change) -> None:
        """One attempt at one commit.

        Raises:
            CommitFailedError: if the head is not the newest version any more.
        """
        properties, schema = _properties(change.commit), head.delta.schema()
        if change.append is not None:
            write_deltalake(head.delta, change.append, mode="append", commit_properties=properties)
        elif change.rewrite is not None:
            write_deltalake(head.delta, change.rewrite, mode="overwrite", commit_properties=properties)
        elif change.merge is not None:
            merger = head.delta.merge(
                change.merge,
                "old.key = new.key",
                source_alias="new",
                target_alias="old",
                commit_properties=properties,
            )
            merger.when_matched_update_all().when_not_matched_insert_all().execute()
        else:
            head.delta.create_write_transaction([], "append", schema, commit_properties=properties)


def content_digest(table: pa.Table) -> str:
    """Hex sha256 over "key<TAB>label_sha256<LF>" lines in the byte order of the keys.

    Independent of the order of labelling, of segments, codecs and everything else but the labels and their names.
    """
    digest = hashlib.sha256()
    pairs = table.select(["key", "label_sha256"]).cast(PAIRS).sort_by([(name, "ascending") for name in PAIRS.names])
    empty, tab, end = (pa.scalar(text, pa.large_string()) for text in ("", "\t", "\n"))
    lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*pairs.columns, tab), empty, end)
    for chunk in lines.chunks:
        _, offsets, text = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        digest.update(memoryview(text)[ends[0] : ends[-1]] if text is not None else b"")
    return digest.hexdigest()


def without_keys(table: pa.Table, keys: set[str]) -> pa.Table:
    """Rows whose key is not in `keys`."""
    return table.filter(pc.invert(pc.is_in(table["key"], pa.array(sorted(keys), pa.string()))))


def _properties(commit: Commit) -> CommitProperties:
    return CommitProperties(custom_metadata={COMMIT_KEY: seal(asdict(commit))}, max_commit_retries=0)


def commits_in(bodies: dict[int, bytes]) -> list[Commit]:
    """The commits of this software among log files, as `read_log` gives them; in their order.

    Raises:
        LabelCorrupt: naming the file, if one is damaged.
    """
    commits = (_commit_in(body, version) for version, body in bodies.items())
    return [commit for commit in commits if commit]


def _commit_in(body: bytes, version: int) -> Commit | None:
    """Our record in one file of the Delta log; None if another tool made the commit."""
    record = record_in(body, version)
    if record is None:
        return None
    known = {item.name for item in fields(Commit)}
    values = {name: value for name, value in record.items() if name in known}
    lists = {name: tuple(values.get(name, ())) for name in ("open_runs", "pruned")}
    return Commit(**{**values, **lists, "version": version})
