"""Random changes of one training image; pure functions of the image, the settings and a random generator."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import IGNORE_INDEX
from hmsa_label.pipeline.training.config import AugmentConfig

U8 = NDArray[np.uint8]
Maps = NDArray[Any]
Fill = int | tuple[int, ...]


def augment(
    image: U8,
    labels: Maps,
    config: AugmentConfig,
    rng: np.random.Generator,
    center: tuple[int, int] | None = None,
    *,
    void: Fill = IGNORE_INDEX,
) -> tuple[U8, Maps]:
    """A training crop (image [h, w, 3] uint8 RGB, labels [h, w]) of size `config.crop_px`.

    Scale, crop with padding, flip, color and blur follow the published recipe's ranges. Cropping comes before scaling,
    so that only the crop's pixels are resampled; up to rounding, the crops are the same.

    Args:
        image: [H, W, 3] uint8 RGB.
        labels: [H, W] uint8 trainIds or int32 panoptic map; or [H, W, C] with further maps that go the same way.
        center: (y, x) in px that the crop must contain; None crops anywhere.
        void: what labels are outside the image, or each of the C maps.
    """
    image, labels = _random_window(image, labels, config, rng, center, void)
    if config.flip and rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if config.colour_jitter:
        image = _jitter_colors(image, config.colour_jitter, rng)
    if config.blur_sigma_px is not None:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*config.blur_sigma_px))
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _random_window(
    image: U8, labels: Maps, config: AugmentConfig, rng: np.random.Generator, center: tuple[int, int] | None, void: Fill
) -> tuple[U8, Maps]:
    """The image under a random window, resized to the crop; black and void where the window leaves the image."""
    scale = rng.uniform(*config.scale_range)
    window = [max(1, round(side / scale)) for side in config.crop_px]
    y, x = (
        _window_start(full, part, None if center is None else center[axis], rng)
        for axis, (full, part) in enumerate(zip(labels.shape[:2], window, strict=True))
    )
    image = _cut(image, y, x, window, fill=0)
    labels = _cut(labels, y, x, window, fill=void)
    size = (config.crop_px[1], config.crop_px[0])
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_CUBIC),
        cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT),
    )


def _window_start(full: int, part: int, center: int | None, rng: np.random.Generator) -> int:
    """First px of a window of `part` px; negative where the window is larger than the image and hangs over."""
    low, high = min(0, full - part), max(0, full - part)
    if center is not None:
        low, high = (max(low, min(center - part + 1, high)), min(high, max(center, low)))
    return int(rng.integers(low, high + 1))


def _cut(array: Maps, y: int, x: int, size: list[int], fill: Fill) -> Maps:
    """`array[y:y+h, x:x+w]` with `fill` where that leaves the array."""
    height, width = size
    inside = array[max(y, 0) : y + height, max(x, 0) : x + width]
    if inside.shape[:2] == (height, width):
        return inside
    result = np.full((height, width, *array.shape[2:]), fill, array.dtype)
    top, left = max(-y, 0), max(-x, 0)
    result[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return result


def _jitter_colors(image: U8, strength: float, rng: np.random.Generator) -> U8:
    """Brightness, contrast, saturation and hue changed in random order."""
    changes = [_brightness, _contrast, _saturation, _hue]
    for index in rng.permutation(len(changes)):
        amount = rng.uniform(-strength, strength)
        image = changes[index](image, amount)
    return image


def _blend(image: U8, other: NDArray[np.float32] | float, amount: float) -> U8:
    """`other` + (1 + amount) * (image - other), clipped to 0..255."""
    mixed = image.astype(np.float32) * (1 + amount) - np.float32(amount) * other
    return np.clip(mixed, 0, 255).astype(np.uint8)


def _brightness(image: U8, amount: float) -> U8:
    return _blend(image, 0.0, amount)


def _contrast(image: U8, amount: float) -> U8:
    return _blend(image, float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()), amount)


def _saturation(image: U8, amount: float) -> U8:
    return _blend(image, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32), amount)


def _hue(image: U8, amount: float) -> U8:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(180 * amount)) % 180  # OpenCV's 8-bit hue counts 0..179
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
