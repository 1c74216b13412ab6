"""Temperatures: what was put in comes out."""

import numpy as np
import pytest

from hmsa_label.pipeline.calibrate.temperature import fit_temperature, threshold_before

CONFIDENCE = np.linspace(0.505, 0.995, 50)


def right_at(temperature: float) -> np.ndarray:
    """Right pixels of a million per bin, if a teacher is too sure by this temperature."""
    true = 1 / (1 + np.exp(-np.log(CONFIDENCE / (1 - CONFIDENCE)) / temperature))
    return np.round(1_000_000 * true).astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_temperature_of_a_drawn_teacher_is_found(temperature):
    pixels = np.full(len(CONFIDENCE), 1_000_000)
    assert fit_temperature(CONFIDENCE, pixels, right_at(temperature)) == pytest.approx(temperature, rel=1e-3)


def test_no_neighbor_has_a_better_likelihood():
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 1000, len(CONFIDENCE))
    right = rng.binomial(pixels, CONFIDENCE**2)
    best = fit_temperature(CONFIDENCE, pixels, right)
    assert best is not None

    def loss(temperature: float) -> float:
        p = 1 / (1 + np.exp(-np.log(CONFIDENCE / (1 - CONFIDENCE)) / temperature))
        return float(-(right * np.log(p) + (pixels - right) * np.log1p(-p)).sum())

    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_none_where_all_or_none_is_right_or_less_than_half_whatever_the_confidence(share):
    pixels = np.full(len(CONFIDENCE), 1000)
    assert fit_temperature(CONFIDENCE, pixels, (share * pixels).astype(np.int64)) is None


def test_none_without_a_pixel():
    assert fit_temperature(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)) is None


def test_threshold_before_a_temperature_becomes_the_threshold_after_it():
    before = threshold_before(0.9, 2.0)
    assert before == pytest.approx(81 / 82)  # odds of 9 squared
    assert threshold_before(0.9, 1.0) == pytest.approx(0.9)
