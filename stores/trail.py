"""What is wrong with the history behind a version: rows, runs, outcomes, tags, marks, the end of the log."""

import contextlib
from collections.abc import Iterator

from hmsa_label.stores import schema
from hmsa_label.stores.delta_actions import log_path
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.label_store import LabelStore
from hmsa_label.stores.manifest import Commit, Manifest
from hmsa_label.stores.objects import size_faults
from hmsa_label.stores.runs import outcome_faults, read_outcomes, read_run
from hmsa_label.stores.tags import pruned_versions, read_mark, tag_faults

Faults = Iterator[tuple[str, str]]  # kind as in `Problem`, one line for people


def trail_faults(store: LabelStore, commits: list[Commit], runs: set[str]) -> Faults:
    """(kind, detail) of each fault; `commits` are those of the whole log, `runs` those that the version's rows name."""
    yield from (("tag", fault) for fault in tag_faults(store.root, commits))
    yield from _manifest_faults(store, commits)
    yield from _run_faults(store, commits, runs)
    yield from _pruned_faults(store, commits)
    yield from _log_end_faults(store, commits)


def _manifest_faults(store: LabelStore, commits: list[Commit]) -> Faults:
    """Rows against the content digest in the commit; the chain of digests from version to version."""
    if store.commit.is_finished and store.commit.version == store.version and store.digest != store.commit.digest:
        yield "manifest", f"the rows hash to {store.digest}, committed was {store.commit.digest}"
    if len(store) != store.rows.table(["key"]).num_rows:
        yield "manifest", "some image has more than one row"
    finished = {commit.version: commit for commit in commits if commit.is_finished}
    for commit in finished.values():
        parent = finished.get(commit.parent) if commit.parent is not None else None
        if commit.parent is not None and (parent is None or parent.digest != commit.parent_digest):
            yield "manifest", f"version {commit.version} does not follow from its parent {commit.parent}"


def _run_faults(store: LabelStore, commits: list[Commit], runs: set[str]) -> Faults:
    """Records of the runs that log and rows name, against the digests in the log; outcomes of their attempts."""
    began = {commit.run: commit.run_sha256 for commit in commits if commit.run and commit.run_sha256}
    for run_id in sorted({*began, *runs}):
        try:
            run = read_run(store.root, run_id)
        except (LabelMissing, LabelCorrupt) as error:
            yield "run", str(error)
        else:
            if began.get(run_id) != run.sha256:
                yield "run", f"the record of run {run_id} is not the one that the run began with"
        yield from (("run", fault) for fault in outcome_faults(store.root, run_id, commits))


def _pruned_faults(store: LabelStore, commits: list[Commit]) -> Faults:
    """Versions that gc pruned and that lost their marks, so that they look whole in the log; pixels are gone though."""
    manifest = Manifest(store.root.uri, store.root.storage_options)
    marked = pruned_versions(store.root)
    for commit in commits:
        for version in sorted(set(commit.pruned) - marked):
            if any(kind == "missing" for _, kind, _ in size_faults(manifest.at(version).rows())):
                yield "tag", f"{schema.PRUNED}/{version}.json is gone; gc pruned version {version}"


def _log_end_faults(store: LabelStore, commits: list[Commit]) -> Faults:
    """Versions that outcomes and marks tell of and that the log does not reach: its newest files are gone.

    Marks of commits say so too, but stores of the first days have none.
    """
    newest = commits[-1].version
    told: dict[int, str] = {}
    for run_id in store.root.list_names(schema.RUNS):
        with contextlib.suppress(LabelCorrupt):  # told by _run_faults
            outcomes = read_outcomes(store.root, run_id, commits)
            told |= {int(outcome["version"]): f"run {run_id}" for outcome in outcomes if "version" in outcome}
    for version in pruned_versions(store.root):
        with contextlib.suppress(LabelCorrupt):  # told by tag_faults
            told[int(read_mark(store.root, version).get("pruned_by", 0))] = f"the mark of version {version}"
    for version in sorted(version for version in told if version > newest):
        yield "manifest", f"{log_path(version)} is gone; {told[version]} tells of version {version}"
