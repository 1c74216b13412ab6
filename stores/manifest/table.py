"""The manifest: a Delta table with one row per image, whose commits are the versions of the store.

Every commit lands exactly one version after the state it was computed from, or not at all; `Manifest.transact` looks
again at the new head then. So each commit can carry what holds after it (the newest finished version, the open runs).
Rows are on the disk before the log tells of them, and the log before its mark says so.
"""

import contextlib
import hashlib
import io
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmsa_label.stores.errors import LabelCorrupt, StoreConflict, StoreError
from hmsa_label.stores.files import (
    FileRoot,
    create_bytes,
    delete_files,
    join,
    public_uri,
    refuse_full_or_read_only,
    sync_file,
)
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import ARRAYS, SHA256
from hmsa_label.stores.format.layout import MANIFEST, log_path
from hmsa_label.stores.format.receipt import now
from hmsa_label.stores.format.self_digest import seal
from hmsa_label.stores.manifest.checkpoints import write_checkpoint
from hmsa_label.stores.manifest.delta_actions import WRITER_VERSION, DataFile, commit_body, creation_body, parse
from hmsa_label.stores.manifest.delta_options import delta_uri
from hmsa_label.stores.manifest.log_files import digest_of, mark_commit, read_log
from hmsa_label.stores.manifest.log_state import Log, LogState
from hmsa_label.stores.manifest.pixel_objects import arrays_in
from hmsa_label.stores.manifest.rows import Rows

# What the content digest of a version covers.
DIGESTED_ARRAYS = [array.column(SHA256) for array in ARRAYS.values() if array.in_digest]
DIGESTED = pa.schema([(name, pa.large_string()) for name in ("key", *DIGESTED_ARRAYS, "instance_table_sha256")])
EMPTY = hashlib.sha256().hexdigest()  # content digest of no images
# What a commit hands on to the next.
STATE = ("finished", "finished_digest", "epoch", "collected", "open_runs", "fingerprint")
COMMIT_SECONDS = 300.0
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
        parent, digest, images, threshold, rule, teacher_sha256, run, note: of a finished version; `digest` is the
            content digest, `images` the number of rows, `parent` the finished version before, `rule` what decides
            beside the threshold.
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
    rule: dict[str, Any] | None = None
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

    `append` adds rows, `rewrite` puts rows in place of all others, as one file; at most one is set, none records the
    commit alone. `commit` is what holds after it; its version and time are filled in by the manifest.
    """

    commit: Commit
    append: pa.Table | None = None
    rewrite: pa.Table | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The manifest at one version."""

    commit: Commit
    state: LogState = field(repr=False)
    root: FileRoot = field(repr=False)

    @property
    def version(self) -> int:
        return self.state.version

    @property
    def files(self) -> tuple[DataFile, ...]:
        """The Parquet files that hold the rows."""
        return tuple(self.state.files.values())

    def count(self) -> int:
        """Number of rows, from the log where it tells."""
        rows = [file.rows for file in self.files]
        return sum(row for row in rows if row is not None) if None not in rows else self.table(["key"]).num_rows

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Rows sorted by key, with the columns of `columns.MANIFEST_SCHEMA` or those asked for.

        Raises:
            LabelCorrupt: if a file of the table is gone or damaged.
        """
        return self.rows().table(columns)

    def rows(self) -> Rows:
        """Where the rows are, for reading them later or in another process."""
        return self.rows_in(self.files)

    def rows_in(self, files: Iterable[DataFile]) -> Rows:
        """Where the rows of some of the files are."""
        places = tuple((file.path, file.size_bytes) for file in files)
        return Rows(version=self.version, root=self.root, files=places)


class Manifest:
    """The Delta table of one store."""

    def __init__(self, store_uri: str, storage_options: dict[str, Any] | None = None) -> None:
        self.store_uri = store_uri
        self.root = FileRoot(store_uri, dict(storage_options or {}))
        self.uri = delta_uri(store_uri)
        self._log = Log(self.root)

    def create(self) -> None:
        """Makes the empty table, version 0; leaves a table that is there already alone."""
        commit = Commit(version=0, kind=CREATE, time=now(), finished=0, finished_digest=EMPTY, digest=EMPTY)
        body = creation_body(_sealed(commit))
        filesystem, path = self.root.open()
        try:
            create_bytes(filesystem, join(path, log_path(0)), body)
        except FileExistsError:
            self.head()  # lost the race to another creator; any other trouble shows here
        else:
            mark_commit(self.root, 0, digest_of(body))

    def head(self) -> Snapshot:
        """The newest version, finished or not.

        Raises:
            LabelCorrupt: if the log is damaged, or its newest file is gone.
        """
        return self._snapshot(self._log.head())

    def at(self, version: int) -> Snapshot:
        """The manifest at `version`.

        Raises:
            LabelMissing: if there is no such version.
            LabelCorrupt: if the log up to it is damaged.
        """
        return self._snapshot(self._log.at(version))

    def log(self) -> list[Commit]:
        """All commits that this software made, oldest first.

        Raises:
            LabelCorrupt: if a file of the log is damaged, or the newest one is gone.
        """
        bodies = read_log(self.root)
        self._log.head()
        return commits_in(bodies)

    def _snapshot(self, state: LogState) -> Snapshot:
        assert state.record is not None
        return Snapshot(commit=_commit_of(state.record), state=state, root=self.root)

    def transact(self, decide: Callable[[Snapshot], Change | None]) -> Commit:
        """Commits what `decide` makes of the head; shows it the new head again whenever another writer was faster.

        `decide` returns None when nothing is left to do; the head's commit is returned then. It may raise.

        Raises:
            LabelCorrupt: if the head is not what was committed; nothing is built on it.
            StoreConflict: if other writers were faster for five minutes.
            OSError: if commits fail although nobody else commits.
        """
        deadline, pause, tried = time.monotonic() + COMMIT_SECONDS, 0.02, Counter[int]()
        while True:
            head = self.head()
            change = decide(head)
            if change is None:
                return head.commit
            version, token = head.version + 1, secrets.token_hex(8)
            commit = replace(change.commit, version=version, time=now(), log_sha256=head.state.sha256, token=token)
            refusal = self._commit(head, replace(change, commit=commit))
            if refusal is None:
                return commit
            tried[head.version] += 1
            if tried[head.version] == ATTEMPTS_AT_ONE_VERSION:
                raise OSError(f"cannot commit to {public_uri(self.uri)}: {refusal}") from refusal
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
        refuse_full_or_read_only(filesystem, join(path, MANIFEST))
        if head.state.writer_version > WRITER_VERSION:
            raise StoreError(
                f"another tool made {public_uri(self.uri)} a table of writer version {head.state.writer_version}; "
                f"hmsa-label writes version {WRITER_VERSION}"
            )
        rows = change.rewrite if change.rewrite is not None else change.append
        added = self._put_rows(rows, str(change.commit.token)) if rows is not None else []
        body = commit_body(_sealed(change.commit), added, head.files if change.rewrite is not None else ())
        version = change.commit.version
        try:
            self._apply(version, body)
        except OSError as error:
            lost_race = isinstance(error, FileExistsError)
            if lost_race or self.root.is_local:  # on an object store the commit may land yet
                delete_files(filesystem, [join(path, MANIFEST, file.path) for file in added])
            if lost_race:
                return error
            raise
        state = self._log.accept(head.state, parse(body, version, digest_of(body)))
        mark_commit(self.root, version, digest_of(body))
        write_checkpoint(self.root, version, state.files)
        return None

    def _put_rows(self, rows: pa.Table, token: str) -> list[DataFile]:
        """Writes rows as a data file that is named by its digest; pixels and rows are on the disk then."""
        filesystem, path = self.root.open()
        if self.root.is_local:
            for folder in _pixel_folders(rows):
                with contextlib.suppress(FileNotFoundError):  # lost, which is for verify to say
                    sync_file(filesystem, join(path, folder))
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        body = buffer.getvalue()
        name = f"part-{token}-{digest_of(body)}.zstd.parquet"
        create_bytes(filesystem, join(path, MANIFEST, name), body)
        return [DataFile(path=name, size_bytes=len(body), rows=rows.num_rows)]

    def _apply(self, version: int, body: bytes) -> None:
        """Makes a commit: its log file, which nobody else may have made.

        Raises:
            FileExistsError: if another writer was faster.
        """
        filesystem, path = self.root.open()
        try:
            create_bytes(filesystem, join(path, log_path(version)), body)
        except OSError as error:
            if not self._holds(version, body):  # else only the answer was lost
                raise error

    def _holds(self, version: int, body: bytes) -> bool:
        try:
            return self.root.read(log_path(version)) == body
        except OSError:
            return False


def _pixel_folders(rows: pa.Table) -> list[str]:
    """Folders that hold the names of the rows' objects, and those above them."""
    folders = {layout.DATA}
    for segment, height, width, name in arrays_in(rows):
        size = layout.size_folder(segment, height, width)
        folders |= {f"{layout.DATA}/{segment}", f"{layout.DATA}/{segment}/receipts", size, f"{size}/{name}"}
    return sorted(folders)


