"""Intervals of a precision."""

import numpy as np

from hmsa_label.pipeline.calibrate.bootstrap import Resamples


def drawn(units: int, pixels: int, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[units, 1] kept and right pixels of units whose precision varies about 0.9."""
    rng = np.random.default_rng(seed)
    kept = np.full((units, 1), pixels)
    return kept, rng.binomial(kept, np.clip(rng.normal(0.9, spread, (units, 1)), 0, 1))


def test_value_is_the_share_of_all_pixels_and_lies_in_its_interval():
    kept, right = drawn(40, 1000, 0.05, 0)
    found = Resamples(np.arange(40), 1000, 0.95).precision(kept, right)
    assert found.value[0] == right.sum() / kept.sum()
    assert found.low[0] < found.value[0] < found.high[0]
    assert (found.kept_px[0], found.units[0]) == (40_000, 40)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        found = Resamples(np.arange(25), 300, 0.9).precision(*drawn(25, 2000, 0.04, seed))
        covered += found.low[0] <= 0.9 <= found.high[0]
    assert 80 <= covered <= 97


def test_interval_is_as_wide_as_units_differ_however_many_pixels_they_have():
    few = Resamples(np.arange(20), 500, 0.95).precision(*drawn(20, 200, 0.05, 1))
    many = Resamples(np.arange(20), 500, 0.95).precision(*drawn(20, 2_000_000, 0.05, 1))
    width = many.high[0] - many.low[0]
    assert 0.02 < width < few.high[0] - few.low[0] + 0.02  # pixels alone would make it 0.0001 wide


def test_images_of_one_unit_are_drawn_together():
    kept, right = drawn(12, 1000, 0.05, 2)
    apart = Resamples(np.arange(12), 500, 0.95).precision(kept, right)
    split = np.vstack([kept // 2, kept - kept // 2]), np.vstack([right // 2, right - right // 2])
    together = Resamples(np.tile(np.arange(12), 2), 500, 0.95).precision(*split)
    assert (apart.low, apart.high, apart.value) == (together.low, together.high, together.value)


def test_too_few_units_have_a_value_and_no_interval_and_nothing_kept_has_neither():
    kept = np.array([[5, 0], [7, 0], [0, 0], [0, 0]])
    found = Resamples(np.arange(4), 100, 0.95).precision(kept, kept)
    assert found.value[0] == 1
    assert np.isnan([found.low[0], found.high[0], found.value[1], found.low[1]]).all()


def test_same_images_give_the_same_interval():
    kept, right = drawn(10, 100, 0.1, 3)
    first, second = (Resamples(np.arange(10), 200, 0.95).precision(kept, right) for _ in range(2))
    assert (first.low == second.low).all()
