"""Flipped bits in any object of a store: verify finds whatever a reader would see; wrong labels are never read."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.history import show_version
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, StoreError
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.tags import read_tag, tag
from tests.stores.conftest import CLASSES


def seen(uri: str, labels: dict[str, Any]) -> Any:
    """Log, rows and provenance as a reader has them, or the store's refusal; labels that are read must be right."""
    try:
        store = LabelStore.open(uri)
        for key in store:
            assert (store.read(key) == labels[key]).all()
            assert ((store.instances(key)[0] > 0) == (np.isin(labels[key], CLASSES["things"]))).all()
        return store_log(uri), store.table().to_pylist(), show_version(store), read_tag(store.root, "kept")
    except StoreError as error:
        return str(error)


@pytest.fixture
def history(uri: str, labels: Any) -> tuple[Path, dict[str, Any]]:
    """A store with a pruned version, a relabeled image and a tag; and the labels of its newest version."""
    old = labels.fill(uri, ["a", "b"], panoptic=True)
    new = labels.fill(uri, ["b"], teacher="b", relabel=True, seed=5, panoptic=True, center_threshold=0.3)
    tag(uri, "kept")
    gc(uri, keep_last=1, apply=True)
    return Path(uri), {**old.labels, **new.labels}


@pytest.mark.parametrize("folder", ["manifest/_delta_log", "manifest", "runs", "tags", "data"])
def test_flipped_bits_are_found_or_change_nothing(history: Any, folder: str) -> None:
    root, labels = history
    before, random, found = seen(str(root), labels), Random(1), 0
    files = sorted(path for path in (root / folder).rglob("*") if path.is_file())
    for _ in range(12):
        path = random.choice(files)
        sound = path.read_bytes()
        bit = random.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        problems = verify(str(root), threads=1)
        assert problems or seen(str(root), labels) == before, f"bit {bit} of {path}"
        path.write_bytes(sound)
        found += bool(problems)
    assert found
    assert verify(str(root)) == []


def test_a_manifest_row_is_compared_with_its_receipt(history: Any) -> None:
    root, _ = history
    receipt = LabelStore.open(str(root)).receipt("a")
    path = root / f"data/{receipt.segment}/receipts/{receipt.row}.json"
    path.write_text(path.read_text().replace('"threshold": 0.9', '"threshold": 0.8'))
    (problem,) = verify(str(root))
    assert (problem.key, problem.kind) == ("a", "receipt")
    assert "differ in threshold" in problem.detail
    path.unlink()
    assert [(problem.key, problem.kind) for problem in verify(str(root))] == [("a", "receipt")]


def test_log_files_that_are_gone_or_swapped_are_named(history: Any) -> None:
    root, labels = history
    log = sorted((root / "manifest/_delta_log").glob("*.json"))
    bodies = [path.read_bytes() for path in log]
    for path in (log[2], log[-1]):
        body = path.read_bytes()
        path.unlink()
        assert any(path.name in problem.detail for problem in verify(str(root)))
        path.write_bytes(body)
    log[-1].write_bytes(bodies[-2])
    with pytest.raises(LabelCorrupt, match=log[-1].name):
        LabelStore.open(str(root))
    log[-1].write_bytes(bodies[-1])
    assert seen(str(root), labels)


def test_a_lost_mark_of_a_pruned_version_is_found(history: Any) -> None:
    root, _ = history
    (mark,) = (root / "pruned").iterdir()
    mark.unlink()
    (problem,) = verify(str(root))
    assert f"pruned/{mark.name} is gone" in problem.detail


def test_a_damaged_tag_is_refused_by_name(history: Any) -> None:
    root, _ = history
    path = root / "tags/kept.json"
    path.write_text(path.read_text().replace('"version": ', '"version": 1'))
    with pytest.raises(LabelCorrupt, match=r"tags/kept\.json is not what was written"):
        LabelStore.open(str(root), "kept")


def test_a_column_whose_name_was_damaged_is_not_taken_for_an_empty_one(uri: str, labels: Any) -> None:
    labels.fill(uri)
    (file,) = (Path(uri) / "manifest").glob("*.parquet")
    body = file.read_bytes()
    file.write_bytes(body.replace(b"evidence_segment", b"evidence_zegment"))
    assert len(file.read_bytes()) == len(body)
    (problem,) = verify(uri, deep=False)
    assert (problem.kind, file.name in problem.detail) == ("manifest", True)
