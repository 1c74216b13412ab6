"""A storage that is full, read-only or gone: one clear error, no half file, nothing lost, and the next call goes on."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.files import create_bytes, open_filesystem, replace_bytes
from hmsa_label.stores.manifest.table import Change, Manifest
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag

WRITERS = {"create": create_bytes, "replace": replace_bytes}


def left_overs(folder: str | Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names if name.endswith(".partial") or "#" in name]


def fail(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("writer", "step"), [("create", "fsync"), ("create", "link"), ("replace", "replace")])
def test_a_write_that_fails_leaves_nothing_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, step: str
) -> None:
    filesystem, folder = open_filesystem(str(tmp_path))
    path = f"{folder}/new/label"
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match=f"cannot write, No space left on device: '{path}'") as caught:
        WRITERS[writer](filesystem, path, b"whole")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path, writer: str) -> None:
    filesystem, folder = open_filesystem(str(tmp_path))
    replace_bytes(filesystem, f"{folder}/old", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write, File too large: '{folder}/new'"):
            WRITERS[writer](filesystem, f"{folder}/new", bytes(2000))
        with pytest.raises(OSError, match="cannot write"):
            replace_bytes(filesystem, f"{folder}/old", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB; only root can make one."""
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill_up(disk: Path) -> Path:
    """A file that takes all that is left."""
    ballast = disk / "ballast"
    file = os.open(ballast, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        return ballast
    finally:
        os.close(file)


def test_a_full_disk_is_one_clear_error_and_work_goes_on_when_there_is_room(small_disk: Path, labels: Any) -> None:
    uri = f"{small_disk}/labels.zarr"
    run = labels.begin(uri)
    run.writer.append([run.write("a")])
    receipt = run.write("b")
    ballast = fill_up(small_disk)
    attempts: list[Callable[[], Any]] = [
        lambda: run.write("c"),
        lambda: run.writer.append([receipt]),
        lambda: run.writer.finish(),
        lambda: tag(uri, "paper", 0),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match=f"{uri}.*No space left on device|No space left on device.*{uri}") as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1
    assert verify(uri, "head") == []
    assert left_overs(uri) == []
    ballast.unlink()
    run.writer.append([receipt, run.write("c")])
    run.writer.finish()
    assert LabelStore.open(uri).keys() == ["a", "b", "c"]
    assert verify(uri) == []


def test_a_commit_that_finds_too_little_room_is_not_made(small_disk: Path, labels: Any) -> None:
    uri = f"{small_disk}/labels.zarr"
    labels.fill(uri)
    manifest = Manifest(uri)
    before, ballast = manifest.head().version, fill_up(small_disk)
    os.truncate(ballast, ballast.stat().st_size - 3 * 4096)  # for the rows, but not for the log as well
    with pytest.raises(OSError, match=f"cannot write, No space left on device: '{uri}/manifest/") as caught:
        manifest.transact(lambda head: Change(commit=head.commit.successor("rollback"), rewrite=head.table()))
    assert caught.value.errno == errno.ENOSPC
    assert manifest.head().version == before
    assert verify(uri) == []
    assert left_overs(uri) == []
    assert len(list(Path(uri, "manifest").glob("*.parquet"))) == 1


def test_a_store_on_a_read_only_disk_is_read_and_refuses_writers(small_disk: Path, labels: Any) -> None:
    uri = f"{small_disk}/labels.zarr"
    labels.fill(uri)
    labels.fill(uri, ["d"])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert len(LabelStore.open(uri)) == 4
    assert verify(uri) == []
    attempts: list[Callable[[], Any]] = [
        lambda: labels.begin(uri),
        lambda: tag(uri, "paper"),
        lambda: rollback(uri, 3),
    ]
    for attempt in attempts:
        with pytest.raises(OSError, match=f"{uri}.*Read-only file system|Read-only file system.*{uri}") as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1


def test_a_store_that_vanishes_under_a_run_ends_it(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    shutil.rmtree(uri)
    for attempt in (lambda: run.writer.append([receipt]), lambda: run.writer.finish()):
        with pytest.raises(NotAStore, match=f"there is no manifest at {uri}/manifest"):
            attempt()
