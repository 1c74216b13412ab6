"""What a commit needs is on the disk before its log file is made, and that before its mark."""

import os
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag


@pytest.fixture
def synced(uri: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flushes and new names in their order, by path below the store; a file's own flush is `name`, its link `+name`."""
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def recorded_fsync(descriptor: int) -> None:
        events.append(_below(uri, os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def recorded_link(source: str, target: str) -> None:
        events.append(f"+{_below(uri, target)}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "link", recorded_link)
    return events


def _below(uri: str, path: str) -> str:
    return os.path.relpath(path, uri)


def check_order(events: list[str], *steps: str) -> None:
    """Whether each step comes after the one before."""
    place = -1
    for step in steps:
        assert step in events[place + 1 :], f"no {step} after {events[: place + 1]} in {events[place + 1 :]}"
        place = events.index(step, place + 1)


def partial_of(events: list[str], name: str) -> str:
    """The flush of the temporary file that became `name`."""
    folder, _, file = name.rpartition("/")
    (flush,) = [event for event in events if event.startswith(f"{folder}/.{file}.")]
    return flush


def test_pixels_rows_log_and_mark_reach_the_disk_in_this_order(uri: str, labels: Any, synced: list[str]) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    synced.clear()
    version = run.writer.append([receipt])
    (rows,) = [path.name for path in (Path(uri) / "manifest").glob("*.parquet")]
    log, mark = f"manifest/_delta_log/{version:020d}.json", f"commits/{version}.json"
    size = f"data/{receipt.segment}/16x24"
    for folder in (f"{size}/label", f"{size}/top1", f"{size}/code", f"data/{receipt.segment}/receipts", "data"):
        check_order(
            synced,
            folder,
            partial_of(synced, f"manifest/{rows}"),
            f"+manifest/{rows}",
            "manifest",
            partial_of(synced, log),
            f"+{log}",
            "manifest/_delta_log",
            partial_of(synced, mark),
            f"+{mark}",
            "commits",
        )
    for name in os.listdir(Path(uri) / size / "label"):
        assert f"{size}/label/.{name}" not in synced  # by the worker, before its receipt


def test_a_worker_flushes_every_object_before_its_name_is_there(uri: str, labels: Any, synced: list[str]) -> None:
    run = labels.begin(uri)
    synced.clear()
    receipt = run.write("a")
    for name in (f"16x24/{array}/c.0.0.0" for array in ("top1", "code", "label")):
        path = f"data/{receipt.segment}/{name}"
        check_order(synced, partial_of(synced, path), f"+{path}", f"+data/{receipt.segment}/receipts/0.json")


def test_records_outcomes_and_tags_reach_the_disk_before_the_commits_that_name_them(
    uri: str, labels: Any, synced: list[str]
) -> None:
    run = labels.fill(uri, ["a"])
    tag(uri, "paper")
    rollback(uri, 0)
    first = f"+manifest/_delta_log/{1:020d}.json"
    check_order(synced, f"+runs/{run.writer.run_id}.json", "runs", first)
    (outcome,) = [event for event in synced if event.startswith(f"+runs/{run.writer.run_id}/")]
    check_order(synced, outcome, f"runs/{run.writer.run_id}", "runs", f"+manifest/_delta_log/{3:020d}.json")
    check_order(synced, "+tags/paper.json", "tags", f"+manifest/_delta_log/{4:020d}.json")
    check_order(synced, "+commits/5.json", "commits")


@pytest.mark.parametrize("lost", ["log", "rows", "log emptied", "rows emptied"])
def test_a_newest_commit_without_its_mark_that_was_lost_is_noticed_or_was_never_there(
    uri: str, labels: Any, lost: str
) -> None:
    """What a power cut may leave where the disk lies about a flush: the newest commit in part, and no mark of it."""
    labels.fill(uri, ["a"])
    before = set((Path(uri) / "manifest").glob("*.parquet"))
    run = labels.begin(uri)
    version = run.writer.append([run.write("b")])
    log = Path(uri) / f"manifest/_delta_log/{version:020d}.json"
    (rows,) = set((Path(uri) / "manifest").glob("*.parquet")) - before
    (Path(uri) / f"commits/{version}.json").unlink()
    path = log if lost.startswith("log") else rows
    if lost.endswith("emptied"):
        path.write_bytes(b"")
    else:
        path.unlink()
    if lost == "log":
        assert LabelStore.open(uri, "head").keys() == ["a"]
        assert verify(uri, "head") == []
    else:
        with pytest.raises(LabelCorrupt, match=path.name):
            LabelStore.open(uri, "head")
        assert any(path.name in problem.detail for problem in verify(uri, "head"))
    assert LabelStore.open(uri, 3).keys() == ["a"]
