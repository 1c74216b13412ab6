"""Which runs may begin on a store: one label set, made one way, unless the user says to replace it."""

import shlex
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from hmsa_label.stores.errors import NotAStore, StoreConflict
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.manifest.table import LABEL, RELABEL, Commit, Manifest
from hmsa_label.stores.runs.claims import drivers_of, second_run
from hmsa_label.stores.runs.record import Run, describe, differences, new_run, read_run

# Options that are not called like their fields of a rule, and the fields whose default is 0.
_OPTIONS = {"mask": "ego-mask", "border_px": "border"}
_NUMBERS = ("center_threshold", "instance_threshold", "margin", "grow_px")


def check_known_settings(
    store_uri: str,
    run: dict[str, Any],
    *,
    absent: Collection[str] = (),
    relabel: bool = False,
    join: bool = False,
    storage_options: dict[str, Any] | None = None,
) -> None:
    """Refuses a run before its teacher is loaded, as far as what is known of it by then tells; reads alone.

    Args:
        run: as for `RunWriter`; `settings` that are missing there count as what the store's labels have, unless they
            are among `absent`. `leads_to`, if it is there, has the settings of the rule that this one is a step to.
        join: whether the run may be one that others are at.

    Raises:
        StoreConflict: as `RunWriter` and `Claims.enrol` would raise it.
    """
    root = FileRoot(store_uri, dict(storage_options or {}))
    try:
        head = Manifest(store_uri, storage_options).head().commit
    except NotAStore:
        return
    open_runs = [read_run(root, run_id) for run_id in head.open_runs]

    def complete(other: Run) -> Run:
        own = {name: value for name, value in other.settings.items() if name not in absent}
        record = {**run, "settings": {**own, **run["settings"]}}
        return new_run(record, RELABEL if relabel else LABEL, storage_options)

    same = next((other for other in open_runs if other.resumes(complete(other))), None)
    if same is not None:
        if not join and (drivers := drivers_of(root, same.id)):
            raise StoreConflict(second_run(same.id, drivers))
        return
    for other in open_runs:
        check_may_begin(root, head, [other], complete(other))
    made_by = _run_of_labels(root, head) if head.fingerprint is not None else None
    if made_by is not None:
        check_may_begin(root, head, [], complete(made_by))


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
    adds = asked.kind == LABEL or (asked.kind == RELABEL and _selects(asked))
    if adds and head.fingerprint not in (None, asked.fingerprint):
        raise StoreConflict(_made_otherwise(root, head, asked))


def _unfinished(root: FileRoot, head: Commit, other: Run, asked: Run) -> str:
    differing = _spell(_differing(other, asked))
    detail = f" that differs in {differing}" if differing else ""
    return (
        f"{public_uri(root.uri)} has an unfinished {describe(other)}{detail}; resume it with its own settings, or "
        f"discard what was done since version {head.finished} with `hmsa-label audit rollback {head.finished}`"
        + _killed_by_rollback(root, head)
    )


def _killed_by_rollback(root: FileRoot, head: Commit) -> str:
    """Who is at the open runs now, all of which a roll back ends."""
    live = {run_id: drivers_of(root, run_id) for run_id in head.open_runs}
    return "".join(
        f"; that would end run {run_id}, which is live: {'; '.join(map(str, drivers))}"
        for run_id, drivers in live.items()
        if drivers
    )


def _made_otherwise(root: FileRoot, head: Commit, asked: Run) -> str:
    made_by = _run_of_labels(root, head)
    differing = _differing(made_by, asked) if made_by else {}
    start = f"{public_uri(root.uri)} holds labels made with other settings"
    if made_by and _rule_alone_differs(made_by, asked):
        there, here = Rule.from_settings(made_by.settings), _rule_in_the_end(asked)
        command = f"hmsa-label rethreshold {_options(there, here)} --store {shlex.quote(public_uri(root.uri))}"
        return (
            f"{start} (threshold {there}, not {here}); `{command}` changes it without the teacher, --relabel labels "
            "everything again"
        )
    detail = f" ({_spell(differing)})" if differing else ""
    every = " of all images" if _selects(asked) else ""
    return f"{start}{detail}; --relabel{every} replaces them as a new version, or label into another store with --store"


def _rule_alone_differs(made_by: Run, asked: Run) -> bool:
    """Whether two runs differ in their rules, and the labels keep at least the evidence that is asked for."""
    differing = differences(made_by, asked)
    there, here = differing.pop("evidence", ([], []))
    enough = isinstance(there, list) and isinstance(here, list) and set(here) <= set(there)
    return enough and bool(differing) and set(differing) <= {"threshold", "rule"}


def _rule_in_the_end(asked: Run) -> Rule | None:
    """The rule that the labels shall have when the whole call is over."""
    return Rule.from_settings(asked.record.get("leads_to") or asked.settings)


def _differing(stored: Run, asked: Run) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by name: (there, here); rules as people read them."""
    differing = differences(stored, asked)
    if "rule" in differing:
        differing["rule"] = (Rule.from_settings(stored.settings), _rule_in_the_end(asked))
        differing.pop("threshold", None)
    return differing


def _options(there: Rule | None, here: Rule | None) -> str:
    """The options of `rethreshold` that lead from one rule to the other."""
    old, new = ({} if rule is None else {"threshold": rule.threshold, **rule.more} for rule in (there, here))
    follow = {"best_from"}  # from other fields
    follow |= {"threshold", "class_thresholds"} if "class_share" in new else {"share_cap"}
    follow |= set() if "best_share" in new else {"best_by"}
    names = [field.name for field in fields(Rule) if field.name not in follow]
    pairs = [(name, new.get(name)) for name in names if old.get(name) != new.get(name)]
    return " ".join(f"--{_OPTIONS.get(name, name.replace('_', '-'))} {_spelled(name, value)}" for name, value in pairs)


def _spelled(name: str, value: Any) -> str:
    """A field of a rule as a shell takes it; `off`, or 0 where that is a number, for one at its default."""
    if name == "mask":
        return "off" if value is None else "FILE"
    if isinstance(value, dict):
        return shlex.quote(",".join(f"{of}={one}" for of, one in value.items()))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if value is not None else "0" if name in _NUMBERS else "off"


def _selects(asked: Run) -> bool:
    """Whether a run is about some of the images that the store may hold already."""
    data = asked.record["data"]
    return bool(data.get("only_new") or data.get("keys"))


def _run_of_labels(root: FileRoot, head: Commit) -> Run | None:
    """A run whose fingerprint the store's labels have, newest first; None if its record cannot be read."""
    if head.run and (run := read_run(root, head.run)).fingerprint == head.fingerprint:
        return run  # saves reading the whole log
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
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
