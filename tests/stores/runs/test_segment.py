"""The writer of pixels: refusals, rows nobody else has, segments that fill up."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.errors import StoreConflict, ThresholdNotStored
from hmsa_label.stores.files import create_bytes, join
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.chunks import encode
from hmsa_label.stores.format.evidence import DEFAULT_GRID
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.versions.label_store import LabelStore

FACTS = ImageFacts(key="a", source="a.png")


@pytest.fixture
def writer(uri: str, classes: dict[str, Any]) -> SegmentWriter:
    LabelStore.create(uri, classes)
    return SegmentWriter(uri, "run", DEFAULT_GRID, Rule(0.9), 3)


def label(value: int = 0) -> np.ndarray:
    return np.full((4, 6), value, np.uint8)


def test_class_ids_outside_the_table_are_refused(writer: SegmentWriter) -> None:
    with pytest.raises(ValueError, match="a: label: it holds 254, which is no class; expected trainId 0"):
        writer.write(FACTS, {"label": np.array([[0, 5, 254, 255]], np.uint8)})


@pytest.mark.parametrize("array", [label().astype(np.int64), label()[0], label()[None]])
def test_arrays_of_other_types_or_shapes_are_refused(writer: SegmentWriter, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"label must be uint8 \[H, W\]"):
        writer.write(FACTS, {"label": array})


def test_evidence_of_another_size_is_refused(writer: SegmentWriter) -> None:
    with pytest.raises(ValueError, match=r"top1 must be uint8 \[H, W\] of one size; got uint8 \[6, 4\]"):
        writer.write(FACTS, {"label": label(), "top1": label().T, "code": label()})


def test_half_the_evidence_is_refused(writer: SegmentWriter) -> None:
    with pytest.raises(ValueError, match="a: top1 needs code beside it"):
        writer.write(FACTS, {"label": label(), "top1": label()})


def test_a_label_that_contradicts_its_evidence_is_refused(writer: SegmentWriter) -> None:
    with pytest.raises(ValueError, match=r"the label is not what top1 and code say by the rule \(0.9\)"):
        writer.write(FACTS, {"label": label(0), "top1": label(0), "code": label(8)})


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"top1": label()}, "every image has a label"),
        ({"label": label(), "depth": label()}, "there is no array 'depth'; known are label, top1, code"),
        ({"label": label(255), "top1": label(77), "code": label()}, "top1: it holds 77, which is no class"),
        (
            {"label": label(), "top1": label(), "code": label(99)},
            "code: it holds a code of 99, but",
        ),
    ],
)
def test_arrays_that_the_table_does_not_allow_are_refused(
    writer: SegmentWriter, arrays: dict[str, np.ndarray], fault: str
) -> None:
    with pytest.raises(ValueError, match=f"a: {fault}"):
        writer.write(FACTS, arrays)


def test_codes_without_stored_thresholds_are_refused(uri: str, writer: SegmentWriter) -> None:
    without = SegmentWriter(uri, "run", None, Rule(0.9), 3)
    with pytest.raises(ValueError, match="a: code: its segment names no thresholds"):
        without.write(FACTS, {"label": label(), "top1": label(), "code": label()})


def test_a_threshold_off_the_grid_is_refused(uri: str, writer: SegmentWriter) -> None:
    with pytest.raises(ThresholdNotStored):
        SegmentWriter(uri, "run", DEFAULT_GRID, Rule(0.91), 3)


def test_threads_get_rows_of_their_own_and_full_segments_are_followed_by_others(writer: SegmentWriter) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = [f"k{number}" for number in range(10)]
        receipts = list(pool.map(lambda key: writer.write(ImageFacts(key=key, source=key), {"label": label()}), keys))
    places = {(receipt.segment, receipt.row) for receipt in receipts}
    assert len(places) == 10
    assert {row for _, row in places} == {0, 1, 2}
    assert len({segment for segment, _ in places}) == 4


def test_an_object_of_another_process_is_never_overwritten(writer: SegmentWriter) -> None:
    receipt = writer.write(FACTS, {"label": label(0)})
    filesystem, root = writer.root.open()
    path = layout.chunk_path(receipt.segment, 4, 6, "label", 1)
    create_bytes(filesystem, join(root, path), b"someone else's")
    with pytest.raises(StoreConflict, match="was written by another process; nothing was overwritten"):
        writer.write(FACTS, {"label": label(1)})
    assert writer.root.read(path) == b"someone else's"


def test_a_repeated_put_whose_answer_got_lost_is_no_conflict(writer: SegmentWriter) -> None:
    receipt = writer.write(FACTS, {"label": label(0)})
    filesystem, root = writer.root.open()
    path = layout.chunk_path(receipt.segment, 4, 6, "label", 1)
    create_bytes(filesystem, join(root, path), encode(label(1)))
    assert writer.write(FACTS, {"label": label(1)}).row == 1


def test_a_receipt_survives_json_and_arrow(uri: str, labels: Any) -> None:
    run = labels.begin(uri)
    receipt = run.write("a")
    assert Receipt.from_dict(receipt.to_dict()) == receipt
    assert pickle.loads(pickle.dumps(receipt)) == receipt
    assert len(pickle.dumps(receipt)) < 2000
    run.writer.append([receipt])
    run.writer.finish()
    assert LabelStore.open(uri).receipt("a") == receipt
