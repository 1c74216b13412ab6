"""Back to an earlier version without losing history: a new version with the old rows."""

from typing import Any

import pyarrow as pa

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.manifest.table import CREATE, ROLLBACK, Change, Commit, Manifest, Snapshot, content_digest
from hmsa_label.stores.versions.tags import pruned_versions, refuse_other_than_tagged, version_number


def rollback(uri: str, version: int | str, message: str = "", *, storage_options: dict[str, Any] | None = None) -> int:
    """Makes a new finished version with the labels of `version`, and discards unfinished runs; its number.

    Nothing is deleted: versions in between stay readable, the log keeps them, and rolling back a roll back works.
    Version 0 is the empty store. If the newest version has the very rows of `version` and no run is open, nothing
    happens, and the newest version's number comes back.

    Args:
        version: a number or a tag.

    Raises:
        ValueError: if `version` is unfinished progress.
        LabelMissing: if there is no such version, or gc has pruned it.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    manifest = Manifest(root.uri, storage_options)
    asked, version = version, version_number(root, version)
    snapshot = manifest.at(version)
    target = snapshot.commit
    refuse_other_than_tagged(root, asked, target)
    if target.version != version or not target.is_finished:
        raise ValueError(f"version {version} is unfinished progress; `hmsa-label audit log` lists the finished ones")
    if version in pruned_versions(root):
        raise LabelMissing(f"version {version} of {public_uri(uri)} was pruned by gc; its pixels are gone")
    rows = snapshot.table()
    if content_digest(rows) != target.digest:
        raise LabelCorrupt(f"the rows of version {version} of {public_uri(uri)} are not those that were committed")
    return manifest.transact(lambda head: _restore(head, target, rows, message)).finished


def _restore(head: Snapshot, target: Commit, rows: pa.Table, message: str) -> Change | None:
    if not head.commit.open_runs and _holds(head, target, rows):
        return None
    commit = head.commit.successor(
        ROLLBACK,
        finished=head.version + 1,
        finished_digest=target.digest,
        epoch=head.version + 1,
        open_runs=(),
        fingerprint=None if target.kind == CREATE else target.fingerprint,
        parent=head.commit.finished,
        parent_digest=head.commit.finished_digest,
        digest=target.digest,
        images=target.images,
        threshold=target.threshold,
        rule=target.rule,
        teacher_sha256=target.teacher_sha256,
        run=target.run,
        run_sha256=target.run_sha256,
        restores=target.version,
        note=message or None,
    )
    # Not delta-rs' own RESTORE: it holds Python's global lock while it waits for the storage.
    return Change(commit=commit, rewrite=rows)


def _holds(head: Snapshot, target: Commit, rows: pa.Table) -> bool:
    """Whether the newest finished version is `target`, or a copy of it: the same rows, labels and all."""
    if head.commit.finished == target.version:
        return True
    return head.commit.finished_digest == target.digest and bool(head.table().equals(rows))
