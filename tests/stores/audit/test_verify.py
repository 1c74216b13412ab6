"""Verify finds every way that a version can differ from what was committed."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from numcodecs.zstd import Zstd

from hmsa_label.stores.audit.verify import verify, verify_store
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.versions.label_store import LabelStore


def chunk(uri: str, key: str, name: str = "label") -> Path:
    receipt = LabelStore.open(uri).receipt(key)
    return Path(uri) / layout.chunk_path(receipt.segment, receipt.height, receipt.width, name, receipt.row)


def kinds(uri: str, **how: Any) -> list[tuple[str, str]]:
    return [(problem.key, problem.kind) for problem in verify(uri, **how)]


def test_a_sound_store_has_no_problems(uri: str, labels: Any) -> None:
    labels.fill(uri)
    labels.fill(uri, ["a"], teacher="b", relabel=True)
    assert verify(uri, deep=False) == []
    assert verify(uri) == []
    assert verify(uri, 3) == []


def test_images_are_counted_once_however_closely_they_are_looked_at(uri: str, labels: Any) -> None:
    labels.fill(uri)
    assert [verify_store(uri, deep=deep).images for deep in (False, True)] == [3, 3]
    labels.fill(uri, ["a"], teacher="b", relabel=True)
    assert [verify_store(uri, deep=deep, every=True).images for deep in (False, True)] == [4, 4]


def test_a_new_store_has_no_problems(uri: str, classes: dict[str, Any]) -> None:
    LabelStore.create(uri, classes)
    assert verify(uri) == []


@pytest.mark.parametrize("name", ["label", "top1", "code", "instance"])
def test_every_flipped_bit_is_found_or_harmless(uri: str, labels: Any, name: str) -> None:
    labels.fill(uri, ["a"], panoptic=True)
    path = chunk(uri, "a", name)
    sound = path.read_bytes()
    found = 0
    for bit in range(0, 8 * len(sound), 37):
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        problems = kinds(uri)
        assert set(problems) <= {("a", "corrupt"), ("a", "digest")}
        found += bool(problems)
    assert found > 5


def test_a_deletion_is_found_by_a_quick_look(uri: str, labels: Any) -> None:
    labels.fill(uri)
    chunk(uri, "b").unlink()
    chunk(uri, "c", "code").unlink()
    assert kinds(uri, deep=False) == [("b", "missing"), ("c", "missing")]
    assert kinds(uri) == [("b", "missing"), ("c", "missing")]


def test_a_truncation_is_found_by_a_quick_look(uri: str, labels: Any) -> None:
    labels.fill(uri)
    chunk(uri, "b").write_bytes(chunk(uri, "b").read_bytes()[:-1])
    assert kinds(uri, deep=False) == [("b", "size")]
    assert kinds(uri) == [("b", "corrupt"), ("b", "size")]


def test_swapped_labels_are_found(uri: str, labels: Any) -> None:
    labels.fill(uri)
    a, b = chunk(uri, "a"), chunk(uri, "b")
    one, two = a.read_bytes(), b.read_bytes()
    a.write_bytes(two)
    b.write_bytes(one)
    assert [problem for problem in kinds(uri) if problem[1] == "digest"] == [("a", "digest"), ("b", "digest")]


def test_a_rewritten_manifest_is_found(uri: str, labels: Any) -> None:
    labels.fill(uri)
    # Someone swaps two images' digests and makes it look like a commit of the version's own.
    delta = DeltaTable(f"{uri}/manifest")
    table = delta.to_pyarrow_table().sort_by("key")
    column = table.schema.get_field_index("label_sha256")
    table = table.set_column(column, table.schema.field(column), table["label_sha256"].take([1, 0, 2]))
    write_deltalake(delta, table, mode="overwrite")
    log = Path(uri) / "manifest/_delta_log"
    ours, theirs = log / f"{3:020d}.json", log / f"{4:020d}.json"
    actions = [line for line in theirs.read_text().splitlines() if "commitInfo" not in line]
    ours.write_text("\n".join([ours.read_text().splitlines()[0], *actions]))
    theirs.unlink()
    (Path(uri) / "commits/3.json").unlink()
    problems = kinds(uri)
    assert ("", "manifest") in problems
    assert ("a", "digest") in problems


@pytest.mark.parametrize("damage", ["gone", "truncated", "fewer rows"])
def test_a_damaged_manifest_file_is_found(uri: str, labels: Any, damage: str) -> None:
    labels.fill(uri)
    (file,) = (Path(path.removeprefix("file://")) for path in DeltaTable(f"{uri}/manifest").file_uris())
    if damage == "gone":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        pq.write_table(pq.read_table(file).slice(1), file)
    assert kinds(uri, deep=False) == [("", "manifest")]
    with pytest.raises(LabelCorrupt, match="the manifest of version 3 does not read"):
        LabelStore.open(uri)


def test_changed_or_missing_provenance_is_found(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    path = Path(uri) / "runs" / f"{run.writer.run_id}.json"
    path.write_text(path.read_text().replace("0.9", "0.8"))
    assert kinds(uri) == [("", "run")]
    path.unlink()
    assert kinds(uri) == [("", "run")]


@pytest.mark.parametrize("damage", ["gone", "not json", "other fill value", "other shape"])
def test_damaged_zarr_metadata_is_found(uri: str, labels: Any, damage: str) -> None:
    labels.fill(uri)
    path = chunk(uri, "a").parent / "zarr.json"
    text = path.read_text()
    if damage == "gone":
        path.unlink()
    elif damage == "not json":
        path.write_text(text[:50])
    elif damage == "other fill value":
        path.write_text(text.replace("254,", "255,", 1))
    else:
        path.write_text(text.replace("24", "32"))
    assert kinds(uri) == [("", "metadata")]


def test_a_deleted_segment_is_found_in_every_image(uri: str, labels: Any) -> None:
    labels.fill(uri)
    shutil.rmtree(Path(uri) / "data" / LabelStore.open(uri).receipt("a").segment)
    assert {key for key, kind in kinds(uri) if kind == "missing"} == {"a", "b", "c"}


def test_changed_and_missing_source_images_are_found(uri: str, labels: Any, tmp_path: Path) -> None:
    run = labels.begin(uri)
    (tmp_path / "images").mkdir()
    receipts = []
    for key in "abc":
        body = f"image {key}".encode()
        (tmp_path / "images" / f"{key}.png").write_bytes(body)
        digest = hashlib.sha256(body).hexdigest()
        facts = ImageFacts(key=key, source=f"{key}.png", source_sha256=digest, source_bytes=len(body))
        receipts.append(run.segment.write(facts, {"label": np.zeros((4, 4), np.uint8)}))
    run.writer.append(receipts)
    run.writer.finish()
    root = str(tmp_path / "images")
    assert verify(uri, data_root=root) == []
    (tmp_path / "images/a.png").write_bytes(b"another")
    (tmp_path / "images/b.png").unlink()
    assert kinds(uri, data_root=root) == [("a", "source_changed"), ("b", "source_missing")]


def test_a_label_that_contradicts_its_evidence_is_found(
    uri: str, labels: Any, drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = labels.begin(uri)
    right = drawn(0)
    wrong = right.label.copy()
    wrong[0, 0] = 255 if wrong[0, 0] != 255 else 0
    # a writer that does not look
    monkeypatch.setattr("hmsa_label.stores.runs.segment.agreement_faults", lambda *_: iter(()))
    facts = ImageFacts(key="a", source="a.png")
    run.writer.append([run.segment.write(facts, {"label": wrong, "top1": right.top1, "code": right.code})])
    run.writer.finish()
    assert kinds(uri, deep=False) == []
    assert kinds(uri) == [("a", "rule")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"area_px": 1}, "pixels; its entry says 1"),
        ({"box": (0, 0, 1, 1)}, r"its entry says [0, 0, 1, 1]"),
        ({"train_id": 3}, "instance 1 is of trainId 3, which is no thing"),
        ({"train_id": 4}, "pixels of instances have another class in top1 than their instance"),
        ({"center_score": 0.0}, "pixels of instances that the rule (0.5, center threshold 0.01) drops have a label"),
        ({"confidence": 0.125}, ""),
    ],
)
def test_instances_that_contradict_their_pixels_are_found(
    uri: str, labels: Any, drawn: Any, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    run = labels.begin(uri, panoptic=True, threshold=0.5, center_threshold=0.01)
    made = drawn(0, 0.5)
    assert made.instances[0].train_id == 1
    arrays = made.arrays(run.rule, panoptic=True)
    monkeypatch.setattr("hmsa_label.stores.runs.segment.agreement_faults", lambda *_: iter(()))  # it does not look
    table = (made.instances[0]._replace(**change), *made.instances[1:])
    run.writer.append([run.segment.write(ImageFacts(key="a", source="a.png", instances=table), arrays)])
    run.writer.finish()
    problems = verify(uri)
    assert {(problem.key, problem.kind) for problem in problems} == ({("a", "rule")} if said else set())
    assert not said or any(said in problem.detail for problem in problems)


def test_the_committed_pixels_in_other_bytes_are_refused_and_found(uri: str, labels: Any) -> None:
    labels.fill(uri, ["a"])
    path = chunk(uri, "a")
    data = Zstd(level=1, checksum=True).encode(Zstd().decode(path.read_bytes()))
    assert data != path.read_bytes()
    path.write_bytes(data)
    assert ("a", "digest") in kinds(uri)
    with pytest.raises(LabelCorrupt, match="not what the manifest states"):
        LabelStore.open(uri).read("a")
