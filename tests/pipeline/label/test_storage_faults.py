"""Storages that fail now and then, lose answers, fill up or vanish: the same labels in the end, or one clear line."""

import contextlib
import io
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.engine import retry
from hmsa_label.pipeline.engine.events import ImageLabeled
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.label import receipts
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.files import FileRoot, replace_bytes
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake
from tests.faulty_proxy import FAULTS, FaultyProxy

Open = Callable[..., FaultyProxy]


@pytest.fixture
def proxy(s3_storage: dict[str, Any]) -> Iterator[Open]:
    """Opens proxies in front of the S3 server."""
    opened: list[FaultyProxy] = []

    def open_proxy(**options: Any) -> FaultyProxy:
        opened.append(FaultyProxy(s3_storage["endpoint_url"], **options))
        return opened[-1]

    yield open_proxy
    for proxy in opened:
        proxy.close()


@pytest.fixture
def s3_run(drawn, s3_storage) -> Callable[..., LabelConfig]:
    """A run over images on S3 into a store on S3, both reached through a proxy."""

    def config(proxy: FaultyProxy, store: str, executor: str = "local", **options: Any) -> LabelConfig:
        reach = {**s3_storage, "endpoint_url": proxy.endpoint}
        return LabelConfig(
            data=DataConfig(root="s3://labels/images", dataset="folder", split="all", storage_options=reach),
            teacher=fake(),
            store=f"s3://labels/{store}",
            storage_options=reach,
            engine=EngineConfig(executor=executor, workers=2),
            **options,
        )

    return config


def upload(bench, count: int, storage: dict[str, Any]) -> str:
    """Puts images on S3; the digest that their labels have, from a run on a disk."""
    files = FileRoot("s3://labels/images", storage)
    filesystem, root = files.open()
    with contextlib.suppress(FileNotFoundError):
        filesystem.rm(root, recursive=True)
    for number in range(count):
        path = f"all/{number:03}.png"
        replace_bytes(filesystem, f"{root}/{path}", (bench.folder / path).read_bytes())
    return bench.label(limit=count).digest


def check_store(uri: str, digest: str, images: int, storage: dict[str, Any]) -> None:
    store = LabelStore.open(uri, storage_options=storage)
    assert store.digest == digest
    assert store.table().num_rows == images
    assert verify(uri, storage_options=storage) == []


def run_through_faults(
    proxies: Open, s3_run, bench, storage, *, images: int, seeds: range, executor: str = "local", **options: float
) -> None:
    digest, seen = upload(bench, images, storage), set()
    for seed in seeds:
        proxy = proxies(seed=seed, **options)
        summary = label_images(s3_run(proxy, f"faults-{executor}-{images}-{seed}", executor))
        assert (summary.images_labelled, summary.images_failed) == (images, 0)
        check_store(f"s3://labels/faults-{executor}-{images}-{seed}", digest, images, storage)
        seen |= set(proxy.done)
    assert seen == set(FAULTS)


def test_tenth_of_all_requests_fails_and_the_labels_are_the_same(proxy, s3_run, drawn, s3_storage, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    # One image in a few hundred requests; the seed is one that draws each kind of fault.
    run_through_faults(proxy, s3_run, drawn, s3_storage, images=2, seeds=range(1, 2), share=0.1, delay_s=0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tenth_of_all_requests_fails_or_takes_five_seconds_and_the_labels_are_the_same(
    proxy, s3_run, drawn, s3_storage, monkeypatch
):
    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 3)
    run_through_faults(proxy, s3_run, drawn, s3_storage, images=20, seeds=range(3), share=0.1, delay_s=5.0)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("ray_session")
def test_actors_label_the_same_through_a_storage_that_fails_a_tenth_of_all_requests(
    proxy, s3_run, drawn, s3_storage, monkeypatch
):
    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 3)
    run_through_faults(
        proxy, s3_run, drawn, s3_storage, images=20, seeds=range(3), executor="ray", share=0.1, delay_s=5.0
    )


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_answer_to_every_first_write_is_lost_and_nothing_is_doubled(
    proxy, s3_run, drawn, s3_storage, monkeypatch, again
):
    digest, lossy = upload(drawn, 1, s3_storage), proxy(share=0.0)
    lossy.lose_first = True
    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 1)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    store = f"lossy-{again}"
    label_images(s3_run(lossy, store))
    if again:
        label_images(s3_run(lossy, store, relabel=True))
    check_store(f"s3://labels/{store}", digest, 1, s3_storage)
    kinds = [commit.kind for commit in Manifest(f"s3://labels/{store}", s3_storage).log()]
    assert kinds == ["create", "begin", "progress", "label", *(["begin", "relabel"] if again else [])]
    assert lossy.done["lost"] > 20


