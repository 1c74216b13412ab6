"""Curves, bins and errors of a 4x4 image that was counted by hand in test_counts.py."""

from dataclasses import replace

import numpy as np
import pytest

from hmsa_label.pipeline.calibrate.bootstrap import Resamples
from hmsa_label.pipeline.calibrate.counts import ImageCounts, stack
from hmsa_label.pipeline.calibrate.curves import Measured
from hmsa_label.pipeline.calibrate.records import ClassCalibration

IMAGE = ImageCounts(
    labeled=np.array([7, 7]),
    predicted=np.array([[1, 1, 3], [1, 3, 3]], np.int32),
    right=np.array([[1, 1, 2], [1, 2, 2]], np.int32),
    missed=np.array([[0, 1, 1], [0, 0, 1]], np.int32),
)


@pytest.fixture
def measured() -> Measured:
    """Four such images."""
    edges = np.array([0.5, 0.9], np.float32)
    return Measured.of(stack(["a", "b", "c", "d"], ("x", "y"), edges, (0.5, 0.9), [IMAGE] * 4))


def described(measured: Measured, train_id: int | None) -> ClassCalibration:
    return measured.describe(Resamples(np.arange(4), 100, 0.95), train_id)


def test_curve_of_a_class_is_as_by_hand(measured):
    whole, _, sure = described(measured, 0).curve
    assert (whole.kept_px, whole.precision, whole.kept_share, whole.found) == (20, 4 / 5, 1.0, 4 / 7)
    assert whole.iou == 4 / (5 + 2)  # of 7 labeled pixels two are predicted as the other class, one as nothing
    assert (sure.threshold, sure.kept_px, sure.precision, sure.kept_share, sure.found) == (0.9, 12, 2 / 3, 3 / 5, 2 / 7)
    assert sure.iou == 2 / (3 + 1)
    assert sure.precision_low == sure.precision_high == pytest.approx(2 / 3)  # all images are equal


def test_curve_of_all_classes_has_their_mean_iou(measured):
    whole = described(measured, None).curve[0]
    assert (whole.kept_px, whole.precision, whole.found) == (48, 9 / 12, 9 / 14)
    assert whole.iou == pytest.approx((4 / 7 + 5 / 8) / 2)


def test_bins_of_stored_levels_take_their_middle(measured):
    found = described(measured, 0)
    assert [(part.low, part.high, part.pixels) for part in found.bins] == [(0, 0.5, 4), (0.5, 0.9, 4), (0.9, 1, 12)]
    assert [part.confidence for part in found.bins] == pytest.approx([0.5, 0.7, 0.95])
    assert found.ece == pytest.approx((abs(1 - 0.5) + abs(1 - 0.7) + abs(2 - 3 * 0.95)) / 5)


def test_class_without_a_prediction_has_neither_precision_nor_error(measured):
    nothing = np.zeros((2, 3), np.int32)
    image = replace(IMAGE, labeled=np.array([7, 0]), predicted=nothing, right=nothing, missed=nothing)
    empty = Measured.of(stack(["a"], ("x", "y"), np.array([0.5, 0.9], np.float32), (0.5, 0.9), [image]))
    found = empty.describe(Resamples(np.arange(1), 100, 0.95), 0)
    assert (found.predicted_px, found.ece, found.temperature, found.bins) == (0, None, None, [])
    point = found.curve[0]
    assert (point.precision, point.kept_share, point.found, point.iou) == (None, None, 0.0, None)
