"""Which files are not what they were, on a disk and on S3, with sizes asked one by one and from a listing."""

import hashlib
from pathlib import Path

import pytest

from hmsa_label.stores.files import FileRoot, replace_bytes
from hmsa_label.stores.images import changed_files as source_state
from hmsa_label.stores.images.changed_files import SourceState, changed_sources

FILES = {"a/same.png": b"123", "a/b/longer.png": b"1234", "a/other.png": b"124", "a/unknown.png": b"123"}


def state(path: str, size: int | None = 3) -> SourceState:
    return SourceState(key=path, path=path, size_bytes=size, sha256=hashlib.sha256(b"123").hexdigest())


def check(root: FileRoot) -> None:
    filesystem, top = root.open()
    for path, data in FILES.items():
        replace_bytes(filesystem, f"{top}/{path}", data)
    read: list[str] = []

    def watched(path: str) -> bytes:
        read.append(path)
        return root.read(path)

    states = [
        *(state(path) for path in FILES if "unknown" not in path),
        state("a/unknown.png", None),
        state("a/gone.png"),
    ]
    assert changed_sources(root, states, watched) == {"a/b/longer.png", "a/other.png", "a/gone.png"}
    assert sorted(read) == ["a/other.png", "a/same.png", "a/unknown.png"]  # a size that differs says enough


@pytest.mark.parametrize("asked_one_by_one", [0, 100])
def test_files_of_another_size_or_digest_and_missing_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_one_by_one: int
) -> None:
    monkeypatch.setattr(source_state, "ASKED_ONE_BY_ONE", asked_one_by_one)
    check(FileRoot(str(tmp_path)))


@pytest.mark.parametrize("asked_one_by_one", [0, 100])
def test_the_same_on_s3(s3_environment: str, monkeypatch: pytest.MonkeyPatch, asked_one_by_one: int) -> None:
    monkeypatch.setattr(source_state, "ASKED_ONE_BY_ONE", asked_one_by_one)
    check(FileRoot("s3://labels/sources"))
