"""What happened to a store: a version in full, an image through the versions."""

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from hmsa_label.stores.audit.summary import Summary, summarize
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.columns import CLASS_COUNTS
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.format.origin import NAMES as ORIGINS
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.manifest import table as m
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.result import Result
from hmsa_label.stores.runs.record import read_outcomes, read_run
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import CommitFacts, commit_facts, tags_of
from hmsa_label.stores.versions.resolve import resolve
from hmsa_label.stores.versions.tags import known_tags


@dataclass(frozen=True, kw_only=True)
class VersionFacts(CommitFacts):
    """Everything known of one version.

    Attributes:
        store: its place. uuid: drawn when the store was made, so a store moved elsewhere is still known.
        tags: names the version has; damaged_tags: those whose files are damaged or lost.
        summary: figures of its labels.
        runs: the records of the runs whose labels it holds, as they were written, each with the `outcomes` of its
            attempts.
    """

    digest: str
    store: str
    uuid: str
    tags: list[str]
    damaged_tags: list[str]
    summary: Summary
    runs: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class LabelChange(Result):
    """A finished version in which an image's label came, changed or went.

    Attributes:
        unreadable: why nothing is known of the image in this version; None elsewhere.
        label_sha256: None where the version has no label for the image; run, threshold, kept_share likewise.
        rule: what decided beside the threshold, as JSON; None if nothing did.
    """

    version: int
    time: str
    kind: str
    unreadable: str | None
    label_sha256: str | None
    run: str | None
    threshold: float | None
    rule: str | None
    kept_share: float | None


@dataclass(frozen=True, kw_only=True)
class ImageHistory(Result):
    """An image through the versions.

    Attributes:
        version: the one that was asked for. row: the image's row of the manifest there, with counts by the names of
            classes or origins, and `class` and `kept` (by the rule) of each instance; None if that version has no
            label for it.
        history: the versions in which its label came, changed or went, oldest first.
    """

    key: str
    version: int
    row: dict[str, Any] | None
    history: list[LabelChange]


def show(
    uri: str,
    name: int | str | None = None,
    version: int | str | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
) -> VersionFacts | ImageHistory:
    """Everything known of a version (number, tag, "head", None for the last finished one) or of an image (its key).

    Args:
        version: in which an image is looked at; None is the last finished one.

    Raises:
        LabelMissing: if the store knows neither such a version or tag nor such an image.
        ValueError: if `name` is a version and `version` is given too.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    read_identity(root)
    name, version = (version, None) if name is None else (name, version)
    try:
        resolve(root, name)
    except LabelMissing as error:
        if not isinstance(name, str):
            raise
        return _show_image(LabelStore.open(uri, version, storage_options=storage_options), name, error)
    if version is not None:
        raise ValueError(f"{name} is a version itself; --version goes with the key of an image")
    return show_version(LabelStore.open(uri, name, storage_options=storage_options))


def show_version(store: LabelStore) -> VersionFacts:
    """A version's log entry, its summary, the runs whose labels it holds, their outcomes."""
    return VersionFacts(**version_facts(store))


def version_facts(store: LabelStore) -> dict[str, Any]:
    """The fields of `VersionFacts`."""
    runs = sorted(store.table(["run"])["run"].unique().to_pylist())
    commits = Manifest(store.root.uri, store.root.storage_options).log()
    outcomes = {run: read_outcomes(store.root, run, commits) for run in runs}
    return {
        **commit_facts(store.commit),
        "version": store.version,
        "digest": store.digest,
        "store": store.uri,
        "uuid": store.identity.uuid,
        **tags_of(store.version, known_tags(store.root, commits)),
        "summary": summarize(store),
        "runs": [{**read_run(store.root, run).record, "outcomes": outcomes[run]} for run in runs],
    }


def _show_image(store: LabelStore, key: str, unknown_version: LabelMissing) -> ImageHistory:
    """An image's manifest row in one version, and every version in which its label changed."""
    changes = image_history(store, key)
    if all(change.unreadable for change in changes):
        raise LabelMissing(f"{unknown_version}; and no version holds an image of that key") from None
    row = _named(store, store.receipt(key)) if key in store else None
    return ImageHistory(key=key, version=store.version, row=row, history=changes)


def _named(store: LabelStore, receipt: Receipt) -> dict[str, Any]:
    """A row with the names of its classes, and with what its rule keeps of its instances."""
    row, names = receipt.to_dict(), store.classes["names"]
    for column in CLASS_COUNTS:
        if row[column] is not None:
            row[column] = dict(zip(names, row[column], strict=True))
    if row["origin_px"] is not None:
        row["origin_px"] = dict(zip(ORIGINS, row["origin_px"], strict=True))
    if receipt.instances is not None:
        kept = receipt.label_rule.keeps(receipt.instances)[1:].tolist()
        for entry, keeps in zip(row["instances"], kept, strict=True):
            entry |= {"class": names[entry["train_id"]], "kept": keeps}
    return row


def image_history(store: LabelStore, key: str) -> list[LabelChange]:
    """Finished versions in which an image's label came, changed or went, oldest first."""
    manifest = Manifest(store.root.uri, store.root.storage_options)
    changes: list[LabelChange] = []
    nothing: dict[str, Any] = dict.fromkeys(("label_sha256", "run", "threshold", "rule", "kept_share"))
    columns = ["key", *nothing]
    before: tuple[Any, Any] = (None, None)
    for commit in manifest.log():
        if not commit.is_finished or commit.kind == m.CREATE:
            continue
        state: dict[str, Any] = {"version": commit.version, "time": commit.time, "kind": commit.kind}
        try:
            table = manifest.at(commit.version).table(columns)
        except LabelCorrupt as error:
            changes.append(LabelChange(**state, unreadable=str(error), **nothing))
            continue
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["key"], key)).drop_columns("key").to_pylist()
        row = rows[0] if rows else nothing
        if (row["label_sha256"], row["run"]) != before:
            before = (row["label_sha256"], row["run"])
            changes.append(LabelChange(**state, unreadable=None, **row))
    return changes
