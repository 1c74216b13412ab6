"""Provenance: one immutable record per run, one outcome per attempt, and the rules of which runs may share a store.

The file of an outcome comes first, then the commit that ends the attempt and carries the file's digest, so that the log
tells of every outcome that is lost. A file that no commit names was left by an attempt that was killed in between.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hmsa_label.stores.credentials import hide_in_record, secret_values
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot, create_bytes, join, public_uri
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.format.forms import printable
from hmsa_label.stores.format.layout import RUNS
from hmsa_label.stores.format.records import OUTCOME, RUN, parse_record, parse_sealed
from hmsa_label.stores.manifest.table import PAUSE, Commit

# A run resumes only on the data it was begun with.
DATA_FIELDS = ("dataset", "root", "split", "only_new", "keys")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's record as stored under `runs/<id>.json`.

    Attributes:
        record: what was given, credentials removed, with `run`, `kind` and `began_at` added.
        sha256: hex digest of the stored bytes; the commit that begins the run carries it.
    """

    id: str
    record: dict[str, Any]
    sha256: str

    @property
    def kind(self) -> str:
        return str(self.record["kind"])

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.record["settings"])

    @property
    def teacher_sha256(self) -> str | None:
        value = self.settings.get("teacher_sha256")
        return None if value is None else str(value)

    @property
    def threshold(self) -> float | None:
        value = self.settings.get("threshold")
        return None if value is None else float(value)

    @property
    def note(self) -> str | None:
        """What the log shall say of its version beside its kind."""
        value = self.record.get("note")
        return None if value is None else str(value)

    @property
    def rule(self) -> dict[str, Any] | None:
        """What decides beside the threshold, as settings hold it; None if nothing does."""
        return self.settings.get("rule") or None

    def resumes(self, other: "Run") -> bool:
        """Whether `other` is the same work begun again: kind, fingerprint and data agree."""
        return (self.kind, self.fingerprint, self._data()) == (other.kind, other.fingerprint, other._data())

    def _data(self) -> list[Any]:
        return [self.record["data"].get(name) for name in DATA_FIELDS]


def fingerprint_of(settings: dict[str, Any]) -> str:
    """Hex sha256 of settings in any order; equal when labels of two runs may stand side by side."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def new_run(record: dict[str, Any], kind: str, secrets_to_hide: dict[str, Any] | None = None) -> Run:
    """A run that is not stored yet.

    Args:
        record: JSON-able provenance with `settings`, which the fingerprint is taken from; `data` is empty without.

    Raises:
        ValueError: if it has no settings, or a field of it cannot be read back.
    """
    if not record.get("settings"):
        raise ValueError("a run's record needs `settings`: all that changes a label's pixels")
    run_id = unique_id()
    facts = {"run": run_id, "kind": kind, "began_at": _utc("%Y-%m-%dT%H:%M:%SZ")}
    record = {"data": {}, **record, **facts, "fingerprint": fingerprint_of(record["settings"])}
    record = printable(hide_in_record(record, secret_values(secrets_to_hide)))
    if fault := RUN.fault(record, ""):
        raise ValueError(f"a run's record is badly formed: {fault}")
    return Run(id=run_id, record=record, sha256=hashlib.sha256(_body(record)).hexdigest())


def write_run(root: FileRoot, run: Run) -> None:
    """Stores a run's record; it can never be rewritten."""
    filesystem, path = root.open()
    create_bytes(filesystem, join(path, RUNS, f"{run.id}.json"), _body(run.record))


def read_run(root: FileRoot, run_id: str) -> Run:
    """The record of a run.

    Raises:
        LabelMissing: if it is gone.
        LabelCorrupt: if it is damaged.
    """
    path = f"{RUNS}/{run_id}.json"
    try:
        body = root.read(path)
    except FileNotFoundError:
        raise LabelMissing(f"the record of run {run_id} is gone from {public_uri(root.uri)}/{RUNS}") from None
    record = parse_record(body, RUN, path)
    if record["run"] != run_id:
        raise LabelCorrupt(f"{path} is the record of run {record['run']}")
    return Run(id=run_id, record=record, sha256=hashlib.sha256(body).hexdigest())


