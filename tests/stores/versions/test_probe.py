"""The storage probe: a storage that breaks create-if-absent is refused before anything is written to it."""

import threading
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores import files
from hmsa_label.stores.errors import UnsafeStorage
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.probe import probe_storage


class Careless:
    """A storage that ignores the condition, like some S3 servers: every create succeeds."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        self.objects[path] = data

    def cat_file(self, path: str) -> bytes:
        return self.objects[path]

    def rm_file(self, path: str) -> None:
        self.objects.pop(path, None)

    def isdir(self, path: str) -> bool:
        return False


class Racy(Careless):
    """A storage that looks whether the object is there and writes a moment later."""

    def __init__(self) -> None:
        super().__init__()
        self.all_looked = threading.Barrier(8)

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        taken = path in self.objects
        if "round" in path:
            self.all_looked.wait(5)
        if taken:
            raise FileExistsError(path)
        self.objects[path] = data


def root_of(filesystem: Any, monkeypatch: pytest.MonkeyPatch) -> FileRoot:
    monkeypatch.setattr(FileRoot, "open", lambda self: (filesystem, "/store"))
    return FileRoot("s3://bucket/store")


def test_a_local_disk_passes_and_is_left_clean(tmp_path: Path) -> None:
    found = probe_storage(FileRoot(str(tmp_path / "store")))
    assert found["ok"]
    assert list((tmp_path / "store").iterdir()) == []


def test_a_storage_that_ignores_the_condition_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = Careless()
    with pytest.raises(UnsafeStorage, match=r"s3://bucket/store is not safe .* second create .* --single-writer"):
        probe_storage(root_of(careless, monkeypatch))
    assert careless.objects == {}


def test_a_storage_whose_condition_is_not_atomic_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnsafeStorage, match="8 of 8 concurrent creators"):
        probe_storage(root_of(Racy(), monkeypatch))


def test_a_single_writer_may_use_an_unsafe_storage_and_the_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probe_storage(root_of(Careless(), monkeypatch), single_writer=True)
    assert not found["ok"]
    assert found["single_writer"]
    assert "second create" in found["detail"]


def test_nothing_is_created_on_a_refused_storage(
    uri: str, classes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmsa_label.stores.versions.probe.create_bytes", files.replace_bytes)
    with pytest.raises(UnsafeStorage):
        LabelStore.create(uri, classes)
    assert not (Path(uri) / "zarr.json").exists()
    assert not (Path(uri) / "manifest").exists()


def test_the_probe_of_a_store_is_kept_in_its_identity(uri: str, classes: dict[str, Any]) -> None:
    probe = LabelStore.create(uri, classes).identity.probe
    assert (probe["ok"], probe["rounds"], probe["creators"], probe["single_writer"]) == (True, 5, 8, False)
