"""Which threshold is proposed, and what is said where none is."""

import numpy as np
import pytest

from hmsa_label.pipeline.calibrate.bootstrap import Precision
from hmsa_label.pipeline.calibrate.choice import choose

GRID = (0.5, 0.7, 0.9, 0.99)


def found(value, low, kept=(9000, 8000, 7000, 6000), units=(9, 9, 9, 9)) -> Precision:
    low = np.array(low, float)
    return Precision(
        value=np.array(value, float),
        low=low,
        high=np.minimum(2 * np.array(value, float) - low, 1),
        kept_px=np.array(kept),
        units=np.array(units),
    )


def test_lowest_threshold_whose_interval_reaches_the_target_is_chosen():
    one = found((0.90, 0.96, 0.98, 0.99), (0.86, 0.94, 0.95, 0.97))
    assert choose(GRID, one, 0.95, 9999) == (0.9, None)  # 0.96 at 0.7 may be luck
    assert choose(GRID, one, 0.94, 9999) == (0.7, None)


def test_no_threshold_below_one_that_is_not_precise_enough_is_chosen():
    one = found((0.97, 0.97, 0.94, 0.99), (0.96, 0.96, 0.92, 0.98))
    assert choose(GRID, one, 0.95, 9999) == (0.99, None)


def test_thresholds_with_too_few_pixels_or_images_are_passed_over():
    one = found((0.97, 0.97, 0.90, 0.20), (0.96, 0.96, np.nan, np.nan), (9000, 8000, 5000, 900), (9, 9, 2, 1))
    assert choose(GRID, one, 0.95, 9999) == (0.5, None)


@pytest.mark.parametrize(
    ("one", "predicted", "reason"),
    [
        (found((np.nan,) * 4, (np.nan,) * 4, (0,) * 4, (0,) * 4), 0, "no pixel is predicted as it"),
        (found((1,) * 4, (1,) * 4, (999,) * 4), 5000, "too few pixels: 999 of 5,000 predicted px reach 0.5"),
        (found((1,) * 4, (np.nan,) * 4, (9999,) * 4, (2,) * 4), 10_000, "too few images: 9,999 of 10,000 predicted px"),
        (found((0.5, 0.6, 0.7, 0.7), (0.4,) * 4), 9999, "never that precise: at most 0.7000, at 0.9"),
        (found((0.9, 0.96, 0.97, 0.97), (0.8, 0.9, 0.93, 0.92)), 9999,
         "not surely that precise: 0.9700 at 0.9, with an interval 0.9300 to 1.0000"),
        (found((0.97, 0.97, 0.97, 0.94), (0.96, 0.96, 0.96, 0.9)), 9999, "less precise at a higher threshold than"),
    ],
)  # fmt: skip
def test_class_without_a_threshold_is_off_and_says_why(one, predicted, reason):
    value, told = choose(GRID, one, 0.95, predicted)
    assert value == "off"
    assert told is not None
    assert told.startswith(reason)