def write_outcome(root: FileRoot, run_id: str, outcome: dict[str, Any]) -> str:
    """Stores an outcome under its `attempt`; the hex sha256 of the file.

    Raises:
        FileExistsError: if that attempt has another one.
    """
    filesystem, path = root.open()
    body = self_digest.to_bytes(outcome)
    create_bytes(filesystem, join(path, _outcome_path(run_id, outcome["attempt"])), body)
    return hashlib.sha256(body).hexdigest()


def read_outcomes(root: FileRoot, run_id: str, commits: Iterable[Commit] = ()) -> list[dict[str, Any]]:
    """Outcomes of a run's attempts, oldest first.

    Args:
        commits: those of the whole log; without them a lost file goes unnoticed and `version` is missing.

    Raises:
        LabelCorrupt: if the file of one is damaged, another's, or lost.
    """
    ended = _endings(commits, run_id)
    outcomes = [_read_outcome(root, run_id, attempt, ended.get(attempt)) for attempt in _attempts(root, run_id, ended)]
    return sorted(outcomes, key=lambda outcome: (str(outcome["began_at"]), str(outcome["ended_at"])))


def outcome_faults(root: FileRoot, run_id: str, commits: Iterable[Commit]) -> list[str]:
    """What is wrong with a run's outcomes, a line for each damaged or lost file."""
    ended, faults = _endings(commits, run_id), []
    for attempt in _attempts(root, run_id, ended):
        try:
            _read_outcome(root, run_id, attempt, ended.get(attempt))
        except LabelCorrupt as error:
            faults.append(str(error))
    return faults


def describe(run: Run) -> str:
    """One line for people: what the run is, since when, and where."""
    host = run.record.get("host")
    return f"run {run.id} ({run.kind}, begun {run.record['began_at']}{f' on {host}' if host else ''})"


def differences(stored: Run, asked: Run) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by name: (there, here)."""
    there, here = stored.settings, asked.settings
    names = sorted({*there, *here})
    return {name: (there.get(name), here.get(name)) for name in names if there.get(name) != here.get(name)}


def unique_id() -> str:
    """UTC time and random hex: sorts by time, unique without asking anybody."""
    return f"{_utc('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def _utc(spelling: str) -> str:
    return datetime.now(UTC).strftime(spelling)


def _endings(commits: Iterable[Commit], run_id: str) -> dict[str, Commit]:
    """The commits that ended a run's attempts, by attempt."""
    return {commit.attempt: commit for commit in commits if commit.run == run_id and commit.attempt is not None}


def _attempts(root: FileRoot, run_id: str, ended: dict[str, Commit]) -> list[str]:
    names = root.list_names(f"{RUNS}/{run_id}")
    return sorted({*ended, *(name.removesuffix(".json") for name in names if name.endswith(".json"))})


def _read_outcome(root: FileRoot, run_id: str, attempt: str, commit: Commit | None) -> dict[str, Any]:
    """One outcome, with the `version` that holds its work if a commit ended the attempt."""
    path = _outcome_path(run_id, attempt)
    try:
        body = root.read(path)
    except FileNotFoundError:
        version = commit.version if commit else "?"
        raise LabelCorrupt(f"{path} is gone; version {version} ended that attempt at run {run_id}") from None
    outcome = parse_sealed(body, OUTCOME, path)
    if outcome["attempt"] != attempt:
        raise LabelCorrupt(f"{path} is the outcome of attempt {outcome['attempt']}")
    if commit is None:
        return outcome
    if hashlib.sha256(body).hexdigest() != commit.outcome_sha256:
        raise LabelCorrupt(f"{path} is not the outcome that version {commit.version} was committed with")
    return {**outcome, "version": commit.version if commit.kind == PAUSE else commit.finished}


def _outcome_path(run_id: str, attempt: str) -> str:
    return f"{RUNS}/{run_id}/{attempt}.json"


def _body(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()
