"""Average precision: the official script on random instances, and rules by hand."""

import warnings

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.base import Instance
from hmsa_label.labelers.panoptic.average_precision import AveragePrecision, area_under_curve
from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.taxonomy import CITYSCAPES
from tests.labelers.official import official_module

THINGS = CITYSCAPES.things


def instance_of(train_id, confidence=1.0, center_score=1.0):
    return Instance(train_id, center_score, confidence, 0, (0, 0, 1, 1))


def random_image(draw):
    """(labels, predicted instances, their list) [64, 96]: rectangles, found or not, small ones, crowds and void."""
    labels, predicted, instances = np.zeros((64, 96), int), np.zeros((64, 96), int), []
    for number in range(1, 10):
        train_id, top, left = (int(draw.integers(*ends)) for ends in ((11, 15), (0, 50), (0, 80)))
        tall, wide = (int(n) for n in draw.integers(7, 22, 2))
        kind = draw.random()
        crowd_or_not = 0 if kind < 0.15 else number
        labels[top : top + tall, left : left + wide] = VOID if kind > 0.9 else train_id * 1000 + crowd_or_not
        if draw.random() < 0.8:
            instances.append(instance_of(train_id, round(draw.random(), 1), 0.5))  # some scores are equal
            dy, dx = draw.integers(0, 3, 2)
            predicted[top + dy : top + tall, left : left + wide - dx] = len(instances)
    return labels, predicted, instances


def official_ap(module, folder, images):
    """[8, 10] by the official script, of thing classes and thresholds."""
    module.args.distanceAvailable = False
    module.setInstanceLabels(module.args)
    raw, matches = np.array(CITYSCAPES.raw_ids), {}
    for place, (labels, predicted, instances) in enumerate(images):
        known = labels != VOID
        raw_id, number = raw[np.where(known, labels // 1000, 0)], labels % 1000
        ids = np.where(known, np.where(number > 0, raw_id * 1000 + number - 1, raw_id), 0)
        of_labels = {name: [] for name in module.args.instLabels}
        for own in np.unique(ids):
            train_id = CITYSCAPES.train_id_of[own if own < 1000 else own // 1000]
            if train_id in THINGS:
                about = {"instID": int(own), "pixelCount": int((ids == own).sum()), "medDist": -1, "distConf": 0.0}
                of_labels[CITYSCAPES.names[train_id]].append(about)
        given = {}
        for number, one in enumerate(instances, 1):
            file = str(folder / f"{place}_{number}.png")
            Image.fromarray((predicted == number).astype(np.uint8)).save(file)
            given[file] = {"labelID": raw[one.train_id], "conf": one.confidence * one.center_score}
        labels_found, predictions = module.assignGt2Preds(of_labels, ids, given, module.args)
        matches[place] = {"groundTruth": labels_found, "prediction": predictions}
    return module.evaluateMatches(matches, module.args)[0]


def test_average_precision_is_that_of_the_official_script(tmp_path, monkeypatch):
    module = official_module("evalInstanceLevelSemanticLabeling")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which newer NumPy has no more
    draw = np.random.default_rng(0)
    images = [random_image(draw) for _ in range(12)]
    ours = AveragePrecision(CITYSCAPES)
    for labels, predicted, instances in images:
        ours.add(labels, predicted, instances)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = official_ap(module, tmp_path, images)
    table = ours.by_class()[list(THINGS)]
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-9)
    assert 0 < np.isfinite(table).sum() < table.size
    assert np.nanmax(table) > 0.3
    assert ours.score() == pytest.approx((np.nanmean(expected), np.nanmean(expected[:, 0])))


def one_car(rows, predicted_rows, instances, other=(), min_area_px=1):
    """AP at each threshold of a car in a column of 20 px, and of predictions (rows of each)."""
    labels, predicted = np.zeros((20, 1), int), np.zeros((20, 1), int)
    labels[rows] = 13_001
    for where, value in other:
        labels[where] = value
    for number, where in enumerate(predicted_rows, 1):
        predicted[where] = number
    found = AveragePrecision(CITYSCAPES, min_area_px)
    found.add(labels, predicted, instances)
    return found.by_class()[13]


CAR = instance_of(13)


def test_found_instance_counts_below_its_overlap():
    assert one_car(slice(0, 10), [slice(0, 8)], [CAR]).tolist() == [1.0] * 6 + [0.0] * 4  # IoU 0.8, which is not above


def test_false_instance_of_higher_score_costs_precision_and_one_of_lower_score_does_not():
    rows, found = slice(0, 10), [slice(0, 10), slice(12, 15)]
    assert one_car(rows, found, [instance_of(13, 0.9), instance_of(13, 0.8)])[0] == 1
    assert one_car(rows, found, [instance_of(13, 0.8), instance_of(13, 0.9)])[0] == pytest.approx(0.25)


def test_score_is_the_product_of_confidence_and_center_score():
    rows, found = slice(0, 10), [slice(0, 10), slice(12, 15)]
    assert one_car(rows, found, [instance_of(13, 0.9, 0.9), instance_of(13, 1.0, 0.8)])[0] == 1
    assert one_car(rows, found, [instance_of(13, 0.8, 1.0), instance_of(13, 0.9, 0.9)])[0] == pytest.approx(0.25)


@pytest.mark.parametrize("value", [VOID, 13_000])
def test_instance_on_void_or_on_a_crowd_of_its_class_is_no_mistake(value):
    found = one_car(slice(0, 10), [slice(0, 10), slice(12, 15)], [CAR, CAR], other=[(slice(11, 16), value)])
    assert found.tolist() == [1.0] * 10


def test_instance_on_a_crowd_of_another_class_is_a_mistake():
    found = one_car(slice(0, 10), [slice(0, 10), slice(12, 15)], [CAR, CAR], other=[(slice(11, 16), 11_000)])
    assert found[0] < 1


def test_small_instances_are_not_asked_for():
    found = one_car(
        slice(0, 10), [slice(0, 10), slice(12, 15)], [CAR, CAR], other=[(slice(12, 15), 13_002)], min_area_px=5
    )
    assert found.tolist() == [1.0] * 10


def test_overlap_that_only_reaches_the_threshold_is_a_mistake():
    rows, other = [slice(0, 5), slice(12, 20)], [(slice(12, 20), 13_002)]
    found = one_car(slice(0, 10), rows, [instance_of(13, 0.9), instance_of(13, 0.5)], other=other)
    assert found[0] == pytest.approx(0.125)


def test_crowd_that_is_small_excuses_twice():  # as in the official script
    found = one_car(slice(0, 10), [slice(0, 10), slice(12, 17)], [CAR, CAR], [(slice(12, 14), 13_000)], min_area_px=5)
    assert found[0] == 1


def test_class_that_the_labels_do_not_have_has_no_score_and_a_missed_one_zero():
    found = AveragePrecision(CITYSCAPES, 1)
    found.add(np.full((4, 4), 13_001), np.ones((4, 4), int), [instance_of(11)])
    table = found.by_class()
    assert np.isnan(table[11]).all()
    assert (table[13] == 0).all()
    assert found.score() == (0.0, 0.0)
    assert AveragePrecision(CITYSCAPES).score() == (0.0, 0.0)


def test_equal_scores_are_one_point_of_the_curve():
    scores, hits = np.array([0.5, 0.5, 0.5]), np.array([True, False, True])
    assert area_under_curve(scores, hits, 2) == area_under_curve(scores, hits[::-1], 2)
