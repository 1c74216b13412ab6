"""Instances in pictures of labels: each in a shade of its class's color, with a border around it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8, U16

SHADES = 7  # of one class, before they repeat; instances that touch rarely get the same one
LIGHTEST, DARKEST = 0.5, -0.4  # share of white, or of black, that a shade has at most
BORDER = 0.7  # share of white in the color of a border
BORDER_PER_PX = 1 / 1024  # width of a border by that of the picture, at least one pixel
NEUTRAL = np.iinfo(np.uint16).max


def with_instances(picture: U8, instance: U16, void: NDArray[np.bool_]) -> U8:
    """[H, W, 3] uint8: a picture of labels, in the colors of their classes, in which every instance stands out.

    Args:
        instance: [H, W] uint16, 0 for none. void: [H, W] bool, where nothing is labeled.
    """
    instance = np.where(void, np.uint16(0), instance)
    shades = _shades(int(instance.max(initial=0)) + 1)[instance]
    shades[borders(instance, void)] = BORDER
    light, dark = np.clip(shades, 0, 1)[..., None], np.clip(-shades, 0, 1)[..., None]
    return np.rint(picture * (1 - light - dark) + 255 * light).astype(np.uint8)


def borders(instance: U16, void: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[H, W] bool: pixels of instances that lie beside a labeled pixel of another one, or of none."""
    if not instance.any():
        return np.zeros(instance.shape, np.bool_)
    width_px = max(1, round(instance.shape[1] * BORDER_PER_PX))
    kernel = np.ones((2 * width_px + 1, 2 * width_px + 1), np.uint8)
    # Beyond the edge of the image an instance goes on; a hole where the teacher was unsure has no border.
    low = cv2.erode(np.where(void, np.uint16(NEUTRAL), instance), kernel, borderValue=NEUTRAL)
    high = cv2.dilate(instance, kernel, borderValue=0)
    at_border: NDArray[np.bool_] = (instance > 0) & (low != high)
    return at_border


def _shades(count: int) -> NDArray[np.float32]:
    """[count] float32 of instances 0 to count - 1: above 0 lighter than the class, below darker; 0 for none is 0."""
    # Neighbors in number, which often are neighbors in the image, differ most: steps of 3 among 7.
    steps = (3 * np.arange(count) % SHADES) / (SHADES - 1)
    shades = (DARKEST + (LIGHTEST - DARKEST) * steps).astype(np.float32)
    shades[0] = 0
    return shades