def content_digest(table: pa.Table) -> str:
    """Hex sha256 over "key<TAB>label_sha256<LF>" lines in the byte order of the keys.

    Independent of the order of labeling, of segments, codecs and everything else but the labels and their names.
    """
    digest = hashlib.sha256()
    ordered = [(name, "ascending") for name in DIGESTED.names]
    rows = table.select(DIGESTED.names).cast(DIGESTED).sort_by(ordered)
    empty, tab, end = (pa.scalar(text, pa.large_string()) for text in ("", "\t", "\n"))
    fields = pc.binary_join_element_wise(*rows.columns, tab, null_handling="skip")  # an image may lack an array
    lines = pc.binary_join_element_wise(fields, empty, end)
    for chunk in lines.chunks:
        _, offsets, text = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        digest.update(memoryview(text)[ends[0] : ends[-1]] if text is not None else b"")
    return digest.hexdigest()


def without_keys(table: pa.Table, keys: set[str]) -> pa.Table:
    """Rows whose key is not in `keys`."""
    return table.filter(pc.invert(pc.is_in(table["key"], pa.array(sorted(keys), pa.string()))))


def _sealed(commit: Commit) -> dict[str, Any]:
    return seal(asdict(commit))


def commits_in(bodies: dict[int, bytes]) -> list[Commit]:
    """The commits of this software among log files, as `read_log` gives them; in their order.

    Raises:
        LabelCorrupt: naming the file, if one is damaged.
    """
    records = (parse(body, version, digest_of(body)).record for version, body in bodies.items())
    return [_commit_of(record) for record in records if record is not None]


def sound_commits_in(bodies: dict[int, bytes]) -> list[Commit]:
    """As `commits_in`, without what is damaged."""
    found: list[Commit] = []
    for version, body in bodies.items():
        with contextlib.suppress(LabelCorrupt):
            found += commits_in({version: body})
    return found


def _commit_of(record: dict[str, Any]) -> Commit:
    """The commit that a record of ours tells of; fields added by later versions are left out."""
    values = {item.name: record[item.name] for item in fields(Commit)}
    return Commit(**{**values, **{name: tuple(values[name]) for name in ("open_runs", "pruned")}})
