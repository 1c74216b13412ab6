"""Whatever the history of a store names is missed when it is gone; what a kill left half done is not."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.history import show
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, StoreConflict
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.runs.record import read_outcomes
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, tags


def details(uri: str, version: int | None = None) -> list[str]:
    return [f"{problem.kind}: {problem.detail}" for problem in verify(uri, version, deep=False)]


def newest(uri: str) -> Path:
    return max((Path(uri) / "manifest/_delta_log").glob("*.json"))


def fail_to_commit(*_: Any) -> None:
    """In place of `Manifest._apply`: the process ends before its commit."""
    raise OSError("killed")


def test_a_lost_tag_is_an_error_to_who_asks_for_it_and_goes_on_keeping_its_version(uri: str, labels: Any) -> None:
    labels.fill(uri)
    made = tag(uri, "paper", message="figure 3")
    path = Path(uri) / "tags/paper.json"
    body = path.read_bytes()
    path.unlink()
    readers: list[Callable[[], Any]] = [
        lambda: LabelStore.open(uri, "paper"),
        lambda: show(uri, "paper"),
        lambda: rollback(uri, "paper"),
    ]
    for reader in readers:
        with pytest.raises(LabelCorrupt, match=r"tags/paper\.json is gone; the tag named version 3, .*audit tag paper"):
            reader()
    assert [line.startswith("tag: tags/paper.json is gone") for line in details(uri)] == [True]
    assert LabelStore.open(uri).keys() == ["a", "b", "c"]
    assert [(entry.tags, entry.damaged_tags) for entry in store_log(uri)] == [(["paper"], ["paper"])]
    assert (show(uri).tags, tags(uri)) == (["paper"], [made])
    labels.fill(uri, relabel=True, teacher="b")
    assert gc(uri, keep_last=1, apply=True).kept == [0, 3, 6]
    with pytest.raises(StoreConflict, match="'paper' names version 3"):
        tag(uri, "paper", 0)
    assert tag(uri, "paper", 3, "another message") == made
    assert path.read_bytes() == body
    assert details(uri) == []


def test_a_tag_whose_writer_was_killed_is_completed_by_the_next(
    uri: str, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.fill(uri)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "_apply", fail_to_commit)
        with pytest.raises(OSError, match="killed"):
            tag(uri, "paper", message="figure 3")
    assert LabelStore.open(uri, "paper").version == 3
    assert verify(uri) == []
    with pytest.raises(StoreConflict, match="'paper' names version 3 and never moves"):
        tag(uri, "paper", message="figure 4")
    made = tag(uri, "paper", message="figure 3")
    assert tags(uri) == [made]
    assert tag(uri, "paper", message="figure 3") == made
    (Path(uri) / "tags/paper.json").unlink()
    assert len(details(uri)) == 1


def test_a_tag_that_is_not_the_recorded_one_is_found(uri: str, labels: Any) -> None:
    labels.fill(uri)
    tag(uri, "paper")
    path = Path(uri) / "tags/paper.json"
    record = self_digest.from_bytes(path.read_bytes(), "")
    path.write_bytes(self_digest.to_bytes({**record, "version": 0}))
    (line,) = details(uri)
    assert line.startswith("tag: tags/paper.json is not the tag that the log records; the tag named version 3")


def test_tags_set_at_once_are_all_recorded(uri: str, labels: Any) -> None:
    labels.fill(uri)
    names = [f"tag-{number}" for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda name: tag(uri, name), names))
    assert [entry.name for entry in tags(uri)] == names
    for path in sorted((Path(uri) / "tags").iterdir()):
        path.unlink()
    assert len(details(uri)) == 5


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_lost_outcome_is_found(uri: str, labels: Any, interrupted: bool) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    version = run.writer.finish(interrupted=interrupted)
    (path,) = (Path(uri) / "runs" / run.writer.run_id).iterdir()
    path.unlink()
    expected = f"runs/{run.writer.run_id}/{path.name} is gone; version {version} ended that attempt"
    assert [line.startswith(f"run: {expected}") for line in details(uri)] == [True]
    with pytest.raises(LabelCorrupt, match=expected):
        show(uri, "head")


def test_an_outcome_that_is_not_the_recorded_one_is_found(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    (path,) = (Path(uri) / "runs" / run.writer.run_id).iterdir()
    path.write_text(path.read_text() + "\n")
    assert [f"{path.name} is not the outcome that version 3" in line for line in details(uri)] == [True]


def test_an_outcome_without_its_commit_is_no_fault_and_the_next_attempt_has_its_own(
    uri: str, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "_apply", fail_to_commit)
        with pytest.raises(OSError, match="killed"):
            run.writer.finish([{"key": "x", "reason": "truncated"}])
    assert verify(uri, "head") == []
    version = run.writer.finish([{"key": "x", "reason": "truncated"}])
    first, second = read_outcomes(run.writer.root, run.writer.run_id, run.writer.manifest.log())
    assert "version" not in first
    assert (second["version"], second["failures"]) == (version, first["failures"])
    assert verify(uri) == []


def test_an_attempt_that_finds_nothing_to_do_is_recorded_too(uri: str, labels: Any) -> None:
    labels.fill(uri)
    run = labels.begin(uri)
    run.writer.finish([{"key": "x", "reason": "truncated"}])
    (path,) = (Path(uri) / "runs" / run.writer.run_id).iterdir()
    path.unlink()
    assert [f"{path.name} is gone" in line for line in details(uri)] == [True]


def test_the_record_of_a_run_without_labels_is_missed_too(uri: str, labels: Any) -> None:
    labels.fill(uri)
    run = labels.begin(uri)
    (Path(uri) / "runs" / f"{run.writer.run_id}.json").unlink()
    assert [line.startswith(f"run: the record of run {run.writer.run_id} is gone") for line in details(uri)] == [True]


def make_progress(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("z")])


NEWEST: dict[str, Callable[[str, Any], Any]] = {
    "progress": make_progress,
    "label": lambda uri, labels: labels.fill(uri, ["z"]),
    "rollback": lambda uri, labels: rollback(uri, 0),
    "tag": lambda uri, labels: tag(uri, "paper"),
}


@pytest.mark.parametrize("kind", NEWEST)
def test_the_loss_of_the_newest_log_file_is_found_and_stops_readers_and_writers(
    uri: str, labels: Any, kind: str
) -> None:
    labels.fill(uri)
    NEWEST[kind](uri, labels)
    path = newest(uri)
    body = path.read_bytes()
    path.unlink()
    version = int(path.stem)
    lost = rf"{path.name} is gone, but commits/{version}\.json says that version {version} was committed"
    attempts: list[Callable[[], Any]] = [
        lambda: LabelStore.open(uri),
        lambda: LabelStore.open(uri, "head"),
        lambda: store_log(uri),
        lambda: labels.begin(uri),
        lambda: rollback(uri, 0),
    ]
    for attempt in attempts:
        with pytest.raises(LabelCorrupt, match=lost):
            attempt()
    assert any(path.name in line for line in details(uri))
    assert any(path.name in line for line in details(uri, 3))
    assert LabelStore.open(uri, 3).keys() == ["a", "b", "c"]
    path.write_bytes(body)
    assert details(uri) == []


def test_a_change_of_the_newest_log_file_is_found(uri: str, labels: Any) -> None:
    labels.fill(uri)
    path = newest(uri)
    path.write_bytes(path.read_bytes() + b"\n")
    assert [f"{path.name} is not the one that commits/3.json was written for" in line for line in details(uri)] == [
        True
    ]


def test_lost_marks_of_commits_change_nothing(uri: str, labels: Any) -> None:
    labels.fill(uri)
    for path in (Path(uri) / "commits").iterdir():
        path.unlink()
    assert verify(uri) == []
    labels.fill(uri, ["d"])
    assert LabelStore.open(uri).keys() == ["a", "b", "c", "d"]
    assert verify(uri) == []
