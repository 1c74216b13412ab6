"""Instances in a store: written, read after the rule, sealed, refused where they do not fit their pixels."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.manifest.rows import Rows
from hmsa_label.stores.versions.label_store import LabelStore
from tests.stores.conftest import table_of


def test_instances_are_read_as_they_were_found(uri: str, labels: Any, drawn: Any) -> None:
    labels.fill(uri, panoptic=True)
    store = LabelStore.open(uri)
    assert store.has_instances
    assert verify(uri) == []
    for key in store:
        made = drawn(ord(key))
        instance, found = store.instances(key)
        assert tuple(found) == made.instances
        assert instance.dtype == np.uint16
        np.testing.assert_array_equal(instance, np.where(store.read(key) == 255, 0, made.instance))
        np.testing.assert_array_equal(store.read_array(key, "instance"), made.instance)


def test_instances_that_the_rule_drops_have_no_pixel_and_stay_in_the_list(uri: str, labels: Any, drawn: Any) -> None:
    labels.fill(uri, panoptic=True, threshold=0.5, center_threshold=0.5, instance_threshold=0.8)
    store = LabelStore.open(uri)
    assert verify(uri) == []
    dropped = 0
    for key in store:
        instance, found = store.instances(key)
        assert tuple(found) == drawn(ord(key), 0.5).instances
        kept = set(np.unique(instance)) - {0}
        low = {n for n, one in enumerate(found, 1) if one.center_score < 0.5 or one.confidence < np.float32(0.8)}
        assert not kept & low
        assert (store.read(key)[np.isin(store.read_array(key, "instance"), list(low))] == 255).all()
        dropped += len(low)
        assert store.rule(key) == Rule(0.5, 0.5, 0.8)
    assert dropped > 3


def test_instances_need_no_evidence(uri: str, labels: Any) -> None:
    labels.fill(uri, panoptic=True, evidence=False, center_threshold=0.3)
    store = LabelStore.open(uri)
    assert store.thresholds == ()
    assert verify(uri) == []
    assert store.instances("a")[1]
    with pytest.raises(LabelMissing, match="there is no top1, as version 3 keeps no evidence for this image"):
        store.read_array("a", "top1")


def test_labels_without_instances_say_so(uri: str, labels: Any) -> None:
    labels.fill(uri)
    store = LabelStore.open(uri)
    assert not store.has_instances
    with pytest.raises(LabelMissing, match="a: there is no instance, as version 3 tells no instances of this image"):
        store.instances("a")


def test_the_digest_of_a_version_covers_map_and_table(uri: str, labels: Any) -> None:
    digests = set()
    for number, panoptic in enumerate((True, False)):
        labels.fill(f"{uri}{number}", panoptic=panoptic)
        digests.add(LabelStore.open(f"{uri}{number}").digest)
    run = labels.begin(f"{uri}2", panoptic=True)
    receipts = [run.write(key) for key in "abc"]
    run.writer.append(receipts)
    run.writer.finish()
    assert LabelStore.open(f"{uri}2").digest in digests
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"area_px": 1}, r"instance 1 has \d+ pixels; its entry says 1"),
        ({"box": (0, 0, 1, 1)}, r"instance 1 has the box .* its entry says \[0, 0, 1, 1\]"),
        ({"train_id": 3}, "instance 1 is of trainId 3, which is no thing of the class table"),
        ({"center_score": 1.5}, r"instances\[0\].center_score must be a number from 0 to 1"),
        ({"confidence": float("nan")}, r"instances\[0\].confidence must be a number from 0 to 1"),
    ],
)
def test_a_table_that_does_not_fit_its_pixels_is_refused(
    uri: str, labels: Any, drawn: Any, change: dict[str, Any], fault: str
) -> None:
    run, made = labels.begin(uri, panoptic=True), drawn(0)
    table = (made.instances[0]._replace(**change), *made.instances[1:])
    with pytest.raises(ValueError, match=fault):
        run.segment.write(ImageFacts(key="a", source="a", instances=table), made.arrays(Rule(0.9), panoptic=True))


def test_a_map_that_does_not_fit_its_table_is_refused(uri: str, labels: Any, drawn: Any) -> None:
    run, made = labels.begin(uri, panoptic=True), drawn(0)
    arrays, table = made.arrays(Rule(0.9), panoptic=True), made.instances
    facts = ImageFacts(key="a", source="a", instances=table)
    with pytest.raises(ValueError, match=f"instance: it holds {len(table)}, but its image has {len(table) - 1} inst"):
        run.segment.write(ImageFacts(key="a", source="a", instances=table[:-1]), arrays)
    with pytest.raises(ValueError, match="instance must be uint16"):
        run.segment.write(facts, {**arrays, "instance": made.instance.astype(np.int32)})
    with pytest.raises(ValueError, match="it has a map of instances and no table; both belong together"):
        run.segment.write(ImageFacts(key="a", source="a"), arrays)
    with pytest.raises(ValueError, match="it has a table of instances and no map"):
        run.segment.write(facts, made.arrays(Rule(0.9)))
    strict = labels.begin(f"{uri}2", panoptic=True, evidence=False, center_threshold=0.99)
    with pytest.raises(ValueError, match=r"instances that the rule .* drops have a label"):
        strict.segment.write(facts, made.arrays(Rule(0.9), panoptic=True, evidence=False))


def test_receipts_with_instances_are_adopted(uri: str, labels: Any) -> None:
    lost = labels.begin(uri, panoptic=True, center_threshold=0.4)
    receipt = lost.write("a")
    again = labels.begin(uri, panoptic=True, center_threshold=0.4)
    assert again.writer.adopt() == 1
    again.writer.finish()
    assert LabelStore.open(uri).receipt("a") == receipt
    assert verify(uri) == []


def test_opening_and_reading_maps_reads_no_table(uri: str, labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    labels.fill(uri, panoptic=True)
    asked: list[str] = []
    read = Rows.table

    def table(self: Rows, columns: list[str] | None = None) -> pa.Table:
        asked.extend(columns or ["everything"])
        return read(self, columns)

    monkeypatch.setattr(Rows, "table", table)
    store = LabelStore.open(uri)
    np.testing.assert_array_equal(store.instance_map("a") > 0, (store.read("a") != 255) & (store.read("a") % 3 != 0))
    assert "instances" not in asked
    assert "everything" not in asked
    store.instances("a")
    assert "instances" in asked


def test_other_tools_read_the_table(uri: str, labels: Any, drawn: Any) -> None:
    labels.fill(uri, panoptic=True)
    store = LabelStore.open(uri)
    pixels = zarr.open_group(uri, mode="r")[store.receipt("a").path_of("instance").rpartition("/")[0]]
    np.testing.assert_array_equal(pixels[store.receipt("a").row], drawn(ord("a")).instance)
    assert pixels.fill_value == ARRAYS["instance"].fill
    file = next(iter(store.rows.files))[0]
    rows = pq.read_table(f"{uri}/manifest/{file}", columns=["key", "instances"])
    found = {row["key"]: row["instances"] for row in rows.to_pylist()}
    assert [entry["area_px"] for entry in found["a"]] == [one.area_px for one in drawn(ord("a")).instances]


def test_a_table_of_nothing_belongs_to_a_panoptic_image_too(uri: str, labels: Any) -> None:
    run = labels.begin(uri, panoptic=True)
    nothing = {"label": np.zeros((2, 3), np.uint8), "instance": np.zeros((2, 3), np.uint16)}
    assert table_of(nothing["instance"], nothing["label"]) == ()
    run.writer.append([run.segment.write(ImageFacts(key="a", source="a", instances=()), nothing)])
    run.writer.finish()
    assert LabelStore.open(uri).has_instances
    assert LabelStore.open(uri).instances("a")[1] == []
    assert verify(uri) == []


def test_polars_reads_and_explodes_the_table(uri: str, labels: Any, drawn: Any) -> None:
    polars = pytest.importorskip("polars")
    labels.fill(uri, panoptic=True, center_threshold=0.5)
    rows = polars.read_delta(f"{uri}/manifest").explode("instances").unnest("instances", separator=".")
    made = {key: drawn(ord(key)).instances for key in "abc"}
    assert rows.height == sum(map(len, made.values()))
    cars = rows.filter(polars.col("instances.train_id") == 1).sort("key")
    expected = [(key, one.area_px) for key in "abc" for one in made[key] if one.train_id == 1]
    assert sorted(cars.select("key", "instances.area_px").rows()) == sorted(expected)
    assert rows["instances.center_score"].dtype == polars.Float32
    assert set(rows["rule"]) == {'{"center_threshold":0.5}'}
