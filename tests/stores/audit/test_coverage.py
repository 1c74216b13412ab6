"""What rows of a manifest tell of each class, by hand."""

from typing import Any

import numpy as np
import pyarrow as pa

from hmsa_label.stores.audit.coverage import coverage
from hmsa_label.stores.audit.summary import summarize
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold

NAMES = ("road", "pole", "bus")


def rows(*images: dict[str, object]) -> pa.Table:
    """Rows of a manifest; what an image does not name is null, and its rule keeps all."""
    counts = ("class_px", "predicted_px", "teacher_px", "polygon_px", "polygon_kept_px", "polygon_agree_px")
    fields = [pa.field(name, pa.list_(pa.int64())) for name in counts]
    fields += [pa.field("valid_px", pa.int64()), pa.field("threshold", pa.float64()), pa.field("rule", pa.string())]
    full = []
    for image in images:
        rule = image.get("rule", Rule(0.0))
        full.append({**image, "valid_px": sum(image["class_px"]), "threshold": rule.threshold, "rule": rule.text})
    return pa.Table.from_pylist(full, schema=pa.schema(fields))


def test_kept_pixels_are_the_teachers_own_where_polygons_spoke_too() -> None:
    found = coverage(
        rows(
            {"class_px": [80, 9, 0], "predicted_px": [100, 20, 0], "teacher_px": [80, 5, 0]},
            {"class_px": [50, 0, 0], "predicted_px": [60, 10, 0]},
        ),
        NAMES,
    )
    assert found.label_px.tolist() == [130, 9, 0]
    assert (found.teacher_px.tolist(), found.predicted_px.tolist()) == ([130, 5, 0], [160, 30, 0])
    assert found.kept_share == {"road": 130 / 160, "pole": 5 / 30, "bus": None}
    assert found.predicted_images.tolist() == [2, 2, 0]


def test_images_whose_rows_tell_of_no_prediction_are_left_out_of_what_is_kept_of_it() -> None:
    found = coverage(rows({"class_px": [80, 0, 0]}, {"class_px": [5, 0, 0], "predicted_px": [10, 0, 0]}), NAMES)
    assert found.kept_share["road"] == 0.5


def drawn(rule: Rule, **changes: object) -> dict[str, object]:
    """40 px of polygons of a pole: the teacher keeps 25, 20 of them as pole; 10 px of road, all kept."""
    polygons = {"polygon_px": [10, 40, 0], "polygon_kept_px": [10, 25, 0], "polygon_agree_px": [10, 20, 0]}
    return {"class_px": [15, 20, 0], "predicted_px": [20, 30, 0], **polygons, "rule": rule, **changes}


def held(rule: Rule, **changes: object) -> float | None:
    return coverage(rows(drawn(rule, **changes)), NAMES).polygon_held_share["pole"]


def test_what_labels_hold_of_polygons_follows_from_what_polygons_may_do() -> None:
    assert held(Rule(0.9)) == held(Rule(0.9, polygons="veto")) == 20 / 40
    assert held(Rule(0.9, polygons="add"), class_px=[10, 35, 0]) == 35 / 40
    assert held(Rule(0.9, polygons="trust"), class_px=[10, 40, 0]) == 1.0
    assert held(Rule(0.9, polygons="trust", class_polygons={"pole": "off"})) == 20 / 40
    assert held(Rule(0.9, class_polygons={"pole": "seen"}), class_px=[10, 45, 0]) == 1.0
    unseen = {"polygon_agree_px": [10, 0, 0], "class_px": [35, 0, 0]}
    assert held(Rule(0.9, class_polygons={"pole": "seen"}), **unseen) == 0.0


def test_images_that_are_none_of_the_best_say_nothing_of_polygons() -> None:
    dropped = drawn(Rule(0.9), class_px=[0, 0, 0])
    assert coverage(rows(dropped), NAMES).polygon_images.tolist() == [0, 0, 0]
    assert coverage(rows(dropped, drawn(Rule(0.9))), NAMES).polygon_images.tolist() == [1, 1, 0]


def test_rows_of_different_rules_are_counted_by_their_own() -> None:
    both = rows(drawn(Rule(0.9)), drawn(Rule(0.9, polygons="trust"), class_px=[10, 40, 0]))
    assert coverage(both, NAMES).polygon_held_px.tolist() == [20, 60, 0]


def test_no_rows_are_no_coverage() -> None:
    found = coverage(rows().slice(0, 0), NAMES)
    assert found.kept_share == dict.fromkeys(NAMES)


def test_a_summary_counts_what_is_kept_of_the_predicted_pixels(labels: Any, uri: str) -> None:
    labels.fill(uri)
    rethreshold(uri, 0.7)
    store = LabelStore.open(uri)
    summary, (label, top1) = summarize(store), (
        np.concatenate([read(key).ravel() for key in store])
        for read in (store.read, lambda key: store.read_array(key, "top1"))
    )  # fmt: skip
    for place, name in enumerate(store.classes["names"]):
        assert summary.class_kept_share[name] == (label == place).sum() / (top1 == place).sum()
    assert summary.origin_share == {"teacher": 1.0, "polygon": 0.0, "grown": 0.0, "human": 0.0}
    assert summary.class_polygon_agreement is None


def test_rows_that_a_change_of_the_rule_will_make_are_known_before_anybody_sees_them(labels: Any, uri: str) -> None:
    labels.fill(uri)
    seen: list[pa.Table] = []
    columns = ["key", "class_px", "threshold"]

    def look(writer: RunWriter) -> None:
        assert LabelStore.open(uri).rule("a").threshold == 0.9
        seen.append(writer.rows(columns))

    rethreshold(uri, 0.7, before_finish=look)
    assert seen[0].sort_by("key").equals(LabelStore.open(uri).table(columns))


def test_rows_of_a_run_are_those_that_it_has_committed(labels: Any, uri: str) -> None:
    labels.fill(uri, ["a"])
    more = labels.begin(uri)
    more.writer.append([more.write("b")])
    assert more.writer.rows(["key"])["key"].to_pylist() == ["a", "b"]
