"""gc deletes what nothing needs, and never what somebody does."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelMissing, StoreConflict
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import mark_pruned, tag


def objects(uri: str) -> set[Path]:
    return {path for path in (Path(uri) / "data").rglob("*") if path.is_file()}


def two_versions(uri: str, labels: Any) -> tuple[int, int]:
    labels.fill(uri)
    labels.fill(uri, teacher="b", relabel=True, seed=99)
    return tuple(entry.version for entry in store_log(uri))


def test_nothing_is_deleted_unless_asked(uri: str, labels: Any) -> None:
    two_versions(uri, labels)
    before = objects(uri)
    plan = gc(uri, keep_last=1)
    assert plan.objects > 0
    assert plan.bytes == sum((Path(uri) / path).stat().st_size for path in plan.paths)
    assert not plan.applied
    assert objects(uri) == before


def test_every_finished_version_is_kept_by_default(uri: str, labels: Any) -> None:
    versions = two_versions(uri, labels)
    assert gc(uri, apply=True).objects == 0
    for version in versions:
        assert verify(uri, version) == []


def test_only_the_last_versions_are_kept_when_asked(uri: str, labels: Any) -> None:
    first, second = two_versions(uri, labels)
    done = gc(uri, keep_last=1, apply=True)
    assert (done.pruned, done.applied) == ([first], True)
    assert verify(uri, second) == []
    with pytest.raises(LabelMissing, match=f"version {first} .* was pruned by gc"):
        LabelStore.open(uri, first)
    assert [entry.pruned for entry in store_log(uri)] == [True, False]
    assert gc(uri, keep_last=1).objects == 0


def test_deletion_is_in_the_audit_trail(uri: str, labels: Any) -> None:
    two_versions(uri, labels)
    done = gc(uri, keep_last=1, apply=True)
    entry = store_log(uri, progress=True)[-1]
    assert entry.kind == "gc"
    assert f"deletes {done.objects} objects" in entry.note


def test_a_tagged_version_is_kept(uri: str, labels: Any) -> None:
    first, _ = two_versions(uri, labels)
    tag(uri, "paper", first)
    assert gc(uri, keep_last=1, apply=True).objects == 0
    assert verify(uri, "paper") == []


def test_a_pruned_version_cannot_be_tagged_or_rolled_back_to(uri: str, labels: Any) -> None:
    first, _ = two_versions(uri, labels)
    gc(uri, keep_last=1, apply=True)
    with pytest.raises(LabelMissing, match="pruned by gc"):
        tag(uri, "paper", first)
    with pytest.raises(LabelMissing, match="pruned by gc"):
        rollback(uri, first)


def test_evidence_that_newer_labels_point_at_is_kept(uri: str, labels: Any) -> None:
    labels.fill(uri)
    rethreshold(uri, 0.5)
    gc(uri, keep_last=1, apply=True)
    assert verify(uri) == []
    rethreshold(uri, 0.95)
    assert verify(uri) == []


def test_rows_of_an_open_run_are_kept(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    receipts = [run.write("a"), run.write("b")]
    assert gc(uri, apply=True).objects == 0
    run.writer.append(receipts)
    run.writer.finish()
    assert verify(uri) == []


def test_rows_of_an_interrupted_relabeling_are_kept(uri: str, labels: Any) -> None:
    labels.fill(uri)
    labels.begin(uri, teacher="b", relabel=True).write("a", seed=99)
    gc(uri, keep_last=1, apply=True)
    again = labels.begin(uri, teacher="b", relabel=True)
    assert again.writer.adopt() == 1


def test_a_discarded_run_is_deleted_whole(uri: str, labels: Any) -> None:
    labels.fill(uri)
    before = objects(uri)
    run = labels.begin(uri)
    run.writer.append([run.write("d")])
    rollback(uri, 3)
    gc(uri, apply=True)
    assert objects(uri) == before


def test_rows_that_lost_to_an_earlier_receipt_are_deleted(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a", seed=1), run.write("a", seed=2)])
    run.writer.finish()
    assert gc(uri, apply=True).objects == 4  # label, top1, code and receipt of the second
    assert verify(uri) == []


def test_a_second_job_of_a_finished_run_cannot_commit_what_gc_took(uri: str, labels: Any) -> None:
    one, two = labels.begin(uri), labels.begin(uri)
    one.writer.append([one.write("a")])
    lost = two.write("b")
    one.writer.finish()
    gc(uri, apply=True)
    with pytest.raises(StoreConflict, match="finished by another job and gc has deleted"):
        two.writer.append([lost])


def test_left_overs_of_a_crash_are_deleted(uri: str, labels: Any) -> None:
    labels.fill(uri)
    segment = LabelStore.open(uri).receipt("a").segment
    names = [f"data/{segment}/16x24/label/.c.7.0.0.0badcafe.partial", "runs/.r.json.0badcafe.partial",
             ".zarr.json.0badcafe.partial", ".probe-0badcafe/round-0", "manifest/_delta_log/1.json#1"]  # fmt: skip
    old, young = ([Path(uri, name) for name in found] for found in (names, [f"{name}{1}" for name in names[4:]]))
    young.append(Path(uri) / "runs/.mine.json.0badcafe.partial")  # of a writer who is at it
    for path in [*old, *young]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (0, time.time() - 7200))
    assert sorted(gc(uri).paths) == sorted(names)
    gc(uri, apply=True)
    assert not [path for path in [*old, Path(uri, ".probe-0badcafe")] if path.exists()]
    assert all(path.exists() for path in young)
    assert verify(uri) == []


def test_versions_are_pruned_by_their_age(uri: str, labels: Any) -> None:
    first, second = two_versions(uri, labels)
    assert gc(uri, older_than=3600).pruned == []
    assert gc(uri, older_than=0, keep_last=2).pruned == []
    assert gc(uri, older_than=0, apply=True).pruned == [first]
    assert gc(uri, older_than=0).pruned == []
    assert verify(uri, second) == []
    with pytest.raises(ValueError, match="--older-than must be at least 0 seconds; got -1"):
        gc(uri, older_than=-1)


def test_a_reader_whose_version_is_pruned_while_it_is_open_is_told_so(uri: str, labels: Any) -> None:
    two_versions(uri, labels)
    reader, fresh = LabelStore.open(uri, 3), LabelStore.open(uri, 3)
    reader.read("a")
    gc(uri, keep_last=1, apply=True)
    for read in (reader.read, reader.read_evidence, fresh.read_evidence):
        with pytest.raises(LabelMissing, match=r"version 3 of .* was pruned by gc at 20\d\d-"):
            read("b")


def test_two_collections_at_once_do_not_disturb_each_other(uri: str, labels: Any) -> None:
    first, second = two_versions(uri, labels)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: gc(uri, keep_last=1, apply=True), range(2)))
    mark_pruned(FileRoot(uri), first, 0)  # as one does that is slower still
    assert verify(uri, second) == []


def test_keeping_no_version_is_refused(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(ValueError, match="--keep-last must be at least 1"):
        gc(uri, keep_last=0)
