"""The ordinal code: exact at every stored threshold, for every float32 there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.evidence import (
    DEFAULT_GRID,
    code_of,
    grid_with,
    label_at,
    level_of,
    margin_code_of,
    spelled,
)

EDGES = np.array(
    [0.0, 1.0, np.nan, *DEFAULT_GRID]
    + [np.nextafter(np.float32(t), np.float32(side)) for t in DEFAULT_GRID for side in (0, 1)],
    np.float32,
)
CONFIDENCES = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.one_of(st.floats(0, 1, width=32), st.sampled_from(EDGES.tolist()).map(np.float32)),
)  # fmt: skip


def expected(confidence: np.ndarray, top1: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(confidence.astype(np.float32) >= np.float32(threshold), top1, 255)


def test_default_grid_is_the_twelve_thresholds_of_the_format() -> None:
    halves, more = (0.5, 128 / 255, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85), (0.9, 230 / 255, 0.95, 0.97, 0.98)
    assert (0.3, 0.4, *halves, *more, 0.99, 0.995) == DEFAULT_GRID
    assert list(DEFAULT_GRID) == sorted(DEFAULT_GRID)


@given(CONFIDENCES, st.sampled_from(DEFAULT_GRID))
def test_label_from_code_equals_label_from_confidence(confidence: np.ndarray, threshold: float) -> None:
    top1 = np.arange(confidence.size, dtype=np.uint8).reshape(confidence.shape) % 19
    code = code_of(confidence, DEFAULT_GRID)
    np.testing.assert_array_equal(
        label_at(top1, code, level_of(threshold, DEFAULT_GRID)), expected(confidence, top1, threshold)
    )


@pytest.mark.parametrize("threshold", DEFAULT_GRID)
def test_every_neighbor_of_every_threshold_falls_on_its_side(threshold: float) -> None:
    top1 = np.full((1, EDGES.size), 7, np.uint8)
    label = label_at(top1, code_of(EDGES[None], DEFAULT_GRID), level_of(threshold, DEFAULT_GRID))
    np.testing.assert_array_equal(label, expected(EDGES[None], top1, threshold))


@given(st.floats(0.01, 0.99), CONFIDENCES)
def test_own_threshold_of_a_run_is_exact_too(threshold: float, confidence: np.ndarray) -> None:
    grid = grid_with(threshold)
    top1 = np.zeros(confidence.shape, np.uint8)
    np.testing.assert_array_equal(
        label_at(top1, code_of(confidence, grid), level_of(threshold, grid)), expected(confidence, top1, threshold)
    )


def test_half_precision_is_compared_as_float32() -> None:
    # float16(0.9) is 0.8999; compared in half precision it would reach 0.9.
    assert code_of(np.array([[0.9]], np.float16), (0.9,)) == 0


def test_float64_just_below_a_threshold_counts_as_its_float32_value() -> None:
    assert code_of(np.array([[0.9]], np.float64), (0.9,)) == 1


def test_nan_reaches_no_threshold() -> None:
    assert code_of(np.array([[np.nan]], np.float32), DEFAULT_GRID) == 0


def test_grid_with_a_stored_threshold_is_the_grid() -> None:
    assert grid_with(0.9) == DEFAULT_GRID


def test_grid_takes_up_a_new_threshold_in_order() -> None:
    assert grid_with(0.93)[13:15] == (0.93, 0.95)
    assert grid_with([0.93, 0.42, 0.9, 0.0]) == tuple(sorted((*DEFAULT_GRID, 0.93, 0.42)))


@pytest.mark.parametrize("threshold", [1.0, -0.5, 1.5, float("nan")])
def test_threshold_outside_the_interval_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        grid_with(threshold)


def test_more_levels_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 253"):
        grid_with(0.5, [i / 1000 for i in range(1, 300)])


def test_threshold_off_the_grid_is_refused_with_the_grid() -> None:
    with pytest.raises(ThresholdNotStored, match=r"0\.93 is not among .*0\.9, 230/255, 0\.95, 0\.97"):
        level_of(0.93, DEFAULT_GRID)


def test_the_threshold_0_needs_no_place_on_a_grid() -> None:
    assert level_of(0.0, ()) == level_of(0.0, DEFAULT_GRID) == 0
    assert label_at(np.array([[3]], np.uint8), np.array([[0]], np.uint8), 0) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.9, "0.9"), (0.995, "0.995"), (128 / 255, "128/255"), (0.123456789, "0.123456789"), (0, "0")],
)
def test_a_threshold_is_spelled_so_that_it_reads_back_as_it_was(value: float, text: str) -> None:
    assert spelled(value) == text
    number, _, parts = text.partition("/")
    assert np.float32(float(number) / float(parts or 1)) == np.float32(value)


def test_margins_are_differences_of_float32_probabilities() -> None:
    top, second = np.array([[0.9, 0.55, np.nan, 0.5]], np.float32), np.array([[0.1, 0.45, 0, 0.5]], np.float32)
    just = float(np.float32(0.55) - np.float32(0.45))
    assert margin_code_of(top, second, (0.05, just, 0.8)).tolist() == [[2, 2, 0, 0]]
    assert margin_code_of(top, second).tolist() == [[11, 4, 0, 0]]  # float32(0.9) - float32(0.1) is below float32(0.8)