@pytest.mark.slow  # the storage packages' own patience makes it last; the disk that is unmounted is its short form
def test_store_that_vanishes_ends_the_run_with_one_line_and_the_next_run_finishes(
    proxy, s3_run, drawn, s3_storage, monkeypatch
):
    digest, gone, seen = upload(drawn, 6, s3_storage), proxy(share=0.0), []

    def vanish(event) -> None:
        if isinstance(event, ImageLabeled):
            seen.append(event.key)
            if len(seen) == 2:
                gone.away.set()

    monkeypatch.setattr(retry, "ATTEMPTS", 1)
    monkeypatch.setattr(retry, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 1)
    with pytest.raises(EngineError, match=r"failed.*; what is finished is kept, and the same command goes") as ended:
        label_images(s3_run(gone, "vanishing"), vanish)
    assert "\n" not in str(ended.value)
    gone.away.clear()
    summary = label_images(s3_run(gone, "vanishing"))
    assert summary.images_done_before >= 1
    check_store("s3://labels/vanishing", digest, 6, s3_storage)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root and the mount command")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_ends_the_run_at_once_and_the_next_run_finishes_when_there_is_room(drawn, small_disk):
    filler, room = small_disk / "filler", io.BytesIO(b"x" * 2**21)

    def fill(event) -> None:
        if isinstance(event, ImageLabeled) and not filler.exists():
            with contextlib.suppress(OSError), filler.open("wb") as file:
                while data := room.read(2**12):
                    file.write(data)
                    file.flush()

    store, started = str(small_disk / "labels.zarr"), time.monotonic()
    with pytest.raises(EngineError, match=r"failed: .*No space left on device.*is kept"):
        drawn.label(fake(ms=20), store=store, on_event=fill)
    assert time.monotonic() - started < 20
    filler.unlink()
    summary = drawn.label(store=store)
    assert summary.images_done_before >= 1
    assert LabelStore.open(store).digest == drawn.label().digest
    assert verify(store) == []


def test_store_that_becomes_read_only_ends_the_run_at_once_and_loses_nothing(drawn, small_disk, monkeypatch):
    def freeze(event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 1)
    store = str(small_disk / "labels.zarr")
    with pytest.raises(EngineError, match=r"failed: .*Read-only file system"):
        drawn.label(fake(ms=20), store=store, on_event=freeze)
    before = len(LabelStore.open(store, "head"))
    assert before >= 2
    with pytest.raises(EngineError, match="Read-only file system"):
        drawn.label(store=store)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert drawn.label(store=store).images_done_before >= before
    assert LabelStore.open(store).digest == drawn.label().digest


def test_disk_that_is_unmounted_ends_the_run_and_nothing_committed_is_lost(drawn, small_disk, monkeypatch, tmp_path):
    disk = tmp_path / "elsewhere"
    disk.mkdir()

    def unmount(event) -> None:
        if isinstance(event, ImageLabeled) and not os.path.ismount(disk):
            subprocess.run(["mount", "--move", small_disk, disk], check=True)

    monkeypatch.setattr(receipts, "COMMIT_IMAGES", 1)
    store = str(small_disk / "labels.zarr")
    with pytest.raises(Exception, match=r"no label store|no manifest|failed"):
        drawn.label(fake(ms=20), store=store, on_event=unmount)
    shutil.rmtree(store, ignore_errors=True)
    subprocess.run(["mount", "--bind", disk, small_disk], check=True)
    try:
        assert drawn.label(store=store).digest == drawn.label().digest
        assert verify(store) == []
    finally:
        subprocess.run(["umount", "-l", small_disk], check=True)
        subprocess.run(["mount", "--bind", disk, small_disk], check=True)
        subprocess.run(["umount", "-l", disk], check=True)
