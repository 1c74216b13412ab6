"""Writing and reading labels: identity, other readers, damage, versions, processes."""

import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from deltalake import DeltaTable

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, NotAStore, StoreConflict, StoreError
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.chunks import encode
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA
from hmsa_label.stores.format.zarr_metadata import array_metadata
from hmsa_label.stores.manifest.rows import Rows
from hmsa_label.stores.versions.label_store import LabelStore


def chunk(uri: str, key: str, name: str = "label") -> Path:
    receipt = LabelStore.open(uri).receipt(key)
    return Path(uri) / layout.chunk_path(receipt.segment, receipt.height, receipt.width, name, receipt.row)


def test_what_was_written_is_read(uri: str, labels: Any, drawn: Callable[..., Any]) -> None:
    run = labels.fill(uri, ["a", "dir/b"])
    store = LabelStore.open(uri)
    assert store.keys() == ["a", "dir/b"]
    for key in store:
        np.testing.assert_array_equal(store.read(key), run.labels[key])
    top1, code, grid = store.read_evidence("a")
    np.testing.assert_array_equal(top1, drawn(ord("a")).top1)
    np.testing.assert_array_equal(code, drawn(ord("a")).code)
    assert 0.9 in grid
    assert len(grid) == 18


def test_labels_read_are_writable_copies(uri: str, labels: Any) -> None:
    labels.fill(uri)
    store = LabelStore.open(uri)
    store.read("a")[:] = 3
    np.testing.assert_array_equal(store.read("a"), LabelStore.open(uri).read("a"))


