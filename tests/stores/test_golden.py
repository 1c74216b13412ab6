"""Stores of every format version so far, as they were committed, stay readable for ever."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hmsa_label.stores.audit.diff import diff
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag

GOLDEN = Path(__file__).parent / "golden"
DIGESTS = [
    "f7e34f4a88025830ef1b46cecf5d5fdaf36634333e1189d08de42ab23f4cb7fe",
    "3dfade55b219cdd7af84d96c52dac5ff0eed12d4109e1f6b31e0c758b641fa2e",
]


PANOPTIC = str(GOLDEN / "v1-panoptic")
PANOPTIC_DIGESTS = [
    "9713573064e86e8b6adda40442a78e0d768b5eb2a1d5e687d808248a16c1f070",
    "6b502b96363d0679b70c9d68b4398bcb7f74179254c0ab5fad058a11681cfa96",
]
RULES = str(GOLDEN / "v1-rules")
RULES_DIGESTS = [
    "c557d0f661a066412fb03fb882fc07e118a870c6edad425b1a43f7b3f882a28b",
    "04de0798d17d0b79a0e952699a707ef54f60246726bd85e350aae0f6dd88e98d",
]
MASK = "61dd3c0ad9b45f217032b639f928ce003e2e03708d2d9ce84bed250632d040b8"


@pytest.fixture(params=["v1"])
def golden(request: pytest.FixtureRequest) -> str:
    return str(GOLDEN / request.param)


def label_at(height: int, width: int, first_kept: int) -> np.ndarray:
    """Classes 0, 1, 2, 0, ... by place; confidence rises with the place, so all from some place on are kept."""
    place = np.arange(height * width).reshape(height, width)
    return np.where(place >= first_kept, place % 3, 255)


def test_labels_of_both_versions_are_what_was_written(golden: str) -> None:
    # Confidence is 0.45 + 0.05 * place: 0.9 is reached from place 9 on, 0.7 from place 5 on.
    for version, first_kept in (("first", 9), (None, 5)):
        store = LabelStore.open(golden, version)
        assert store.keys() == ["town/tall", "town/wide"]
        np.testing.assert_array_equal(store.read("town/wide"), label_at(2, 6, first_kept))
        np.testing.assert_array_equal(store.read("town/tall"), label_at(4, 3, first_kept))


def test_log_and_digests_are_those_of_the_day(golden: str) -> None:
    log = store_log(golden)
    assert [(entry.kind, entry.threshold, entry.images) for entry in log] == [
        ("label", 0.9, 2),
        ("rethreshold", 0.7, 2),
    ]
    assert [entry.digest for entry in log] == DIGESTS


def test_everything_verifies(golden: str) -> None:
    assert verify(golden, "first") == []
    assert verify(golden) == []


def test_diff_counts_the_pixels_that_the_lower_threshold_kept(golden: str) -> None:
    assert diff(golden, "first").pixels_changed == 4 + 4


def test_plain_zarr_reads_it(golden: str) -> None:
    store, group = LabelStore.open(golden), zarr.open_group(golden, mode="r")
    receipt = store.receipt("town/wide")
    label = group[f"data/{receipt.segment}/2x6/label"][receipt.row]
    np.testing.assert_array_equal(label, label_at(2, 6, 5))
    assert [array.name for array in receipt.arrays] == ["label", "top1", "code"]
    for name, array in ((stored.name, ARRAYS[stored.name]) for stored in receipt.arrays):
        folder, _, chunk = receipt.path_of(name).rpartition("/")
        pixels = group[folder][int(chunk.split(".")[1])]
        assert pixels.dtype == array.dtype
        np.testing.assert_array_equal(pixels, store.read_array("town/wide", name))


def test_its_history_goes_on(golden: str, tmp_path: Path) -> None:
    uri = str(shutil.copytree(golden, tmp_path / "labels.zarr"))
    rollback(uri, 3)
    assert LabelStore.open(uri).digest == DIGESTS[0]
    assert verify(uri) == []
    (Path(uri) / "tags/first.json").unlink()
    assert [problem.kind for problem in verify(uri)] == ["tag"]


def label_one(uri: str, key: str, **run: Any) -> None:
    """A finished run over one image."""
    settings = {"teacher_sha256": "0" * 64, "scales": [0.5, 1.0, 2.0], "threshold": 0.7}
    writer = RunWriter(uri, {"settings": settings}, **run)
    segment = SegmentWriter(uri, writer.run_id, None, Rule(0.7), 1)
    writer.append([segment.write(ImageFacts(key=key, source=f"{key}.png"), {"label": np.zeros((3, 5), np.uint8)})])
    writer.finish()


WRITERS: dict[str, Callable[[str], Any]] = {
    "append": lambda uri: label_one(uri, "town/new"),
    "replace": lambda uri: label_one(uri, "town/wide", relabel=True),
    "rethreshold": lambda uri: rethreshold(uri, 0.95),
    "rollback": lambda uri: rollback(uri, 3),
    "tag": lambda uri: tag(uri, "second"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_goes_on_with_it(golden: str, tmp_path: Path, writer: str) -> None:
    uri = str(shutil.copytree(golden, tmp_path / "labels.zarr"))
    before = LabelStore.open(uri)
    WRITERS[writer](uri)
    assert verify(uri) == []
    assert verify(uri, "first") == []
    after = LabelStore.open(uri)
    assert set(after) >= set(before)
    for key in after:
        assert after.read(key).shape == (after.receipt(key).height, after.receipt(key).width)
    label_one(uri, "town/later", relabel=True)
    assert len(LabelStore.open(uri)) == len(after) + 1
    assert verify(uri) == []


def test_instances_of_both_versions_are_what_was_written() -> None:
    # Every car pixel is an instance; center scores are 0.2, 0.4, 0.6, 0.8, and the newer version asks for 0.7.
    cars = {"town/wide": [(1, 0), (4, 0), (1, 1), (4, 1)], "town/tall": [(1, 0), (1, 1), (1, 2), (1, 3)]}
    for version, kept in (("first", [0, 0, 0, 1]), (None, [0, 0, 0, 1])):
        store = LabelStore.open(PANOPTIC, version)
        for key in store:
            instance, found = store.instances(key)
            assert [one.box for one in found] == [(x, y, 1, 1) for x, y in cars[key]]
            assert [round(one.center_score, 5) for one in found] == [0.2, 0.4, 0.6, 0.8]
            assert [int((instance == number).sum()) for number in (1, 2, 3, 4)] == kept
    assert int((LabelStore.open(PANOPTIC).read("town/wide") == 1).sum()) == 1


def test_the_rule_and_digests_of_panoptic_labels_are_those_of_the_day() -> None:
    log = store_log(PANOPTIC)
    assert [(entry.threshold, entry.rule) for entry in log] == [(0.9, None), (0.7, {"center_threshold": 0.7})]
    assert [entry.digest for entry in log] == PANOPTIC_DIGESTS
    assert verify(PANOPTIC, every=True) == []


def test_panoptic_labels_go_on_by_another_rule(tmp_path: Path) -> None:
    uri = str(shutil.copytree(PANOPTIC, tmp_path / "labels.zarr"))
    rethreshold(uri, Rule(0.9))
    assert LabelStore.open(uri).digest == PANOPTIC_DIGESTS[0]
    assert verify(uri, every=True) == []


def test_labels_and_origins_by_rules_of_every_kind_are_what_was_written() -> None:
    first, last = LabelStore.open(RULES, "first"), LabelStore.open(RULES)
    for key in first:
        np.testing.assert_array_equal(first.read(key), [[255] * 6] * 3 + [[0, 0, 1, 1, 2, 2]])
    drawn = [[255] * 6, [0, 0, 255, 0, 0, 2], [0, 0, 1, 1, 0, 2], [0, 0, 255, 255, 2, 255]]
    np.testing.assert_array_equal(last.read("town/drawn"), drawn)
    said = [[0] * 6, [2, 2, 0, 3, 2, 1], [2, 2, 1, 2, 2, 1], [2, 2, 0, 0, 1, 0]]
    np.testing.assert_array_equal(last.origin("town/drawn"), said)
    plain = [[255] * 6, [0, 255, 255, 255, 255, 2], [255, 0, 1, 255, 2, 2], [0, 0, 255, 255, 2, 255]]
    np.testing.assert_array_equal(last.read("town/plain"), plain)
    row = last.receipt("town/drawn")
    assert (row.predicted_px, row.teacher_px, row.origin_px) == ((8, 8, 8), (4, 1, 4), (10, 4, 9, 1, 0))
    assert (row.polygon_px, row.polygon_kept_px, row.polygon_agree_px) == ((8, 1, 0), (5, 0, 0), (4, 0, 0))
    assert row.coarse_agreement == 4 / 5


def test_rules_of_every_kind_and_digests_are_those_of_the_day(tmp_path: Path) -> None:
    log = store_log(RULES)
    assert [entry.digest for entry in log] == RULES_DIGESTS
    assert log[0].rule == {"margin": 0.2}
    assert log[1].rule == {
        "class_thresholds": {"car": 0.6, "sky": 0.0},
        "margin": 0.1,
        "max_disagreement": 1,
        "border_px": [1, 0, 0, 0],
        "mask": {"sha256": MASK, "height": 4, "width": 6},
        "polygons": "trust",
        "class_polygons": {"car": "add", "sky": "veto"},
        "grow_px": 2,
    }
    assert verify(RULES, every=True) == []
    uri = str(shutil.copytree(RULES, tmp_path / "labels.zarr"))
    rule = LabelStore.open(uri).rule("town/plain")
    rethreshold(uri, Rule(0.9, margin=0.2))
    assert LabelStore.open(uri).digest == RULES_DIGESTS[0]
    rethreshold(uri, rule)  # its mask lies in the store
    assert LabelStore.open(uri).digest == RULES_DIGESTS[1]
    assert verify(uri, every=True) == []
