"""A damaged file of the manifest's log is refused by readers and writers, and no writer makes it look sound again."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.self_digest import seal
from hmsa_label.stores.manifest.delta_actions import CHECKPOINT_INTERVAL
from hmsa_label.stores.manifest.table import GC, Change, Manifest
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag

LOG = "manifest/_delta_log"
FOREIGN = b'{"commitInfo":{"timestamp":1,"operation":"WRITE","operationParameters":{}}}\n'
# What may stand in place of a log file: (body, version of the log file) -> another body.
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda body: b"",
    "empty object": lambda body: b"{}",
    "another tool's commit without a change": lambda body: FOREIGN,
    "last action cut off": lambda body: b"".join(body.splitlines(keepends=True)[:-1]),
    "one more line": lambda body: body + b"\n",
}


def log_file(uri: str, version: int) -> Path:
    return Path(uri) / LOG / f"{version:020d}.json"


def writers(uri: str, labels: Any) -> list[Callable[[], Any]]:
    return [
        lambda: tag(uri, "paper"),
        lambda: rollback(uri, 3),
        lambda: rethreshold(uri, 0.5),
        lambda: labels.begin(uri, teacher="b"),
        lambda: labels.begin(uri, relabel=True),
    ]


@pytest.fixture
def three(uri: str, labels: Any) -> str:
    """Three finished versions: three images, another label of the first with the tag `old`, one image more."""
    labels.fill(uri)
    labels.fill(uri, ["a"], seed=5, relabel=True)
    tag(uri, "old")
    labels.fill(uri, ["d"])
    return uri


def finished(uri: str) -> list[int]:
    return [commit.version for commit in Manifest(uri).log() if commit.is_finished and commit.images]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_the_newest_log_file_is_refused_and_no_verb_covers_it_up(
    three: str, labels: Any, damage: str
) -> None:
    newest = finished(three)[-1]
    path = log_file(three, newest)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    readers: list[Callable[[], Any]] = [
        lambda: LabelStore.open(three),
        lambda: LabelStore.open(three, newest),
        lambda: LabelStore.open(three, "head"),
    ]
    before = [path.name for path in path.parent.iterdir()]
    for attempt in [*readers, *writers(three, labels)]:
        with pytest.raises(LabelCorrupt, match=rf"{path.name}.*"):
            attempt()
    assert [path.name for path in path.parent.iterdir()] == before
    assert any(path.name in problem.detail for problem in verify(three))
    assert LabelStore.open(three, "old").keys() == ["a", "b", "c"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_an_older_log_file_is_refused_by_its_number_and_by_its_tag(three: str, damage: str) -> None:
    old = finished(three)[1]
    path = log_file(three, old)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    for version in (old, "old", None):
        with pytest.raises(LabelCorrupt, match=path.name):
            LabelStore.open(three, version)
    (Path(three) / f"commits/{old}.json").unlink()  # the commit after it tells as well
    with pytest.raises(LabelCorrupt, match=path.name):
        LabelStore.open(three, old)
    assert any(path.name in problem.detail for problem in verify(three))


@pytest.mark.parametrize("damage", ["emptied", "empty object", "another tool's commit without a change"])
def test_a_log_file_that_does_nothing_is_no_other_tools_commit_even_without_its_mark(
    three: str, labels: Any, damage: str
) -> None:
    newest = finished(three)[-1]
    log_file(three, newest).write_bytes(DAMAGE[damage](b""))
    (Path(three) / f"commits/{newest}.json").unlink()
    for attempt in [lambda: LabelStore.open(three), *writers(three, labels)]:
        with pytest.raises(LabelCorrupt, match="is no commit"):
            attempt()


def test_the_way_out_of_a_refusal_works(three: str, labels: Any) -> None:
    newest = finished(three)[-1]
    log_file(three, newest).write_bytes(b"")
    with pytest.raises(LabelCorrupt, match=r"is no commit|written for") as refusal:
        LabelStore.open(three)
    numbered = re.search(
        r"go on from version (\d+): move away what is numbered (\d+) or higher in (\S+) and (\S+)$", str(refusal.value)
    )
    assert numbered is not None
    for folder in numbered.group(3, 4):
        for path in (Path(three) / folder).iterdir():
            if int(path.name.partition(".")[0]) >= int(numbered[2]):
                path.unlink()
    assert verify(three) == []
    run = labels.begin(three)  # goes on where the lost commit left it
    assert run.writer.resumed
    run.writer.finish()
    assert LabelStore.open(three).keys() == ["a", "b", "c", "d"]
    assert verify(three) == []


def test_a_stray_log_file_of_any_number_is_named_by_the_gap_before_it(three: str) -> None:
    newest = max(Manifest(three).log(), key=lambda commit: commit.version).version
    stray = log_file(three, 10**19)
    stray.write_bytes(log_file(three, newest).read_bytes())
    with pytest.raises(LabelCorrupt, match=f"{newest + 1:020d}.json is gone.*go on from version {newest}:"):
        LabelStore.open(three)
    assert LabelStore.open(three, newest).version == newest
    assert any(f"{newest + 1:020d}.json is gone" in problem.detail for problem in verify(three))
    stray.unlink()
    assert LabelStore.open(three).version == finished(three)[-1]


def test_a_tag_whose_version_holds_other_labels_is_refused(three: str) -> None:
    old = finished(three)[1]
    # The whole log from there on was replaced by another history, as by a careless copy of files.
    for version in range(old, 100):
        log_file(three, version).unlink(missing_ok=True)
        (Path(three) / f"commits/{version}.json").unlink(missing_ok=True)
    manifest = Manifest(three)
    rows = manifest.at(3).table()
    commit = manifest.at(3).commit
    for _ in range(old - manifest.head().version):
        version = manifest.head().version + 1
        state = {"finished": version, "digest": commit.digest, "images": rows.num_rows}
        manifest.transact(lambda head, state=state: Change(commit=head.commit.successor(GC, **state), rewrite=rows))
    assert LabelStore.open(three, old).digest == commit.digest
    with pytest.raises(LabelCorrupt, match=f"tag 'old' names version {old} with the digest"):
        LabelStore.open(three, "old")


def test_rows_that_are_not_those_that_were_written_are_refused_though_their_version_is_unfinished(
    uri: str, labels: Any
) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a"), run.write("b")])
    (path,) = (Path(uri) / "manifest").glob("*.parquet")
    body = path.read_bytes()
    path.write_bytes(body[:200] + bytes([body[200] ^ 1]) + body[201:])
    with pytest.raises(LabelCorrupt, match=f"{path.name}: it is not what was written"):
        LabelStore.open(uri, "head")
    with pytest.raises(LabelCorrupt, match=path.name):
        run.writer.finish()


def test_a_lost_action_of_an_unmarked_commit_shows_in_the_number_of_images(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    version = run.writer.append([run.write("a")])
    path = log_file(uri, version)
    path.write_bytes(DAMAGE["last action cut off"](path.read_bytes()))
    (Path(uri) / f"commits/{version}.json").unlink()
    with pytest.raises(LabelCorrupt, match="are not those that were committed"):
        LabelStore.open(uri, "head")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"add": {"path": "../../x.parquet", "size": 1}}, "outside of the table"),
        ({"add": {"path": "x.parquet", "size": 1, "deletionVector": {"storageType": "u"}}}, "deletion vector"),
        ({"add": {"size": 1}}, "does not read"),
        ({"add": 1}, "does not read"),
        ([1], "is no commit|does not read"),
        ("add", "does not read"),
    ],
)
def test_a_commit_of_another_tool_that_cannot_be_followed_is_refused(
    uri: str, labels: Any, action: Any, said: str
) -> None:
    labels.fill(uri)
    log_file(uri, 4).write_text(json.dumps(action))
    with pytest.raises(LabelCorrupt, match=f"{4:020d}.json.*({said})"):
        LabelStore.open(uri)


@pytest.mark.parametrize("record", [{"version": 4}, {"version": 3, "log_sha256": "0" * 64}, {"version": "4"}, {}])
def test_a_sealed_record_of_another_commit_is_refused(uri: str, labels: Any, record: dict[str, Any]) -> None:
    labels.fill(uri)
    log_file(uri, 4).write_text(json.dumps({"commitInfo": {"hmsa_label": seal(record)}}))
    with pytest.raises(LabelCorrupt, match=f"{4:020d}.json"):
        LabelStore.open(uri)


@pytest.fixture
def checkpointed(uri: str, labels: Any) -> str:
    """A store with a checkpoint and three commits after it."""
    run = labels.begin(uri)
    for number in range(CHECKPOINT_INTERVAL + 1):
        run.writer.append([run.write(f"k{number:02d}")])
    run.writer.finish()
    return uri


def checkpoint_of(uri: str) -> Path:
    (path,) = (Path(uri) / LOG).glob("*.checkpoint.parquet")
    return path


def test_opening_reads_the_checkpoint_and_what_came_after_it(
    checkpointed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkpoint_of(checkpointed).name.startswith(f"{CHECKPOINT_INTERVAL:020d}")
    for version in range(1, CHECKPOINT_INTERVAL):
        log_file(checkpointed, version).unlink()
    assert len(LabelStore.open(checkpointed)) == CHECKPOINT_INTERVAL + 1
    assert verify(checkpointed) != []


@pytest.mark.parametrize("damage", ["gone", "flipped", "emptied", "of another store"])
def test_without_its_checkpoint_a_store_is_read_from_its_log(checkpointed: str, labels: Any, damage: str) -> None:
    before, path = LabelStore.open(checkpointed).table(), checkpoint_of(checkpointed)
    body = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "of another store":
        labels.fill(f"{checkpointed}.other")
        DeltaTable(f"{checkpointed}.other/manifest").create_checkpoint()
        path.write_bytes(checkpoint_of(f"{checkpointed}.other").read_bytes())
    else:
        path.write_bytes(b"" if damage == "emptied" else body[:99] + bytes([body[99] ^ 1]) + body[100:])
    assert LabelStore.open(checkpointed).table().equals(before)
    assert [path.name in problem.detail for problem in verify(checkpointed)] == [True]
    for number in range(CHECKPOINT_INTERVAL):
        tag(checkpointed, f"t{number}")  # the next checkpoint takes the place of the damaged one
    assert LabelStore.open(checkpointed).table().equals(before)
    assert verify(checkpointed) == []
    assert DeltaTable(f"{checkpointed}/manifest").version() == Manifest(checkpointed).head().version


def test_a_damaged_pointer_to_the_checkpoint_stops_other_readers_alone(checkpointed: str) -> None:
    pointer = Path(checkpointed) / LOG / "_last_checkpoint"
    pointer.write_text(pointer.read_text().replace(f"{CHECKPOINT_INTERVAL}", f"{CHECKPOINT_INTERVAL + 1}", 1))
    with pytest.raises(DeltaError):
        DeltaTable(f"{checkpointed}/manifest")
    assert len(LabelStore.open(checkpointed)) == CHECKPOINT_INTERVAL + 1
    (problem,) = verify(checkpointed)
    assert "_last_checkpoint names it" in problem.detail
    pointer.unlink()  # as the message says
    assert verify(checkpointed) == []
    assert DeltaTable(f"{checkpointed}/manifest").version() == Manifest(checkpointed).head().version


def test_another_tool_goes_on_with_the_table_and_so_do_we(checkpointed: str, labels: Any) -> None:
    rows = DeltaTable(f"{checkpointed}/manifest").to_pyarrow_table()
    write_deltalake(f"{checkpointed}/manifest", rows, mode="overwrite")
    DeltaTable(f"{checkpointed}/manifest").create_checkpoint()
    labels.fill(checkpointed, ["z"])
    assert len(LabelStore.open(checkpointed)) == CHECKPOINT_INTERVAL + 2
    assert DeltaTable(f"{checkpointed}/manifest").to_pyarrow_table().num_rows == CHECKPOINT_INTERVAL + 2
    assert verify(checkpointed) == []
