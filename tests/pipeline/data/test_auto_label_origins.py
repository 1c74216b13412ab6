"""What a training takes of labels that polygons have a say in: labels, who said them, weights; by hand."""

import numpy as np
import pytest

from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.rule import Rule
from tests.pipeline.polygon_maps import CASES, CODE, TRUST, TRUST_ORIGIN, C, P, R, S, _, origin_of, pixels, store_of


@pytest.mark.parametrize("case", CASES)
def test_labels_and_who_said_them_are_those_of_the_rule(tmp_path, case):
    rule, label, origin = CASES[case]
    data = AutoLabelDataset(store_of(tmp_path, rule))
    assert data.label(0).tolist() == label.tolist()
    assert data.origin(0).tolist() == origin_of(label, origin).tolist()
    assert data.pair(0)[1].tolist() == label.tolist()
    assert data.rule == rule


@pytest.mark.parametrize("case", ["veto", "seen", "grow 2 px"])
def test_another_threshold_keeps_what_the_rule_says_of_polygons(tmp_path, case):
    rule, label, origin = CASES[case]
    lower = Rule(0.5, rule.center_threshold, rule.instance_threshold, polygons=rule.polygons,
                 class_polygons=rule.class_polygons, grow_px=rule.grow_px)  # fmt: skip
    data = AutoLabelDataset(store_of(tmp_path, lower), threshold=0.9)
    assert data.label(0).tolist() == label.tolist()
    assert data.origin(0).tolist() == origin_of(label, origin).tolist()
    assert data.rule == rule


def test_polygons_of_a_class_count_once_another_threshold_lets_the_teacher_see_it(tmp_path):
    data = AutoLabelDataset(store_of(tmp_path, Rule(0.9, polygons="seen")), threshold=0.5)
    assert data.label(0).tolist() == [[R, R, C, C], [R, R, S, C], [R, P, _, S], [P, P, S, S]]
    assert data.origin(0).tolist() == [[2, 1, 2, 2], [1, 2, 2, 2], [2, 1, 0, 2], [1, 2, 2, 1]]


def test_thresholds_of_classes_change_the_rule_and_off_keeps_no_pixel(tmp_path):
    store = store_of(tmp_path, Rule(0.9, class_thresholds={"person": 0.5}))
    data = AutoLabelDataset(store, class_thresholds={"road": "off", "car": 0.5})
    assert data.label(0).tolist() == [[_, _, C, C], [_, _, C, C], [P, P, _, _], [P, _, _, _]]
    both = AutoLabelDataset(store, threshold=0.5, class_thresholds={"road": "off"})
    assert both.label(0).tolist() == [[_, _, C, C], [_, _, C, C], [P, P, _, S], [P, P, _, S]]
    assert len({data.digest, both.digest, AutoLabelDataset(store).digest}) == 3
    with pytest.raises(ValueError, match="'roads', which is no class; there are road, sidewalk"):
        AutoLabelDataset(store, class_thresholds={"roads": 0.5})
    with pytest.raises(ThresholdNotStored, match=r"0\.123 is not among the stored ones"):
        AutoLabelDataset(store, class_thresholds={"road": 0.123})


@pytest.mark.parametrize("changed", [False, True])
def test_pixels_that_the_teacher_did_not_say_count_in_full(tmp_path, changed):
    store = store_of(tmp_path, Rule(0.5 if changed else 0.9, polygons="trust"))
    data = AutoLabelDataset(store, threshold=0.9 if changed else None)
    assert data.label(0).tolist() == TRUST.tolist()
    least = np.array([0, 0.5, 0.9], np.float32)[CODE]
    assert data.weights(0).tolist() == np.where(TRUST_ORIGIN == 2, np.float32(1), least).tolist()
    grown = AutoLabelDataset(store_of(tmp_path / "grown", Rule(0.9, polygons="trust", grow_px=2)))
    assert grown.weights(0)[2, 2] == grown.weights(0)[3, 3] == 1


CODES = {"town_0": CODE, "town_1": np.minimum(CODE, 1), "town_2": pixels(*[[0] * 4] * 4), "town_3": CODE}


@pytest.mark.parametrize(
    ("own", "threshold", "empty"),
    [(0.9, None, [1, 2]), (0.5, 0.9, [1, 2])],
)
def test_images_without_a_labeled_pixel_are_left_out_if_asked(tmp_path, own, threshold, empty):
    store = store_of(tmp_path, Rule(own), CODES)
    data = AutoLabelDataset(store, threshold=threshold, keep_empty=False)
    assert data.left_out == [f"train_extra/town/town_{number}" for number in empty]
    assert data.keys == [key for key in store if key not in data.left_out]
    assert len(data) == 4 - len(empty)
    whole = AutoLabelDataset(store, threshold=threshold)
    assert (len(whole), whole.left_out) == (4, [])
    for index, key in enumerate(data.keys):
        assert (data[index][0] == int(key[-1])).all()
        assert data.label(index).tolist() == whole.label(int(key[-1])).tolist()


def test_label_and_weights_of_an_item_read_its_files_once(tmp_path, monkeypatch):
    data = AutoLabelDataset(store_of(tmp_path, Rule(0.5, polygons="trust"), CODES), threshold=0.9)
    read, array = [], data.store.read_array
    monkeypatch.setattr(data.store, "read_array", lambda key, name: read.append(name) or array(key, name))
    for ask in (data.label, data.weights, data.origin):
        ask(1)
    assert sorted(read) == ["code", "polygon", "top1"]
