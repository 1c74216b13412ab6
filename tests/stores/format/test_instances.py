"""The table of an image's instances: its bytes, and where a map does not agree with it."""

import hashlib
import struct

import numpy as np
import pytest

from hmsa_label.stores.format import instances as module
from hmsa_label.stores.format.instances import StoredInstance, exact, from_entries, map_faults, table_digest, to_entries

MAP = np.array([[0, 1, 1, 0], [2, 2, 1, 0], [2, 0, 0, 3]], np.uint16)
LABEL = np.array([[9, 1, 1, 9], [2, 255, 1, 9], [2, 9, 9, 1]], np.uint8)
TABLE = (
    StoredInstance(1, 0.5, 0.75, 3, (1, 0, 2, 2)),
    StoredInstance(2, 0.25, 0.5, 3, (0, 1, 2, 2)),
    StoredInstance(1, 1.0, 1.0, 1, (3, 2, 1, 1)),
)


def faults(
    instance: np.ndarray = MAP, label: np.ndarray = LABEL, table: tuple[StoredInstance, ...] = TABLE
) -> list[str]:
    return list(map_faults(instance, {"label": label}, table))


@pytest.mark.parametrize("part", [1, 3, 5, 2**22])
def test_a_map_agrees_with_its_table_however_it_is_cut_into_parts(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(module, "PART_PIXELS", part)
    assert faults() == []
    assert faults(table=(TABLE[0]._replace(area_px=4), *TABLE[1:])) == ["instance 1 has 3 pixels; its entry says 4"]


def test_every_disagreement_is_named() -> None:
    box = TABLE[1]._replace(box=(0, 1, 2, 3))
    assert faults(table=(TABLE[0], box, TABLE[2])) == [
        "instance 2 has the box [0, 1, 2, 2] (x, y, w, h); its entry says [0, 1, 2, 3]"
    ]
    assert faults(table=(*TABLE, TABLE[0])) == ["instance 4 has no pixel"]
    assert faults(label=np.where(LABEL == 2, 1, LABEL)) == [
        "2 pixels of instances have another class in label than their instance"
    ]


def test_an_image_without_instances_agrees_with_an_empty_table() -> None:
    assert faults(np.zeros((2, 3), np.uint16), np.zeros((2, 3), np.uint8), ()) == []


def test_boxes_of_random_maps_are_those_of_the_pixels() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        size = generator.integers(1, 40, 2)
        count = int(generator.integers(1, 6))
        instance = generator.integers(0, count + 1, size).astype(np.uint16)
        _, instance = np.unique(np.r_[0, instance.ravel()], return_inverse=True)
        instance = instance[1:].reshape(size).astype(np.uint16)
        table = []
        for number in range(1, int(instance.max()) + 1):
            y, x = np.nonzero(instance == number)
            table.append(StoredInstance(0, 0.0, 0.0, len(y), (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)))
        assert list(map_faults(instance, {"label": np.zeros(size, np.uint8)}, exact(table))) == []


def test_scores_are_stored_as_float32_and_come_back_as_they_are() -> None:
    (one,) = exact([StoredInstance(1, 0.7, np.float32(0.3), np.int64(2), (np.int32(1), 2, 3, 4))])
    assert one.center_score == float(np.float32(0.7)) != 0.7
    assert from_entries(to_entries([one])) == (one,)
    assert type(one.area_px) is int


def test_the_digest_is_of_packed_little_endian_records() -> None:
    packed = b"".join(struct.pack("<iffqiiii", *one[:4], *one.box) for one in TABLE)
    assert table_digest(TABLE) == hashlib.sha256(packed).hexdigest()
    assert table_digest(()) == hashlib.sha256().hexdigest()
