"""Crops of whole images for classifiers; pure functions of the image and a random generator."""

import math

import cv2
import numpy as np

from hmsa_label.pipeline.records import U8

AREA = (0.08, 1.0)  # share of the image that a crop shows (arXiv 1409.4842, section 6)
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10
CENTER = 0.875  # share of the shorter side that is validated on


def random_crop(image: U8, size_px: tuple[int, int], rng: np.random.Generator) -> U8:
    """[h, w, 3] of a random part of [H, W, 3], of random area and aspect; the largest centered one if none fits.

    Args:
        size_px: (h, w); the aspect of a part is this one's, times a factor.
    """
    height, width = image.shape[:2]
    base = size_px[1] / size_px[0]
    for _ in range(ATTEMPTS):
        area = height * width * rng.uniform(*AREA)
        aspect = base * math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return _resized(image[y : y + h, x : x + w], size_px)
    return center_crop(image, size_px, share=1.0)


def center_crop(image: U8, size_px: tuple[int, int], share: float = CENTER) -> U8:
    """[h, w, 3] of the middle of [H, W, 3]: the largest part of this aspect, times `share`."""
    height, width = image.shape[:2]
    zoom = share * min(height / size_px[0], width / size_px[1])
    h, w = max(1, round(zoom * size_px[0])), max(1, round(zoom * size_px[1]))
    y, x = (height - h) // 2, (width - w) // 2
    return _resized(image[y : y + h, x : x + w], size_px)


def _resized(image: U8, size_px: tuple[int, int]) -> U8:
    """Averages where it shrinks, so that nothing aliases."""
    shrinks = image.shape[0] * image.shape[1] > size_px[0] * size_px[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: U8 = cv2.resize(image, (size_px[1], size_px[0]), interpolation=method)
    return np.ascontiguousarray(resized)
