"""What happened to a store: its log, a version in full, an image through the versions."""

from typing import Any

import pyarrow.compute as pc

from hmsa_label.stores.audit.summary import summarise
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.manifest import table as m
from hmsa_label.stores.manifest.table import Commit, Manifest
from hmsa_label.stores.runs.record import read_outcomes, read_run
from hmsa_label.stores.versions.label_store import LabelStore, resolve
from hmsa_label.stores.versions.tags import KnownTags, known_tags, pruned_versions

SHOWN = (
    "version", "parent", "time", "kind", "images", "run", "threshold", "teacher_sha256", "digest", "restores", "note",
)  # fmt: skip


def store_log(
    uri: str, *, progress: bool = False, storage_options: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Versions of a store, oldest first, as JSON-able dictionaries.

    Finished versions, and for each unfinished run its newest commit; with `progress` every commit. Keys: version,
    parent (the finished version before; None for the first), time, kind, images, run, threshold, teacher_sha256,
    digest, restores, note, finished, tags, damaged_tags (those whose files are damaged or lost), pruned.

    Raises:
        NotAStore: if there is no store.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    commits = Manifest(root.uri, storage_options).log()
    tags, pruned = known_tags(root, commits), pruned_versions(root)
    newest_of_run = {commit.run: commit.version for commit in commits}
    unfinished = {newest_of_run[run] for run in commits[-1].open_runs}
    return [
        {**_entry(commit), **_tags_of(commit.version, tags), "pruned": commit.version in pruned}
        for commit in commits
        if progress or (commit.is_finished and commit.kind != m.CREATE) or commit.version in unfinished
    ]


def _tags_of(version: int, known: KnownTags) -> dict[str, list[str]]:
    names = known.by_version.get(version, [])
    return {"tags": names, "damaged_tags": [name for name in names if name in known.damaged]}


def _entry(commit: Commit) -> dict[str, Any]:
    entry = {name: getattr(commit, name) for name in SHOWN}
    parent = commit.parent if commit.is_finished else commit.finished
    return {**entry, "parent": parent or None, "finished": commit.is_finished}


def show(uri: str, name: int | str | None = None, *, storage_options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Everything known of a version (number, tag, "head", None for the last finished one) or of an image (its key).

    Raises:
        LabelMissing: if the store knows neither such a version or tag nor such an image.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    try:
        resolve(root, name)
    except LabelMissing as error:
        if not isinstance(name, str):
            raise
        return _show_image(uri, name, storage_options, error)
    return show_version(LabelStore.open(uri, name, storage_options=storage_options))


def show_version(store: LabelStore) -> dict[str, Any]:
    """A version's log entry, its summary (see `summarise`), the runs whose labels it holds, their outcomes."""
    runs = sorted(set(store.table()["run"].to_pylist()))
    commits = Manifest(store.root.uri, store.root.storage_options).log()
    outcomes = {run: read_outcomes(store.root, run, commits) for run in runs}
    return {
        **_entry(store.commit),
        "version": store.version,
        "digest": store.digest,
        "store": store.uri,
        "uuid": store.identity.uuid,
        **_tags_of(store.version, known_tags(store.root, commits)),
        "summary": summarise(store.table(), store.classes),
        "runs": [{**read_run(store.root, run).record, "outcomes": outcomes[run]} for run in runs],
    }


def _show_image(
    uri: str, key: str, storage_options: dict[str, Any] | None, unknown_version: LabelMissing
) -> dict[str, Any]:
    """An image's manifest row in the last finished version, and every version in which its label changed."""
    store = LabelStore.open(uri, storage_options=storage_options)
    changes = image_history(store, key)
    if all(change["unreadable"] for change in changes):
        raise LabelMissing(f"{unknown_version}; and no version holds an image of that key") from None
    row = store.receipt(key).to_dict() if key in store else None
    if row is not None:
        row["class_px"] = dict(zip(store.classes["names"], row["class_px"], strict=True))
    return {"key": key, "version": store.version, "row": row, "history": changes}


def image_history(store: LabelStore, key: str) -> list[dict[str, Any]]:
    """Finished versions in which an image's label came, changed or went, oldest first.

    Keys: version, time, kind, run, threshold, kept_share, label_sha256 (None where the version has no label for it),
    unreadable (why nothing is known of a version, None elsewhere).
    """
    manifest = Manifest(store.root.uri, store.root.storage_options)
    changes: list[dict[str, Any]] = []
    columns = ["key", "label_sha256", "run", "threshold", "kept_share"]
    before: tuple[Any, Any] = (None, None)
    for commit in manifest.log():
        if not commit.is_finished or commit.kind == m.CREATE:
            continue
        state = {"version": commit.version, "time": commit.time, "kind": commit.kind, "unreadable": None}
        try:
            table = manifest.at(commit.version).table(columns)
        except LabelCorrupt as error:
            changes.append({**state, **dict.fromkeys(columns[1:]), "unreadable": str(error)})
            continue
        row = next(iter(table.filter(pc.equal(table["key"], key)).to_pylist()), dict.fromkeys(columns))
        if (row["label_sha256"], row["run"]) != before:
            before = (row["label_sha256"], row["run"])
            changes.append({**state, **{name: row[name] for name in columns[1:]}})
    return changes
