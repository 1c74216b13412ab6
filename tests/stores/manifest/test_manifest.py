"""The commit loop: lost races are decided anew, broken storage is said, foreign commits are passed over."""

from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.manifest.table import GC, Change, Manifest, Snapshot, content_digest
from hmsa_label.stores.versions.label_store import LabelStore


def mark(head: Snapshot, note: str) -> Change:
    return Change(commit=head.commit.successor(GC, note=note))


def test_a_lost_race_is_decided_anew_on_the_new_head(uri: str, classes: dict[str, Any]) -> None:
    LabelStore.create(uri, classes)
    manifest, seen = Manifest(uri), []

    def decide(head: Snapshot) -> Change:
        seen.append(head.version)
        if len(seen) == 1:  # another writer commits between our look and our commit
            Manifest(uri).transact(lambda other: mark(other, "theirs"))
        return mark(head, "ours")

    assert manifest.transact(decide).version == 2
    assert seen == [0, 1]
    assert [commit.note for commit in manifest.log()] == [None, "theirs", "ours"]


def test_a_storage_that_refuses_every_commit_is_said(
    uri: str, classes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    LabelStore.create(uri, classes)

    def refuse(*_: Any) -> None:
        raise FileExistsError("there is a file already")

    monkeypatch.setattr(Manifest, "_apply", refuse)
    with pytest.raises(OSError, match=r"cannot commit to .*manifest: there is a file already"):
        Manifest(uri).transact(lambda head: mark(head, "x"))


def test_commits_of_other_tools_are_passed_over(uri: str, labels: Any) -> None:
    labels.fill(uri)
    manifest = Manifest(uri)
    write_deltalake(manifest.uri, manifest.head().table(), mode="overwrite")
    head = manifest.head()
    assert (head.version, head.commit.version, head.commit.kind) == (4, 3, "label")
    assert LabelStore.open(uri).version == 3
    labels.fill(uri, ["d"])
    assert LabelStore.open(uri).keys() == ["a", "b", "c", "d"]


def test_a_foreign_delta_table_is_no_manifest(uri: str) -> None:
    write_deltalake(f"{uri}/manifest", pa.table({"key": ["a"]}))
    with pytest.raises(NotAStore, match="was not written by hmsa-label"):
        Manifest(uri).head()


@pytest.mark.parametrize("place", ["memory://store", "http://host/store"])
def test_a_place_that_holds_no_tables_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="a label store cannot live at"):
        Manifest(place)


def test_content_digest_is_sha256_over_sorted_lines() -> None:
    import hashlib

    # Only b has instances: the digests of its map and of its table come after that of its label. Only Z has origins.
    rows = pa.table(
        {
            "key": ["b", "a", "ä", "Z"],
            "label_sha256": ["2", "1", "3", "0"],
            "instance_sha256": pa.array(["m", None, None, None], pa.string()),
            "origin_sha256": pa.array([None, None, None, "o"], pa.string()),
            "instance_table_sha256": pa.array(["t", None, None, None], pa.string()),
        }
    )
    expected = hashlib.sha256("Z\t0\to\na\t1\nb\t2\tm\tt\nä\t3\n".encode()).hexdigest()
    assert content_digest(rows) == expected
