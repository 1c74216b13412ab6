"""Exports hold the same labels, for tools that know nothing of the store."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.exports.cityscapes_tree import export_cityscapes
from hmsa_label.stores.exports.coco_panoptic import export_coco
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.files import open_filesystem
from hmsa_label.stores.format.layout import chunk_path
from hmsa_label.stores.versions.label_store import LabelStore
from tests.faulty_proxy import FaultyProxy


def test_dense_array_is_in_the_order_of_its_manifest(uri: str, tmp_path: Path, labels: Any) -> None:
    run = labels.fill(uri, ["b", "a", "c"])
    store = LabelStore.open(uri)
    done = export_zarr(store, str(tmp_path / "out"))
    array = zarr.open_group(str(tmp_path / "out"), mode="r")["label"]
    keys = pq.read_table(tmp_path / "out/manifest.parquet")["key"].to_pylist()
    assert (array.shape, keys) == ((3, 16, 24), ["a", "b", "c"])
    np.testing.assert_array_equal(array[:], np.stack([run.labels[key] for key in keys]))
    assert (done.images, done.digest) == (3, store.digest)
    assert zarr.open_group(str(tmp_path / "out"), mode="r").attrs["digest"] == store.digest
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == done.files


def test_several_sizes_become_several_arrays(uri: str, tmp_path: Path, labels: Any) -> None:
    run = labels.begin(uri)
    run.writer.append([run.write("a"), run.write("b", size=(5, 7)), run.write("c")])
    run.writer.finish()
    export_zarr(LabelStore.open(uri), str(tmp_path / "out"))
    group = zarr.open_group(str(tmp_path / "out"), mode="r")
    for row in pq.read_table(tmp_path / "out/manifest.parquet").to_pylist():
        np.testing.assert_array_equal(group[row["array"]][row["index"]], run.labels[row["key"]])


def test_a_write_in_an_export_leaves_the_store_alone(tmp_path: Path, labels: Any) -> None:
    run = labels.fill(f"{tmp_path}/store")
    export_zarr(LabelStore.open(run.uri), str(tmp_path / "out"))
    for chunk in (tmp_path / "out/label").glob("c.*"):
        chunk.write_bytes(b"other pixels")  # in place
    assert verify(run.uri) == []
    np.testing.assert_array_equal(LabelStore.open(run.uri).read("a"), run.labels["a"])


@pytest.mark.parametrize("export", [export_zarr, export_cityscapes, export_coco])
def test_an_interrupted_export_says_so_and_is_finished_by_the_same_call(
    uri: str, tmp_path: Path, labels: Any, export: Any
) -> None:
    labels.fill(uri)
    store, out = LabelStore.open(uri), tmp_path / "out"
    out.mkdir()
    (out / ".UNFINISHED.json.0badcafe.partial").write_bytes(b"killed before anything else")

    def die(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store, str(out), threads=1, on_image=die)
    assert json.loads((out / "UNFINISHED.json").read_text())["digest"] == store.digest
    labels.fill(uri, ["d"])
    with pytest.raises(ValueError, match="holds another export that was not finished"):
        export(LabelStore.open(uri), str(out))
    half = next(path for path in out.rglob("*") if path.is_file()).with_name(".x.png.0badcafe.partial")
    half.write_bytes(b"half")
    done = export(store, str(out))
    assert len([path for path in out.rglob("*") if path.is_file()]) == done.files
    whole = tmp_path / "whole"
    export(store, str(whole))
    assert files_in(out) == files_in(whole)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("export", [export_zarr, export_cityscapes, export_coco])
def test_an_export_to_s3_survives_that_the_first_answer_to_every_write_is_lost(
    uri: str, s3_environment: str, labels: Any, export: Any
) -> None:
    labels.fill(uri)
    proxy = FaultyProxy(s3_environment, share=0.0)
    proxy.lose_first = True
    try:
        options = {"key": "made-up", "secret": "made-up", "endpoint_url": proxy.endpoint}
        done = export(LabelStore.open(uri), f"s3://labels/lost-{export.__name__}", storage_options=options)
        filesystem, path = open_filesystem(f"s3://labels/lost-{export.__name__}", options)
        assert len(filesystem.find(path)) == done.files
        assert proxy.done["lost"] > done.files
    finally:
        proxy.close()


def test_an_export_to_the_storage_of_the_store_is_copied_there(s3_environment: str, labels: Any) -> None:
    run = labels.fill("s3://labels/exported")
    store = LabelStore.open(run.uri)
    filesystem, _ = store.root.open()
    with count_calls(filesystem) as calls:
        export_zarr(store, "s3://labels/dense")
    assert calls.count("copy_object") == 3
    array = zarr.open_group("s3://labels/dense", mode="r")["label"]
    np.testing.assert_array_equal(array[:], np.stack([run.labels[key] for key in ("a", "b", "c")]))


@contextmanager
def count_calls(filesystem: Any) -> Iterator[list[str]]:
    """Names of the requests that s3fs makes meanwhile."""
    calls, call_s3 = [], filesystem._call_s3

    async def counted(method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await call_s3(method, *args, **kwargs)

    filesystem._call_s3 = counted
    try:
        yield calls
    finally:
        filesystem._call_s3 = call_s3


def test_png_files_lie_where_cityscapes_has_its_own(uri: str, tmp_path: Path, labels: Any) -> None:
    key = "train_extra/troisdorf/troisdorf_000000_000073"
    run = labels.fill(uri, [key])
    export_cityscapes(LabelStore.open(uri), str(tmp_path / "out"), name="gtCoarse")
    stem = str(tmp_path / "out/gtCoarse" / key) + "_gtCoarse_"
    label = run.labels[key]
    with (
        Image.open(stem + "labelTrainIds.png") as train_ids,
        Image.open(stem + "labelIds.png") as ids,
        Image.open(stem + "color.png") as colors,
    ):
        np.testing.assert_array_equal(np.asarray(train_ids), label)
        expected = np.zeros_like(label)
        for train_id, raw_id in enumerate([7, 26, 24, 23, 28]):
            expected[label == train_id] = raw_id
        np.testing.assert_array_equal(np.asarray(ids), expected)
        assert colors.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(colors)[label == 1], [[0, 0, 142]] * (label == 1).sum())
        assert not np.asarray(colors)[label == 255].any()


def test_a_folder_with_something_in_it_is_refused(uri: str, tmp_path: Path, labels: Any) -> None:
    labels.fill(uri)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    for export in (export_zarr, export_cityscapes, export_coco):
        with pytest.raises(ValueError, match="out is not empty; export into a new folder"):
            export(LabelStore.open(uri), str(tmp_path / "out"))


@pytest.mark.parametrize("key", ["../a", "/etc/a", "a/../../b"])
def test_a_key_that_leads_outside_is_refused(uri: str, tmp_path: Path, labels: Any, key: str) -> None:
    labels.fill(uri, [key])
    for export in (export_cityscapes, export_coco):
        with pytest.raises(ValueError, match="outside of the destination"):
            export(LabelStore.open(uri), str(tmp_path / "out"))


def test_damaged_labels_are_not_exported(uri: str, tmp_path: Path, labels: Any) -> None:
    labels.fill(uri, ["a", "b"])
    store = LabelStore.open(uri)
    one, two = (
        Path(uri) / chunk_path(receipt.segment, 16, 24, "label", receipt.row)
        for receipt in (store.receipt("a"), store.receipt("b"))
    )
    one.write_bytes(two.read_bytes())
    with pytest.raises(LabelCorrupt):
        export_zarr(store, str(tmp_path / "out"))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (5, 3, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_of_any_size_reads_back(shape: tuple[int, ...], dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256 if len(shape) == 3 else np.iinfo(dtype).max, shape).astype(dtype)
    if len(shape) == 3:
        image = image.astype(np.uint8)
    with Image.open(io.BytesIO(encode_png(image))) as found:
        np.testing.assert_array_equal(np.asarray(found), image)


def test_png_of_anything_else_is_refused() -> None:
    for wrong in (np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.uint16), np.zeros((2, 2), np.int32)):
        with pytest.raises(ValueError, match="uint8 or uint16"):
            encode_png(wrong)


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", "", ".", "a b", "<b>"])
def test_a_label_type_that_is_no_plain_name_is_refused(uri: str, labels: Any, tmp_path: Path, name: str) -> None:
    labels.fill(uri, ["a"])
    for export in (export_cityscapes, export_coco):
        with pytest.raises(ValueError, match="--name becomes a folder and part of file names"):
            export(LabelStore.open(uri), str(tmp_path / "out"), name=name)
    assert not list(tmp_path.rglob("*"))
