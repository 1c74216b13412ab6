"""The driver's side of one run: begin or resume, append receipts, adopt lost ones, finish as a version.

A plain run appends rows in small commits, which readers do not see before the finishing commit. A run that replaces
labels (relabel, rethreshold) keeps its receipts aside and commits all of them at once, so that an abandoned one leaves
nothing behind.
"""

from typing import Any

import pyarrow as pa

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format.identity import read_identity
from hmsa_label.stores.format.receipt import Receipt, now, to_table
from hmsa_label.stores.manifest import table as m
from hmsa_label.stores.manifest.table import DIGESTED, Change, Commit, Manifest, Snapshot, content_digest
from hmsa_label.stores.runs.adoption import find_receipts
from hmsa_label.stores.runs.may_begin import check_may_begin
from hmsa_label.stores.runs.record import new_run, read_run, unique_id, write_outcome, write_run

MAX_FILES = 8  # more Parquet files than this are rewritten as one when a run finishes


class RunWriter:
    """One attempt at one run.

    Args:
        run: JSON-able provenance. `settings` holds all and only what changes a label's pixels (teacher_sha256, scales,
            flip, fusion, precision, threshold, classes); the fingerprint is taken from it. `data` with
            `dataset`, `root`, `split` decides which unfinished run this one resumes.
        relabel: replace labels that exist, as a new version.
        kind: `rethreshold` for a run that makes new labels from stored evidence; else leave it out.

    Raises:
        StoreConflict: if the store holds labels made otherwise, or an unfinished run of another kind; with the way out.
        NotAStore: if there is no store.
    """

    def __init__(
        self,
        store_uri: str,
        run: dict[str, Any],
        *,
        relabel: bool = False,
        kind: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        self.root = FileRoot(store_uri, dict(storage_options or {}))
        self.identity = read_identity(self.root)
        self.manifest = Manifest(store_uri, storage_options)
        self.attempt = unique_id()
        self.began_at = now()
        self.labeled = 0
        self._staged: dict[str, Receipt] = {}
        self._known: tuple[int, set[str]] = (-1, set())
        self._keys_of: dict[str, set[str]] = {}  # by data file, which never changes
        self._ending: dict[str, str] = {}  # fields of the commit that ends this attempt
        self.run = new_run(run, kind or (m.RELABEL if relabel else m.LABEL), storage_options)
        self.resumed = False
        self._begin()

    @property
    def run_id(self) -> str:
        """Id of the run, the same for every attempt at it."""
        return self.run.id

    @property
    def replaces(self) -> bool:
        """Whether the run's labels take the place of others, all at once."""
        return self.run.kind != m.LABEL

    def done_keys(self) -> set[str]:
        """Images that need no work: those with a label; in a run that replaces labels, those it has replaced."""
        if self.replaces:
            return set(self._staged)
        return set(self._keys_at(self.manifest.head()))

    def rows(self, columns: list[str]) -> pa.Table:
        """Rows of the version that `finish` would make now."""
        head = self.manifest.head()
        if not self._staged:
            return head.table(columns)
        kept = m.without_keys(head.table(list(dict.fromkeys(["key", *columns]))), set(self._staged))
        return pa.concat_tables([kept.select(columns), to_table(self._staged.values()).select(columns)])

    def adopt(self) -> int:
        """Takes over receipts of earlier attempts that never reached the manifest; their number.

        Each is checked against its pixels first. One whose pixels are damaged or gone is left out, and its image is
        labeled again.
        """
        found = find_receipts(self.root, self.run_id, known=self._known_places(), done=self.done_keys())
        if found:
            self.append(found)
            self.labeled -= len(found)
        return len(found)

    def append(self, receipts: list[Receipt]) -> int:
        """Commits receipts; the version they are in. The first receipt of an image wins, later ones are dropped.

        Raises:
            StoreConflict: if the labels were rolled back or replaced while this run was on.
        """
        if self.replaces:
            for receipt in receipts:
                self._staged.setdefault(receipt.key, receipt)
            self.labeled += len(receipts)
            return self.base.version
        commit = self.manifest.transact(lambda head: self._append_to(head, receipts))
        if commit.version == self._known[0] + 1 and commit.kind == m.PROGRESS:
            self._known[1].update(receipt.key for receipt in receipts)
            self._known = (commit.version, self._known[1])
        self.labeled += len(receipts)  # last: after an error the same receipts come again
        return commit.version

    def finish(
        self, failures: list[dict[str, str]] | None = None, seconds: float = 0.0, interrupted: bool = False
    ) -> int:
        """Ends this attempt; the version that holds its work.

        Interrupted: the run stays open and the newest progress version comes back. Else: a finished version, or the
        last one if the run changed nothing.

        Args:
            failures: images that could not be labeled, as {"key", "reason"}.
        """
        self._write_outcome({"failures": failures or [], "seconds": seconds, "interrupted": interrupted})
        if not interrupted:
            return self.manifest.transact(self._replace_rows if self.replaces else self._mark_finished).finished
        begun_for_nothing = not self.labeled and not self.resumed  # nothing to resume, so nothing stays open
        commit = self.manifest.transact(self._close if begun_for_nothing else self._pause)
        return self.base.version if self.replaces else commit.version

    def abandon(self) -> None:
        """Ends this attempt and closes the run, whatever it has done so far, so that it stands in nobody's way.

        What a plain run has committed is published with the next version; what a replacing one wrote is garbage.
        """
        self._write_outcome({"failures": [], "seconds": 0.0, "interrupted": True})
        self.manifest.transact(self._close)

    def _known_places(self) -> set[tuple[str, int]]:
        """(segment, row) of the receipts that `done_keys` counts."""
        if self.replaces:
            # Not those at the head: if another driver has finished the run, its receipts are there, but not yet here.
            return {(receipt.segment, receipt.row) for receipt in self._staged.values()}
        rows = self.manifest.head().table(["segment", "row"])
        return set(zip(rows["segment"].to_pylist(), rows["row"].to_pylist(), strict=True))

    def _write_outcome(self, outcome: dict[str, Any]) -> None:
        """Writes the outcome before the commit that names it. `finish` once more, after an error, is a new attempt."""
        if self._ending:
            self.attempt = unique_id()
        self._ending = {"attempt": self.attempt}
        facts = {**self._ending, "began_at": self.began_at, "ended_at": now(), "images_labelled": self.labeled}
        self._ending["outcome_sha256"] = write_outcome(self.root, self.run_id, {**facts, **outcome})

    def _begin(self) -> None:
        stored = False

        def decide(head: Snapshot) -> Change | None:
            nonlocal stored
            open_runs = [read_run(self.root, run_id) for run_id in head.commit.open_runs]
            same = next((run for run in open_runs if run.resumes(self.run)), None)
            if same is not None:
                self.run, self.resumed = same, True
                return None
            check_may_begin(self.root, head.commit, open_runs, self.run)
            if not stored:
                write_run(self.root, self.run)
                stored = True
            opened = (*head.commit.open_runs, self.run_id)
            commit = head.commit.successor(
                m.BEGIN,
                open_runs=opened,
                run=self.run_id,
                run_sha256=self.run.sha256,
                threshold=self.run.threshold,
                rule=self.run.rule,
                teacher_sha256=self.run.teacher_sha256,
                images=head.count(),
            )
            return Change(commit=commit)

        self.base = self.manifest.transact(decide)

    def _append_to(self, head: Snapshot, receipts: list[Receipt]) -> Change | None:
        known = self._keys_at(head)
        fresh = {receipt.key: receipt for receipt in reversed(receipts) if receipt.key not in known}
        if not fresh:
            return None
        self._check_still_wanted(head.commit)
        opened = tuple(dict.fromkeys((*head.commit.open_runs, self.run_id)))
        commit = head.commit.successor(
            m.PROGRESS,
            run=self.run_id,
            open_runs=opened,
            fingerprint=self.run.fingerprint,
            threshold=self.run.threshold,
            rule=self.run.rule,
            teacher_sha256=self.run.teacher_sha256,
            images=len(known) + len(fresh),
        )
        return Change(commit=commit, append=to_table(fresh.values()))

    def _mark_finished(self, head: Snapshot) -> Change | None:
        digest = content_digest(head.table(DIGESTED.names))
        if digest == head.commit.finished_digest:
            return self._close(head)
        self._check_still_wanted(head.commit)
        commit = self._finished_commit(head, m.LABEL, head.count(), digest)
        crowded = len(head.files) > MAX_FILES
        return Change(commit=commit, rewrite=head.table() if crowded else None)

    def _replace_rows(self, head: Snapshot) -> Change | None:
        if not self._staged:
            return self._close(head)
        if self.run_id not in head.commit.open_runs:
            if any(commit.run == self.run_id and commit.kind == self.run.kind for commit in self.manifest.log()):
                return None  # by an earlier call, whose answer was lost, or by another driver of the run
            raise StoreConflict(
                f"run {self.run_id} was discarded by a roll back while it was on; nothing was changed, start it again"
            )
        rows = to_table(self._staged.values())
        table = pa.concat_tables([m.without_keys(head.table(), set(self._staged)), rows])
        commit = self._finished_commit(
            head, self.run.kind, table.num_rows, content_digest(table), epoch=head.version + 1
        )
        return Change(commit=commit, rewrite=table)

    def _finished_commit(self, head: Snapshot, kind: str, images: int, digest: str, **state: Any) -> Commit:
        return head.commit.successor(
            kind,
            finished=head.version + 1,
            finished_digest=digest,
            fingerprint=self.run.fingerprint,
            open_runs=tuple(run for run in head.commit.open_runs if run != self.run_id),
            parent=head.commit.finished,
            parent_digest=head.commit.finished_digest,
            digest=digest,
            images=images,
            threshold=self.run.threshold,
            rule=self.run.rule,
            teacher_sha256=self.run.teacher_sha256,
            run=self.run_id,
            run_sha256=self.run.sha256,
            note=self.run.note,
            **self._ending,
            **state,
        )

    def _close(self, head: Snapshot) -> Change | None:
        """Ends a run that changed nothing; no new version for readers."""
        return self._end(head, m.CLOSE, tuple(run for run in head.commit.open_runs if run != self.run_id))

    def _pause(self, head: Snapshot) -> Change | None:
        """Ends this attempt at a run that stays as it is."""
        return self._end(head, m.PAUSE, head.commit.open_runs)

    def _end(self, head: Snapshot, kind: str, open_runs: tuple[str, ...]) -> Change | None:
        if head.commit.attempt == self.attempt:  # committed, but the storage's answer was lost
            return None
        images = head.count()
        return Change(
            commit=head.commit.successor(kind, open_runs=open_runs, run=self.run_id, images=images, **self._ending)
        )

    def _check_still_wanted(self, commit: Commit) -> None:
        if commit.epoch != self.base.epoch:
            raise StoreConflict(
                f"labels of {public_uri(self.root.uri)} were replaced or rolled back (version {commit.epoch}) while "
                f"run {self.run_id} was on; start it again to go on from there"
            )

        if self.run_id not in commit.open_runs and commit.collected > self.base.version:
            raise StoreConflict(
                f"run {self.run_id} was finished by another job and gc has deleted its unused pixels since; start again"
            )

    def _keys_at(self, head: Snapshot) -> set[str]:
        """Keys with a label at the head; when another writer has committed since, the files that came are read."""
        if self._known[0] != head.version:
            new = [file for file in head.files if file.path not in self._keys_of]
            self._keys_of |= {file.path: set(head.rows_in([file]).table(["key"])["key"].to_pylist()) for file in new}
            self._keys_of = {file.path: self._keys_of[file.path] for file in head.files}
            self._known = (head.version, set().union(*self._keys_of.values()))
        return self._known[1]
