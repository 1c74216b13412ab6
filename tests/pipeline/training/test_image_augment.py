"""Crops of whole images: their size, what part of the image they show, and that they repeat themselves."""

import numpy as np
import pytest

from hmsa_label.pipeline.training.image_augment import center_crop, random_crop


def ramp(height, width):
    """Each pixel tells its place: red its row, green its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("image_px", "crop_px"), [((60, 90), (32, 32)), ((40, 200), (32, 64)), ((5, 250), (48, 32))])
def test_random_crop_has_the_size_whatever_the_image(image_px, crop_px):
    crops = [random_crop(ramp(*image_px), crop_px, np.random.default_rng(seed)) for seed in range(20)]
    assert {crop.shape for crop in crops} == {(*crop_px, 3)}
    assert {crop.dtype for crop in crops} == {np.dtype(np.uint8)}
    assert len({crop.tobytes() for crop in crops}) > 1 or min(image_px) < 10


def test_random_crop_is_a_function_of_its_generator():
    first, again, other = (random_crop(ramp(60, 90), (32, 32), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_random_crop_shows_parts_between_a_twelfth_and_all_of_the_image():
    shares, aspects = [], []
    for seed in range(300):
        crop = random_crop(ramp(200, 200), (32, 32), np.random.default_rng(seed)).astype(int)
        height, width = np.ptp(crop[..., 0]) * 32 / 31, np.ptp(crop[..., 1]) * 32 / 31
        shares.append(height * width / 200**2)
        aspects.append(width / height)
    assert 0.07 < min(shares) < 0.15
    assert 0.8 < max(shares) < 1.05
    assert 0.65 < min(aspects) < 0.85
    assert 1.2 < max(aspects) < 1.5


def test_center_crop_is_the_middle_of_the_image():
    crop = center_crop(ramp(80, 160), (70, 70))
    assert crop.shape == (70, 70, 3)
    assert crop[0, 0].tolist() == [5, 45, 0]
    assert crop[-1, -1].tolist() == [74, 114, 0]
    assert center_crop(ramp(80, 160), (40, 80), share=1.0)[-1, -1, 1] >= 158


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(center_crop(stripes, (32, 32), share=1.0)) == 0
