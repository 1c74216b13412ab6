"""Live and past runs of a store, told from what lies in the store alone, so from any machine.

A run that was killed cannot say so. On its own machine its missing process tells it; elsewhere it is one whose log has
no end and has been silent for longer than a living one ever is. Times are those of the driver's clock, compared with
the clock here.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from hmsa_label.pipeline.config import StoreConfig, StorePlace, store_config
from hmsa_label.pipeline.monitor.run_log import DRAINING, FINISHED, INTERRUPTED, RUNNING
from hmsa_label.stores.errors import LabelMissing, StoreError
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.format.layout import RUNS
from hmsa_label.stores.manifest.table import RETHRESHOLD, Commit, Manifest
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.runs.events import last_state, list_logs
from hmsa_label.stores.runs.presence import LIVE_SECONDS, Process, seconds_since
from hmsa_label.stores.runs.record import Run, read_outcomes, read_run

LIVE, DIED = "live", "died"
THREADS = 8  # reading is waiting
_COUNTS = ("images_total", "images_done", "images_failed", "images_per_second")
_DETAILS = ("seconds_left", "workers", "workers_ready", "restarts", "version", "error", "last_failures", "last_losses")


@dataclass(frozen=True, kw_only=True)
class RunState(Result):
    """A run, as far as its newest attempt tells.

    Attributes:
        threshold, rule: what decides which pixels become labels; rule is all but the threshold, None without more.
        state: live, draining, finished, interrupted, failed or died.
        host: of the driver. seen_at: its last sign of life.
        images_per_second: of the newest attempt.
    """

    run: str
    kind: str | None
    began_at: str | None
    threshold: float | None
    rule: dict[str, Any] | None
    host: str | None
    state: str
    images_total: int | None
    images_done: int | None
    images_failed: int | None
    images_per_second: float | None
    seen_at: str | None


@dataclass(frozen=True, kw_only=True)
class Attempt(Result):
    """One call of a run; `state` as of `RunState`."""

    attempt: str
    began_at: str | None
    host: str | None
    pid: int | None
    state: str
    images_labelled: int | None
    images_failed: int | None
    seen_at: str | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class RunStatus(RunState):
    """A run with its attempts, oldest first, and what its newest one tells.

    Attributes:
        seconds_left: estimated. restarts: workers that were replaced. version: that was committed last.
        error: why the attempt failed, in one line.
        last_failures: images that could not be labeled: `key` and `reason`.
        last_losses: workers that were lost: `worker`, `time` and `reason`.
    """

    seconds_left: float | None
    workers: int | None
    workers_ready: int | None
    restarts: int | None
    version: int | None
    error: str | None
    last_failures: list[dict[str, Any]] | None
    last_losses: list[dict[str, Any]] | None
    attempts: list[Attempt]


def list_runs(store: StorePlace) -> list[RunState]:
    """All runs of a store, newest first; what counts is the newest attempt at each.

    Raises:
        NotAStore: there is no store.
    """
    root = _open(store_config(store))
    commits = _commits(root)

    def state_of(run_id: str) -> RunState:
        return RunState(**_summary(root, run_id, _attempts(root, run_id, commits)))

    return list(map_threads(state_of, _run_ids(root), THREADS))


def run_status(store: StorePlace, run_id: str | None = None) -> RunStatus:
    """One run (None: the newest), with its attempts, workers, last failures and lost workers.

    Raises:
        NotAStore, LabelMissing: there is no such store or run.
    """
    place = store_config(store)
    root = _open(place)
    known = _run_ids(root)
    if run_id is None and not known:
        raise LabelMissing(f"no run has begun in {public_uri(place.uri)}")
    if run_id is not None and run_id not in known:
        raise LabelMissing(
            f"the store has no run {run_id}; `hmsa-label runs --store {public_uri(place.uri)}` lists them"
        )
    run_id = run_id or known[0]
    attempts = _attempts(root, run_id, _commits(root))
    newest = attempts[-1] if attempts else {}
    return RunStatus(
        **_summary(root, run_id, attempts),
        **_taken(newest, _DETAILS),
        attempts=[Attempt(**_taken(attempt, (field.name for field in fields(Attempt)))) for attempt in attempts],
    )


def _taken(facts: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: facts.get(name) for name in names}


def _open(store: StoreConfig) -> FileRoot:
    root = FileRoot(str(store.uri), dict(store.storage_options))
    read_identity(root)
    return root


def _run_ids(root: FileRoot) -> list[str]:
    """Ids of all runs, the newest first; they begin with their time."""
    return sorted((n.removesuffix(".json") for n in root.list_names(RUNS) if n.endswith(".json")), reverse=True)


def _summary(root: FileRoot, run_id: str, attempts: list[dict[str, Any]]) -> dict[str, Any]:
    run: Run | None = None
    with contextlib.suppress(StoreError):  # a damaged record is for verify to name
        run = read_run(root, run_id)
    record = run.record if run else {}
    newest = attempts[-1] if attempts else {"seen_at": record.get("began_at"), "state": _state_of({}, None)}
    return {
        "run": run_id,
        "kind": record.get("kind"),
        "began_at": record.get("began_at"),
        "threshold": run.threshold if run else None,
        "rule": run.rule if run else None,
        "host": newest.get("host") or record.get("host"),
        "state": newest["state"],
        **_taken(newest, _COUNTS),
        "seen_at": newest.get("seen_at"),
    }


def _commits(root: FileRoot) -> Callable[[], list[Commit]]:
    """Reads the log of the store when it is first asked for, which most runs do not need."""

    @functools.cache
    def read() -> list[Commit]:
        with contextlib.suppress(StoreError):  # a damaged log is for verify to name
            return Manifest(root.uri, root.storage_options).log()
        return []

    return read


def _attempts(root: FileRoot, run_id: str, commits: Callable[[], list[Commit]]) -> list[dict[str, Any]]:
    """What log and outcome tell of each attempt, oldest first."""
    outcomes: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(StoreError):  # damaged ones are for verify to name
        outcomes = {outcome["attempt"]: outcome for outcome in read_outcomes(root, run_id)}
    logs = list_logs(root, run_id)
    attempts = []
    for attempt in sorted({*outcomes, *logs}):
        state, outcome = last_state(root, logs.get(attempt, [])), outcomes.get(attempt)
        phase = _state_of(state, outcome)
        made = _from_version(commits(), run_id) if phase == FINISHED and not state else {}
        known = {**_from_outcome(outcome), **made, **state}
        attempts.append({**known, "attempt": attempt, "state": phase, "seen_at": known.get("time")})
    return sorted(attempts, key=lambda attempt: seconds_since(attempt.get("began_at")), reverse=True)


def _from_outcome(outcome: dict[str, Any] | None) -> dict[str, Any]:
    """What the outcome tells if there is no log; of the whole run only the log knows."""
    if outcome is None:
        return {}
    labeled, seconds = outcome["images_labelled"], outcome["seconds"]
    return {
        "began_at": outcome["began_at"],
        "time": outcome["ended_at"],
        "images_labelled": labeled,
        "images_failed": len(outcome["failures"]),
        "images_per_second": labeled / seconds if labeled and seconds else None,
    }


def _from_version(commits: list[Commit], run_id: str) -> dict[str, Any]:
    """What the version of a finished rethreshold tells, which keeps no log and is about every image of the store."""
    made = (commit for commit in commits if commit.run == run_id and commit.kind == RETHRESHOLD)
    return next(({"images_total": c.images, "images_done": c.images, "version": c.version} for c in made), {})


def _state_of(state: dict[str, Any], outcome: dict[str, Any] | None) -> str:
    phase = state.get("phase")
    if phase not in (None, RUNNING, DRAINING):
        return str(phase)
    if outcome is not None:
        return INTERRUPTED if outcome["interrupted"] else FINISHED
    alive = Process.from_dict(state.get("process")).is_alive
    if phase is not None and (seconds_since(state.get("time")) <= LIVE_SECONDS if alive is None else alive):
        return DRAINING if phase == DRAINING else LIVE
    return DIED
