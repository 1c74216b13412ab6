"""Which runs may begin on a store: one label set, made one way, unless the user says to replace it."""

from typing import Any

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.manifest import LABEL, Commit, Manifest
from hmsa_label.stores.runs import Run, describe, differences, read_run


def check_may_begin(root: FileRoot, head: Commit, open_runs: list[Run], asked: Run) -> None:
    """Refuses a run that would mix labels made in different ways.

    Several plain runs with equal fingerprints may be open at a time (splits of one data set, say). A run that replaces
    labels needs the store for itself; one that replaces those of some images alone (changed ones, or those that were
    named) must label as the others were.

    Raises:
        StoreConflict: naming what differs and the ways out.
    """
    for other in open_runs:
        if not (other.kind == asked.kind == LABEL and other.fingerprint == asked.fingerprint):
            raise StoreConflict(_unfinished(root, head, other, asked))
    adds = asked.kind == LABEL or _selects(asked)
    if adds and head.fingerprint not in (None, asked.fingerprint):
        raise StoreConflict(_made_otherwise(root, head, asked))


def _unfinished(root: FileRoot, head: Commit, other: Run, asked: Run) -> str:
    differing = _spell(differences(other, asked))
    detail = f" that differs in {differing}" if differing else ""
    return (
        f"{public_uri(root.uri)} has an unfinished {describe(other)}{detail}; resume it with its own settings, or "
        f"discard what was done since version {head.finished} with `hmsa-label audit rollback {head.finished}`"
    )


def _made_otherwise(root: FileRoot, head: Commit, asked: Run) -> str:
    made_by = _run_of_labels(root, head)
    differing = differences(made_by, asked) if made_by else {}
    start = f"{public_uri(root.uri)} holds labels made with other settings"
    if set(differing) == {"threshold"}:
        there, here = differing["threshold"]
        return (
            f"{start} (threshold {there}, not {here}); `hmsa-label rethreshold --threshold {here}` changes it without "
            "the teacher, --relabel labels everything again"
        )
    detail = f" ({_spell(differing)})" if differing else ""
    every = " of all images" if _selects(asked) else ""
    return f"{start}{detail}; --relabel{every} replaces them as a new version, or label into another store with --store"


def _selects(asked: Run) -> bool:
    """Whether a run is about some of the images that the store may hold already."""
    data = asked.record.get("data") or {}
    return bool(data.get("only_new") or data.get("keys"))


def _run_of_labels(root: FileRoot, head: Commit) -> Run | None:
    """A run whose fingerprint the store's labels have, newest first; None if its record cannot be read."""
    manifest = Manifest(root.uri, root.storage_options)
    for commit in reversed(manifest.log()):
        if commit.run and commit.fingerprint == head.fingerprint:
            run = read_run(root, commit.run)
            if run.fingerprint == head.fingerprint:
                return run
    return None


def _spell(differing: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}: {_short(there)} there, {_short(here)} here" for name, (there, here) in differing.items())


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
