"""The versions of a store, as its log tells of them."""

from dataclasses import dataclass, fields
from typing import Any

from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.manifest.table import CREATE, Commit, Manifest
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.tags import KnownTags, known_tags, pruned_versions


@dataclass(frozen=True, kw_only=True)
class CommitFacts(Result):
    """What a commit says of the version that it made.

    Attributes:
        version: its number. parent: the finished version before it; None for the first.
        time: when it was made, ISO 8601 in UTC. kind: label, rethreshold, rollback, tag, gc, or a step of a run.
        images: with a label in it. run: that made it.
        threshold, teacher_sha256: those of the run. rule: what decided beside the threshold; None if nothing did.
        digest: content digest, hex sha256 over sorted (key, label sha256).
        restores: the version whose labels a rollback took. note: the message it was made with.
        finished: False for progress of a run that has not ended.
    """

    version: int
    parent: int | None
    time: str
    kind: str
    images: int
    run: str | None
    threshold: float | None
    rule: dict[str, Any] | None
    teacher_sha256: str | None
    digest: str | None
    restores: int | None
    note: str | None
    finished: bool


@dataclass(frozen=True, kw_only=True)
class Version(CommitFacts):
    """One version in the log of a store.

    Attributes:
        tags: names it has; damaged_tags: those whose files are damaged or lost.
        pruned: gc has deleted its pixels.
    """

    tags: list[str]
    damaged_tags: list[str]
    pruned: bool


def store_log(uri: str, *, progress: bool = False, storage_options: dict[str, Any] | None = None) -> list[Version]:
    """Versions of a store, oldest first.

    Finished versions, and for each unfinished run its newest commit; with `progress` every commit.

    Raises:
        NotAStore: if there is no store.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    return versions_of(root, progress=progress)


def versions_of(root: FileRoot, *, progress: bool = False) -> list[Version]:
    """As `store_log`, of a store whose identity was read."""
    commits = Manifest(root.uri, root.storage_options).log()
    tags, pruned = known_tags(root, commits), pruned_versions(root)
    newest_of_run = {commit.run: commit.version for commit in commits}
    unfinished = {newest_of_run[run] for run in commits[-1].open_runs}
    return [
        Version(**commit_facts(commit), **tags_of(commit.version, tags), pruned=commit.version in pruned)
        for commit in commits
        if progress or (commit.is_finished and commit.kind != CREATE) or commit.version in unfinished
    ]


def tags_of(version: int, known: KnownTags) -> dict[str, Any]:
    """`tags` and `damaged_tags` of a version."""
    names = known.by_version.get(version, [])
    return {"tags": names, "damaged_tags": [name for name in names if name in known.damaged]}


def commit_facts(commit: Commit) -> dict[str, Any]:
    """The fields of `CommitFacts`."""
    parent = commit.parent if commit.is_finished else commit.finished
    known = {field.name: getattr(commit, field.name, None) for field in fields(CommitFacts)}
    return {**known, "parent": parent or None, "finished": commit.is_finished}
