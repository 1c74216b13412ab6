"""Counting by level, on a 4x4 image that was worked by hand, and against the plain definition."""

import numpy as np
import pytest

from hmsa_label.pipeline.calibrate.counts import count_image, fine_edges, levels_of, levels_of_code, stack

EDGES = np.array([0.5, 0.9], np.float32)
# Two classes; 255 has no label, or no prediction.
LABELS = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [255, 255, 0, 1]], np.uint8)
TOP1 = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [1, 0, 1, 1], [0, 1, 255, 255]], np.uint8)
SURE = np.array([[0.95, 0.9, 0.6, 0.55], [0.4, 0.95, 0.95, 0.5], [0.3, 0.92, 0.91, 0.7], [1, 1, 1, 1]], np.float32)


def counted():
    return count_image(LABELS, TOP1, levels_of(SURE, EDGES), 2, 3, SURE)


def test_image_is_counted_as_by_hand():
    found = counted()
    assert found.labeled.tolist() == [7, 7]
    assert found.predicted.tolist() == [[1, 1, 3], [1, 3, 3]]  # below 0.5, below 0.9, above
    assert found.right.tolist() == [[1, 1, 2], [1, 2, 2]]
    assert found.missed.tolist() == [[0, 1, 1], [0, 0, 1]]  # by class of the label
    assert np.allclose(found.confidence, [[0.4, 0.6, 2.77], [0.3, 1.75, 2.81]])


def test_kept_pixels_are_those_that_reach_a_threshold():
    one = counted()
    counts = stack(["a", "b"], ("x", "y"), EDGES, (0.5, 0.9), [one, one])
    assert counts.kept(counts.predicted, (0.0, 0.5, 0.9))[0].tolist() == [[5, 4, 3], [7, 6, 3]]
    assert counts.kept(counts.missed, (0.0, 0.9))[1].tolist() == [[2, 1], [1, 1]]
    assert counts.confidence is not None
    assert np.allclose(counts.confidence, 2 * one.confidence)


def test_confidence_reaches_a_threshold_as_float32_and_nan_reaches_none():
    grid = (0.3, 0.4, 0.5, 128 / 255, 0.9, 0.995)
    edges = fine_edges(grid)
    confidence = np.array([0.9, np.nextafter(np.float32(0.9), np.float32(0)), 128 / 255, np.nan, 1.0, 0.0], np.float32)
    level = levels_of(confidence, edges)
    for value in grid:
        place = int(np.flatnonzero(edges == np.float32(value))[0])
        assert ((level > place) == (confidence >= np.float32(value))).all(), value


def test_levels_of_a_stored_code_are_those_of_its_confidence():
    stored, common = (0.3, 0.5, 0.7, 0.9), np.array([0.5, 0.9], np.float32)
    confidence = np.linspace(0, 1, 101, dtype=np.float32)
    code = (confidence[:, None] >= np.array(stored, np.float32)).sum(1).astype(np.uint8)
    assert (levels_of_code(code, stored, common) == levels_of(confidence, common)).all()


def test_prediction_of_another_size_is_refused():
    with pytest.raises(ValueError, match="its fine labels have 4 x 4 px, its prediction 2 x 4 px"):
        count_image(LABELS, TOP1[:2], levels_of(SURE, EDGES), 2, 3)
