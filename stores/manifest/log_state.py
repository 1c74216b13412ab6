"""The table at a version, replayed from the log: each file read once, and checked against what was built on it.

delta-rs reads each log file twice, trusts every one, and refuses all readers when a checkpoint is lost. Here a
checkpoint is a short cut alone: one that is not what was written is passed over, and the log read from its beginning.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, NotAStore
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format.layout import LOG, log_path
from hmsa_label.stores.manifest.checkpoints import checkpoints_in, read_checkpoint
from hmsa_label.stores.manifest.delta_actions import DataFile, LogFile, parse, way_out
from hmsa_label.stores.manifest.log_files import (
    digest_of,
    gone,
    lost_end,
    mark_path,
    missing_below,
    read_many,
    refuse_changed,
    refuse_other_base,
    versions_in,
)


@dataclass(frozen=True, kw_only=True)
class LogState:
    """The table as of one commit.

    Attributes:
        sha256: hex digest of the commit's log file; empty right after a checkpoint.
        record: ours of the newest commit that this software made; None if there is none.
        files: the data files, by path.
        writer_version: what the table demands of writers.
    """

    version: int = -1
    sha256: str = ""
    record: dict[str, Any] | None = field(default=None, repr=False)
    files: dict[str, DataFile] = field(default_factory=dict, repr=False)
    writer_version: int = 0

    def after(self, file: LogFile) -> "LogState":
        """The table after the next commit.

        Raises:
            LabelCorrupt: if that commit was built on another log file than this one's.
        """
        if self.sha256:
            refuse_other_base(self.version, self.sha256, file)
        removed = set(file.removed)
        files = {path: found for path, found in self.files.items() if path not in removed}
        files |= {found.path: found for found in file.added}
        return LogState(
            version=file.version,
            sha256=file.sha256,
            record=file.record or self.record,
            files=files,
            writer_version=max(self.writer_version, file.writer_version or 0),
        )


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """What lies in the log's folder."""

    versions: frozenset[int]
    checkpoints: list[int]

    @property
    def newest(self) -> int:
        return max(self.versions)


class Log:
    """Reads the log of one store; keeps what it has read of it, as no log file ever changes."""

    def __init__(self, root: FileRoot) -> None:
        self.root = root
        self._files: dict[int, LogFile] = {}
        self._head: LogState | None = None

    def head(self) -> LogState:
        """The newest version. Asked for again, it costs four requests, and four for each commit since.

        Raises:
            NotAStore: if there is no log.
            LabelCorrupt: if the log is damaged, or its newest file is gone.
        """
        if self._head is None:
            listing = self._list()
            self._refuse_lost_end(listing.newest)
            self._head = self._replay(listing.newest, listing)
            return self._head
        while (following := self._next(self._head)) is not None:
            self._head = following
        return self._head

    def at(self, version: int) -> LogState:
        """The table at a version.

        Raises:
            LabelMissing: if there is no such version.
            NotAStore, LabelCorrupt: as `head`.
        """
        listing = self._list()
        if 0 <= version <= listing.newest:
            return self._replay(version, listing)
        self._refuse_lost_end(listing.newest)
        raise LabelMissing(
            f"the store {public_uri(self.root.uri)} has no version {version}; the newest is {listing.newest}, "
            "`hmsa-label audit log` lists the finished ones"
        )

    def accept(self, head: LogState, file: LogFile) -> LogState:
        """The state after a commit of our own on a head, which need not be read again."""
        self._files[file.version] = file
        self._head = head.after(file)
        return self._head

    def _next(self, head: LogState) -> LogState | None:
        """The version after the newest known one, None if that is the newest still; both must be what was committed."""
        version = head.version
        paths = [log_path(version), log_path(version + 1), mark_path(version), mark_path(version + 1)]
        own, following, mark, next_mark = read_many(self.root, paths)
        if own is None:
            self._list()  # no log at all is another matter
        if own is None or digest_of(own) != head.sha256:
            # What is there now is not what was read before: the next commit would be built on what nobody can read.
            raise LabelCorrupt(
                gone(version)
                if own is None
                else f"{log_path(version)} has changed since it was read; {way_out(version)}"
            )
        refuse_changed(self._files[version], mark, None)
        if following is None:
            if next_mark is not None and read_many(self.root, [log_path(version + 1)])[0] is None:
                raise LabelCorrupt(lost_end(version + 1))
            return None if next_mark is None else self._next(head)
        self._files[version + 1] = parse(following, version + 1, digest_of(following))
        return head.after(self._files[version + 1])

    def _replay(self, version: int, listing: "_Listing") -> LogState:
        state = self._checkpoint(version, listing)
        lost = next(missing_below(version, listing.versions, state.version + 1), None)
        if lost is not None:
            raise LabelCorrupt(gone(lost))
        self._read(range(state.version + 1, version + 1))
        for number in range(state.version + 1, version + 1):
            state = state.after(self._file(number))
        state = replace(state, sha256=self._file(version).sha256, record=self._record(state))
        (mark,) = read_many(self.root, [mark_path(version)])
        refuse_changed(self._file(version), mark, self._successor(version, listing))
        return state

    def _checkpoint(self, version: int, listing: "_Listing") -> LogState:
        """The newest state at or before a version that a sound checkpoint holds; the state before the log without."""
        for number in sorted(listing.checkpoints, reverse=True):
            found = read_checkpoint(self.root, number) if number <= version else None
            if found is not None:
                files, writer_version = found
                return LogState(version=number, files=files, writer_version=writer_version)
        return LogState()

    def _record(self, state: LogState) -> dict[str, Any]:
        """Our newest record; looked for before the checkpoint if other tools made all commits since."""
        if state.record is not None:
            return state.record
        for number in range(state.version, -1, -1):
            record = self._file(number).record
            if record is not None:
                return record
        raise NotAStore(f"the manifest of {public_uri(self.root.uri)} was not written by hmsa-label")

    def _successor(self, version: int, listing: "_Listing") -> LogFile | None:
        """The commit after a version, None if there is none or it is damaged, which is no fault of the version."""
        if version == listing.newest:
            return None
        try:
            return self._file(version + 1)
        except LabelCorrupt:
            return None

    def _file(self, version: int) -> LogFile:
        self._read([version])
        return self._files[version]

    def _read(self, versions: Any) -> None:
        """Reads and parses log files that are not known yet."""
        unknown = [version for version in versions if version not in self._files]
        for version, body in zip(unknown, read_many(self.root, map(log_path, unknown)), strict=True):
            if body is None:
                raise LabelCorrupt(gone(version))
            self._files[version] = parse(body, version, digest_of(body))

    def _list(self) -> "_Listing":
        names = self.root.list_names(LOG)
        versions = frozenset(versions_in(names))
        if not versions:
            raise self._no_manifest()
        return _Listing(versions=versions, checkpoints=checkpoints_in(names))

    def _refuse_lost_end(self, newest: int) -> None:
        paths = [mark_path(newest + 1), log_path(newest + 1)]
        mark, file = read_many(self.root, paths)
        if mark is not None and file is None:
            raise LabelCorrupt(lost_end(newest + 1))

    def _no_manifest(self) -> NotAStore:
        return NotAStore(f"there is no manifest at {public_uri(self.root.uri)}/manifest; the store is incomplete")
