"""What is wrong with the history of a store: versions' rows, runs, outcomes, tags, marks, the end of the log."""

import contextlib
from collections.abc import Iterator

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.layout import log_path
from hmsa_label.stores.manifest.pixel_objects import size_faults
from hmsa_label.stores.manifest.table import Commit, Manifest
from hmsa_label.stores.runs.record import outcome_faults, read_outcomes, read_run
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.tags import pruned_versions, read_mark, tag_faults

Faults = Iterator[tuple[str, str]]  # kind as in `Problem`, one line for people


def history_faults(root: FileRoot, commits: list[Commit], runs: set[str], *, newest: int) -> Faults:
    """(kind, detail) of each fault.

    Args:
        commits: those of the whole log that read; newest: the last version that the log has a file of.
        runs: those that versions' rows name.
    """
    yield from (("tag", fault) for fault in tag_faults(root, commits))
    yield from _chain_faults(commits)
    yield from _run_faults(root, commits, runs)
    yield from _pruned_faults(root, commits)
    yield from _log_end_faults(root, commits, newest)


def rows_faults(store: LabelStore) -> list[str]:
    """What is wrong with the rows of one version, by its commit."""
    faults, rows, own = [], store.rows.table(["key"]).num_rows, store.commit.version == store.version
    where = f"version {store.version}"
    if len(store) != rows:
        faults.append(f"{where}: some image has more than one row")
    if own and store.commit.images != rows:
        faults.append(f"{where} has {rows} rows, committed were {store.commit.images}")
    if own and store.commit.is_finished and store.digest != store.commit.digest:
        faults.append(f"{where}: the rows hash to {store.digest}, committed was {store.commit.digest}")
    return faults


def _chain_faults(commits: list[Commit]) -> Faults:
    """The chain of digests from version to version."""
    known = {commit.version: commit for commit in commits}
    for commit in (commit for commit in commits if commit.is_finished and commit.parent in known):
        parent = known[int(str(commit.parent))]  # one whose log file is damaged is named by that
        if not parent.is_finished or parent.digest != commit.parent_digest:
            yield "manifest", f"version {commit.version} does not follow from its parent {commit.parent}"


def _run_faults(root: FileRoot, commits: list[Commit], runs: set[str]) -> Faults:
    """Records of the runs that log and rows name, against the digests in the log; outcomes of their attempts."""
    began = {commit.run: commit.run_sha256 for commit in commits if commit.run and commit.run_sha256}
    for run_id in sorted({*began, *runs}):
        try:
            run = read_run(root, run_id)
        except (LabelMissing, LabelCorrupt) as error:
            yield "run", str(error)
        else:
            if began.get(run_id, run.sha256) != run.sha256:
                yield "run", f"the record of run {run_id} is not the one that the run began with"
        yield from (("run", fault) for fault in outcome_faults(root, run_id, commits))


def _pruned_faults(root: FileRoot, commits: list[Commit]) -> Faults:
    """Versions that gc pruned and that lost their marks, so that they look whole in the log; pixels are gone though."""
    manifest = Manifest(root.uri, root.storage_options)
    marked = pruned_versions(root)
    for commit in commits:
        for version in sorted(set(commit.pruned) - marked):
            with contextlib.suppress(LabelCorrupt, LabelMissing):  # the version's own damage
                if any(kind == "missing" for _, kind, _ in size_faults(manifest.at(version).rows())):
                    yield "tag", f"{layout.PRUNED}/{version}.json is gone; gc pruned version {version}"


def _log_end_faults(root: FileRoot, commits: list[Commit], newest: int) -> Faults:
    """Versions that outcomes and marks of gc tell of and that the log does not reach: its newest files are gone."""
    told: dict[int, str] = {}
    for run_id in root.list_names(layout.RUNS):
        with contextlib.suppress(LabelCorrupt):  # told by _run_faults
            outcomes = read_outcomes(root, run_id, commits)
            told |= {int(outcome["version"]): f"run {run_id}" for outcome in outcomes if "version" in outcome}
    for version in pruned_versions(root):
        with contextlib.suppress(LabelCorrupt):  # told by tag_faults
            told[int(read_mark(root, version)["pruned_by"])] = f"the mark of version {version}"
    for version in sorted(version for version in told if version > newest):
        yield "manifest", f"{log_path(version)} is gone; {told[version]} tells of version {version}"
