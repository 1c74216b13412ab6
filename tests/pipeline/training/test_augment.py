"""Training crops: size, content and repeatability."""

import numpy as np
import pytest

from hmsa_label.pipeline.training.augment import augment
from hmsa_label.pipeline.training.config import AugmentConfig

PLAIN = {"flip": False, "colour_jitter": 0.0, "scale_range": (1.0, 1.0)}


@pytest.fixture
def picture():
    """An image whose red channel names the label of each pixel."""
    labels = np.repeat(np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4), 20, 0), 20, 1)
    return np.stack([labels * 20] * 3, axis=2), labels


def test_crop_has_the_asked_size_at_every_scale(picture):
    config = AugmentConfig(crop_px=(32, 48), scale_range=(0.25, 3.0), blur_sigma_px=(0.15, 1.3))
    for seed in range(20):
        image, labels = augment(*picture, config, np.random.default_rng(seed))
        assert (image.shape, labels.shape) == ((32, 48, 3), (32, 48))
        assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)


def test_image_and_labels_move_together(picture):
    config = AugmentConfig(crop_px=(32, 32), **{**PLAIN, "flip": True})
    for seed in range(10):
        image, labels = augment(*picture, config, np.random.default_rng(seed))
        np.testing.assert_array_equal(image[..., 0], labels * 20)


def test_outside_of_a_small_image_is_black_and_ignored(picture):
    config = AugmentConfig(crop_px=(96, 96), **PLAIN)
    image, labels = augment(*picture, config, np.random.default_rng(0))
    assert (labels == 255).sum() == 96 * 96 - picture[1].size
    assert image[labels == 255].max() == 0


def test_panoptic_maps_go_as_trainids_do(picture):
    image, labels = picture
    maps = labels.astype(np.int32) * 1000 + 255 - labels  # values that no eighth or sixteenth bit can hold
    config = AugmentConfig(crop_px=(96, 64), scale_range=(0.3, 2.0))
    for seed in range(10):
        rngs = [np.random.default_rng(seed) for _ in range(2)]
        (one, narrow), (other, wide) = (
            augment(image, labels, config, rngs[0]),
            augment(image, maps, config, rngs[1], void=255_000),
        )
        np.testing.assert_array_equal(one, other)
        assert wide.dtype == np.int32
        expected = np.where(narrow == 255, 255_000, narrow.astype(np.int32) * 1000 + 255 - narrow)
        np.testing.assert_array_equal(wide, expected)


def test_crop_holds_its_center():
    labels = np.zeros((200, 300), np.uint8)
    labels[3, 290] = 7
    config = AugmentConfig(crop_px=(32, 32), **PLAIN)
    image = np.zeros((200, 300, 3), np.uint8)
    for seed in range(20):
        assert (augment(image, labels, config, np.random.default_rng(seed), (3, 290))[1] == 7).sum() == 1


def test_same_generator_state_gives_the_same_crop(picture):
    config = AugmentConfig(crop_px=(32, 32))
    first, second = (augment(*picture, config, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_colors_change_and_labels_stay(picture):
    config = AugmentConfig(crop_px=(60, 80), **{**PLAIN, "colour_jitter": 0.25})
    image, labels = augment(*picture, config, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, picture[1])
    assert (image != picture[0]).mean() > 0.5