def test_plain_zarr_reads_every_array(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    store, group = LabelStore.open(uri), zarr.open_group(uri, mode="r")
    for key in store:
        receipt = store.receipt(key)
        folder = f"data/{receipt.segment}/{receipt.height}x{receipt.width}"
        np.testing.assert_array_equal(group[f"{folder}/label"][receipt.row], run.labels[key])
        np.testing.assert_array_equal(group[f"{folder}/top1"][receipt.row], store.read_evidence(key)[0])


def test_a_row_never_written_reads_as_254_in_plain_zarr(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    segment = LabelStore.open(uri).receipt("a").segment
    assert (zarr.open_group(uri, mode="r")[f"data/{segment}/16x24/label"][1] == 254).all()


def test_chunks_are_byte_for_byte_what_zarr_would_write(tmp_path: Path, drawn: Callable[..., Any]) -> None:
    label = drawn(1).label
    ours = array_metadata(ARRAYS["label"], 2, 16, 24, {"threshold": 0.9, "other": 1})
    array = zarr.create_array(
        str(tmp_path / "zarr"),
        shape=(2, 16, 24),
        chunks=(1, 16, 24),
        dtype="uint8",
        fill_value=254,
        compressors=[zarr.codecs.ZstdCodec(level=9, checksum=True)],
        dimension_names=["row", "y", "x"],
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes={"ignore_index": 255, "unwritten": 254, "threshold": 0.9},
    )
    array[1] = label
    assert (tmp_path / "zarr/c.1.0.0").read_bytes() == encode(label)
    theirs, known = json.loads((tmp_path / "zarr/zarr.json").read_text()), json.loads(ours)
    assert {name: theirs[name] for name in known if name != "codecs"} == {
        name: known[name] for name in known if name != "codecs"
    }
    assert [codec["name"] for codec in theirs["codecs"]] == [codec["name"] for codec in known["codecs"]]


def test_any_delta_reader_reads_the_manifest(uri: str, labels: Any) -> None:
    labels.fill(uri)
    table = DeltaTable(f"{uri}/manifest").to_pyarrow_table()
    assert set(table.column_names) == set(MANIFEST_SCHEMA.names)
    assert sorted(table["key"].to_pylist()) == ["a", "b", "c"]
    files = DeltaTable(f"{uri}/manifest").file_uris()
    assert sum(pq.ParquetFile(file).metadata.num_rows for file in files) == 3


def test_version_number_is_the_delta_version(uri: str, labels: Any) -> None:
    labels.fill(uri)
    store = LabelStore.open(uri)
    old = DeltaTable(f"{uri}/manifest", version=store.version).to_pyarrow_table()
    assert sorted(old["label_sha256"].to_pylist()) == sorted(store.table()["label_sha256"].to_pylist())


def test_manifest_row_states_what_the_label_holds(uri: str, labels: Any) -> None:
    run = labels.fill(uri, ["a"])
    receipt, label = LabelStore.open(uri).receipt("a"), run.labels["a"]
    assert receipt.class_px == tuple(int((label == train_id).sum()) for train_id in range(5))
    assert receipt.valid_px == int((label != 255).sum())
    assert receipt.kept_share == receipt.valid_px / label.size
    assert receipt.array("label").bytes == chunk(uri, "a").stat().st_size
    assert (receipt.threshold, receipt.mean_confidence, receipt.source) == (0.9, 0.8, "a.png")


def test_columns_that_are_asked_for_are_those_of_the_whole_manifest(uri: str, labels: Any) -> None:
    labels.fill(uri, ["c", "a"])
    run = labels.begin(uri, split="val")
    run.writer.append([run.write("b")])
    run.writer.finish()
    store = pickle.loads(pickle.dumps(LabelStore.open(uri)))
    assert store.table(["run", "key"]).equals(store.table().select(["run", "key"]))
    assert store.table().schema.equals(MANIFEST_SCHEMA)
    assert store.table()["key"].to_pylist() == store.keys() == ["a", "b", "c"]


def test_evidence_reads_no_more_of_the_manifest_than_it_needs(
    uri: str, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.fill(uri)
    asked: list[Any] = []
    read = Rows.table
    monkeypatch.setattr(Rows, "table", lambda rows, columns=None: asked.append(columns) or read(rows, columns))
    store = LabelStore.open(uri)
    asked.clear()
    for key in store:
        store.read_evidence(key)
        store.read(key)
    assert asked == [["evidence_segment", "evidence_row", "top1_chunk_sha256", "code_chunk_sha256"]]


def test_an_image_of_nothing_but_ignore_is_stored(uri: str, labels: Any) -> None:
    run = labels.begin(uri, evidence=False)
    from hmsa_label.stores.format.receipt import ImageFacts

    nothing = np.full((16, 24), 255, np.uint8)
    receipt = run.segment.write(ImageFacts(key="a", source="a.png"), {"label": nothing})
    run.writer.append([receipt])
    run.writer.finish()
    assert chunk(uri, "a").is_file()
    assert receipt.kept_share == 0.0
    np.testing.assert_array_equal(LabelStore.open(uri).read("a"), nothing)


def test_images_of_several_sizes_share_a_store(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    sizes = {"a": (16, 24), "b": (7, 5), "c": (1, 1), "d": (16, 24)}
    run.writer.append([run.write(key, size=size) for key, size in sizes.items()])
    run.writer.finish()
    store = LabelStore.open(uri)
    for key, size in sizes.items():
        assert store.read(key).shape == size
        np.testing.assert_array_equal(store.read(key), run.labels[key])


def test_a_crop_is_the_part_of_the_image(uri: str, labels: Any) -> None:
    run = labels.fill(uri, ["a"])
    crop = LabelStore.open(uri).read_crop("a", 3, 5, 8, 16)
    np.testing.assert_array_equal(crop, run.labels["a"][3:11, 5:21])


@pytest.mark.parametrize("crop", [(-1, 0, 4, 4), (0, 0, 17, 4), (0, 20, 4, 5), (0, 0, 0, 4)])
def test_a_crop_beyond_the_image_is_refused(uri: str, labels: Any, crop: tuple[int, int, int, int]) -> None:
    labels.fill(uri, ["a"])
    with pytest.raises(ValueError, match="reaches beyond the image of 16 x 24"):
        LabelStore.open(uri).read_crop("a", *crop)


def test_a_deleted_object_is_missing_not_ignore(uri: str, labels: Any) -> None:
    labels.fill(uri)
    chunk(uri, "b").unlink()
    with pytest.raises(LabelMissing, match="b: label of version 3 is gone"):
        LabelStore.open(uri).read("b")


def test_no_flipped_bit_is_read_in_silence(uri: str, labels: Any) -> None:
    run = labels.fill(uri, ["a"])
    path, store = chunk(uri, "a"), LabelStore.open(uri)
    sound = path.read_bytes()
    for bit in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            label = store.read("a")
        except LabelCorrupt:
            continue
        np.testing.assert_array_equal(label, run.labels["a"])  # some bits of a zstd header mean nothing


def test_a_sound_label_of_another_image_is_corrupt(uri: str, labels: Any) -> None:
    labels.fill(uri)
    chunk(uri, "a").write_bytes(chunk(uri, "b").read_bytes())
    with pytest.raises(LabelCorrupt, match=r"a: label of version 3 in .*: it is not what the manifest states"):
        LabelStore.open(uri).read("a")


def test_a_chunk_that_was_right_is_checked_again(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    store, place = LabelStore.open(uri), chunk(uri, "a")
    sound, other = place.read_bytes(), chunk(uri, "b").read_bytes()
    for _ in range(2):
        np.testing.assert_array_equal(store.read("a"), run.labels["a"])
        np.testing.assert_array_equal(store.read_crop("a", 1, 2, 3, 4), run.labels["a"][1:4, 2:6])
        place.write_bytes(other)
        for read in (store.read, store.read_encoded, lambda key: store.read_crop(key, 1, 2, 3, 4)):
            with pytest.raises(LabelCorrupt, match="is not what the manifest"):
                read("a")
        place.write_bytes(sound)


def test_a_truncated_chunk_is_corrupt(uri: str, labels: Any) -> None:
    labels.fill(uri)
    chunk(uri, "a", "code").write_bytes(chunk(uri, "a", "code").read_bytes()[:-5])
    with pytest.raises(LabelCorrupt, match="a: code of version 3 in"):
        LabelStore.open(uri).read_evidence("a")


def test_unknown_key_is_named(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(LabelMissing, match="holds no label for 'z' \\(3 images\\)"):
        LabelStore.open(uri).read("z")


def test_evidence_that_was_not_kept_is_missing(uri: str, labels: Any) -> None:
    labels.fill(uri, evidence=False)
    with pytest.raises(LabelMissing, match="keeps no evidence"):
        LabelStore.open(uri).read_evidence("a")


def test_no_store_is_said_with_the_way_to_make_one(uri: str) -> None:
    with pytest.raises(NotAStore, match=r"there is no label store at .*hmsa-label run --store"):
        LabelStore.open(uri)


def test_a_foreign_zarr_group_is_no_store(uri: str) -> None:
    zarr.create_group(uri)
    with pytest.raises(NotAStore, match="no label store of hmsa-label"):
        LabelStore.open(uri)


def test_a_store_of_a_later_format_is_refused(uri: str, classes: dict[str, Any]) -> None:
    LabelStore.create(uri, classes)
    root = Path(uri) / "zarr.json"
    root.write_text(root.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(StoreError, match="has format version 2, this hmsa-label reads up to 1; upgrade"):
        LabelStore.open(uri)


def test_a_new_store_is_version_0_and_empty(uri: str, classes: dict[str, Any]) -> None:
    store = LabelStore.create(uri, classes)
    assert (store.version, store.keys(), store.classes) == (0, [], classes)


def test_creating_a_store_twice_opens_it(uri: str, labels: Any, classes: dict[str, Any]) -> None:
    labels.fill(uri)
    assert LabelStore.create(uri, classes).keys() == ["a", "b", "c"]


def test_other_classes_are_refused(uri: str, classes: dict[str, Any]) -> None:
    LabelStore.create(uri, classes)
    with pytest.raises(StoreConflict, match="trainId 1 is 'car' there and 'boat' here"):
        LabelStore.create(uri, {**classes, "names": ["road", "boat", "person", "sky", "bus"]})


def test_an_unknown_version_is_named(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(LabelMissing, match="has no version 99; the newest is 3"):
        LabelStore.open(uri, 99)


def test_an_unknown_tag_is_named(uri: str, labels: Any) -> None:
    labels.fill(uri)
    with pytest.raises(LabelMissing, match="has no version or tag 'paper'; the store has no tags"):
        LabelStore.open(uri, "paper")


def test_digest_does_not_depend_on_order_or_segments(tmp_path: Path, labels: Any) -> None:
    keys = ["a", "b", "ä", "B"]
    labels.fill(str(tmp_path / "one"), keys)
    two = labels.begin(str(tmp_path / "two"), evidence=False)
    two.writer.append([two.write("ä")])
    again = labels.begin(str(tmp_path / "two"), evidence=False)
    again.writer.append([again.write(key) for key in ("B", "b", "a")])
    again.writer.finish()
    assert LabelStore.open(str(tmp_path / "one")).digest == LabelStore.open(str(tmp_path / "two")).digest


def test_digest_is_that_of_the_commit(uri: str, labels: Any) -> None:
    labels.fill(uri)
    store = LabelStore.open(uri)
    assert store.digest == store.commit.digest


def read_into(queue: Any, store: LabelStore) -> None:
    queue.put({key: store.read(key).sum() for key in store})


@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_after_their_parent_has(uri: str, labels: Any, method: str) -> None:
    run = labels.fill(uri)
    store = LabelStore.open(uri)
    store.read("a")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=read_into, args=(queue, store))
    worker.start()
    assert queue.get(timeout=40) == {key: label.sum() for key, label in run.labels.items()}
    worker.join(10)
    assert worker.exitcode == 0


def test_a_pickled_reader_stays_at_its_version(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    frozen = pickle.dumps(LabelStore.open(uri))
    labels.fill(uri, ["d"])
    store = pickle.loads(frozen)
    assert store.keys() == ["a", "b", "c"]
    np.testing.assert_array_equal(store.read("c"), run.labels["c"])
