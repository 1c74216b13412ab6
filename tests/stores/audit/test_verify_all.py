"""A look at every version finds damage that a look at the newest does not; what is damaged does not hide the rest."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.history import show
from hmsa_label.stores.audit.verify import Problem, verify, verify_store
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format import layout
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, tags


def chunk(uri: str, key: str, version: int | None = None, name: str = "label") -> Path:
    receipt = LabelStore.open(uri, version).receipt(key)
    return Path(uri) / layout.chunk_path(receipt.segment, receipt.height, receipt.width, name, receipt.row)


def rows_of(uri: str, version: int) -> Path:
    ((path, _),) = LabelStore.open(uri, version).rows.files
    return Path(uri) / "manifest" / path


def flip(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))


@pytest.fixture
def history(uri: str, labels: Any) -> str:
    """Version 3: labels of a, b and c; 5: b again, tagged `old`; 8: all at another threshold."""
    labels.fill(uri)
    labels.fill(uri, ["b"], seed=5, relabel=True)
    tag(uri, "old")
    rethreshold(uri, 0.5)
    assert [entry.version for entry in store_log(uri)] == [3, 5, 8]
    return uri


def test_every_version_is_looked_at_and_each_row_counts_once(history: str) -> None:
    found = verify_store(history, every=True)
    assert (found.problems, found.versions, found.images) == ([], [8, 5, 3, 0], 3 + 1 + 3)
    assert verify_store(history, every=True, deep=False) == found


def test_each_object_is_read_once_but_evidence_for_each_label_made_from_it(
    history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, pixels = FileRoot.read, []

    def recorded(root: FileRoot, path: str) -> bytes:
        pixels.extend([path] if "/c." in path else [])
        return read(root, path)

    monkeypatch.setattr(FileRoot, "read", recorded)
    verify_store(history, every=True, threads=1)
    labels = [path for path in pixels if "/label/" in path]
    assert len(labels) == len(set(labels)) == 7
    assert len(pixels) == 7 * 3


@pytest.mark.parametrize(("deep", "kind"), [(True, "corrupt"), (False, "size")])
def test_damage_to_an_older_version_is_found_with_the_newest_version_it_touches(
    history: str, deep: bool, kind: str
) -> None:
    path = chunk(history, "a", 3)
    path.write_bytes(path.read_bytes()[:-1])
    assert verify(history, deep=deep) == []
    found = [problem for problem in verify(history, every=True, deep=deep) if problem.kind == kind]
    assert [(problem.key, problem.version) for problem in found] == [("a", 5)]


def test_unfinished_progress_is_looked_at_too(uri: str, labels: Any) -> None:
    labels.fill(uri)
    run = labels.begin(uri)
    version = run.writer.append([run.write("d")])
    receipt = LabelStore.open(uri, "head").receipt("d")
    flip(Path(uri) / layout.chunk_path(receipt.segment, 16, 24, "label", receipt.row))
    assert verify(uri) == []
    (problem,) = verify(uri, every=True)
    assert (problem.key, problem.version) == ("d", version)


def test_rows_of_an_older_version_that_do_not_read_hide_nothing(history: str) -> None:
    flip(rows_of(history, 5))
    flip(chunk(history, "a", 3))
    found = verify_store(history, every=True)
    assert found.versions == [8, 3, 0]
    by_place = {(problem.key, problem.version) for problem in found.problems}
    assert by_place == {("", 5), ("a", 3)}
    with pytest.raises(LabelCorrupt):
        LabelStore.open(history, 5)
    assert verify(history) == []
    shown = show(history, "a")
    assert [(change.version, bool(change.unreadable)) for change in shown.history] == [
        (3, False),
        (5, True),
        (8, False),
    ]
    assert [entry.version for entry in store_log(history)] == [3, 5, 8]


def test_gc_keeps_whatever_a_kept_version_with_damaged_rows_may_need(history: str, labels: Any) -> None:
    old = chunk(history, "b", 5)
    flip(rows_of(history, 5))
    for teacher in "bc":
        labels.fill(history, teacher=teacher, relabel=True, threshold=0.5)
    garbage = gc(history, keep_last=1, apply=True)
    assert (garbage.kept, garbage.unreadable) == ([0, 5, 12], [5])
    assert 8 in garbage.pruned
    assert old.exists()
    assert verify(history) == []


def test_damaged_rows_of_a_pruned_version_break_nothing(history: str) -> None:
    flip(rows_of(history, 3))
    assert gc(history, keep_last=1, apply=True).pruned == [3]
    assert gc(history, keep_last=1).pruned == []
    assert [change.version for change in show(history, "a").history] == [3, 5, 8]
    assert verify(history, every=True) == []


def test_one_bad_tag_file_hides_no_other(history: str) -> None:
    tag(history, "new")
    path = Path(history) / "tags/old.json"
    sound = path.read_bytes()
    for body in (b"", b"{}", b"[1]", sound[:-20], sound.replace(b'"version": 5', b'"version": 3')):
        path.write_bytes(body)
        assert [entry.tags for entry in store_log(history)] == [[], ["old"], ["new"]]
        assert [entry.damaged_tags for entry in store_log(history)] == [[], ["old"], []]
        assert show(history).tags == ["new"]
        assert [record.version for record in tags(history)] == [8, 5]
        (problem,) = verify(history)
        assert (problem.kind, "audit tag old --version 5" in problem.detail) == ("tag", True)
        with pytest.raises(LabelCorrupt, match=r"tags/old\.json"):
            LabelStore.open(history, "old")
    assert tag(history, "old", 5).version == 5  # as the message says
    assert path.read_bytes() == sound
    assert verify(history) == []


def test_a_bad_tag_file_that_the_log_does_not_know_stops_pruning_alone(history: str) -> None:
    (Path(history) / "tags/unknown.json").write_bytes(b"{")
    assert [entry.tags for entry in store_log(history)] == [[], ["old"], []]
    assert gc(history, apply=True).pruned == []
    with pytest.raises(LabelCorrupt, match=r"nobody knows .*tags/unknown\.json"):
        gc(history, keep_last=1)
    (problem,) = verify(history)
    assert "delete it, and set the tag again" in problem.detail


def test_a_damaged_log_file_does_not_hide_other_damage(history: str) -> None:
    path = Path(history) / f"manifest/_delta_log/{8:020d}.json"
    path.write_bytes(b"")
    flip(chunk(history, "a", 3))
    (Path(history) / "tags/old.json").write_bytes(b"")
    kinds = {(problem.kind, problem.key) for problem in verify(history, every=True)}
    assert {("manifest", ""), ("corrupt", "a"), ("tag", "")} <= kinds


@pytest.mark.parametrize("body", [None, b"", b"{}", b"{", b'{"attributes": {}}'])
def test_a_lost_identity_is_named_and_no_run_makes_another(history: str, labels: Any, body: bytes | None) -> None:
    path = Path(history) / "zarr.json"
    path.unlink()
    if body is not None:
        path.write_bytes(body)
    (problem,) = verify(history, every=True)
    assert "zarr.json" in problem.detail
    for attempt in (lambda: LabelStore.open(history), lambda: labels.begin(history)):
        with pytest.raises(LabelCorrupt, match=r"zarr\.json .* put it back from a copy"):
            attempt()
    assert (path.read_bytes() if path.exists() else None) == body


def test_a_lost_segment_stops_no_way_back(history: str) -> None:
    segment = LabelStore.open(history).receipt("a").segment
    shutil.rmtree(Path(history) / "data" / segment)
    assert {problem.key for problem in verify(history) if problem.kind == "missing"} == {"a", "b", "c"}
    assert rollback(history, 8) == 8  # nothing to do
    assert rollback(history, "old") == 9
    assert rollback(history, 8) == 10  # its rows are whole
    assert verify(history, 9) == []


def test_problems_name_their_version(history: str) -> None:
    flip(chunk(history, "a"))
    assert [type(problem) for problem in verify(history)] == [Problem]
    assert [problem.version for problem in verify(history)] == [8]
