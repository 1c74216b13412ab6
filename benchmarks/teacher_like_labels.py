"""Labels with the texture of a teacher's, without one: drawn streets, seen through blurred and noisy logits.

A teacher's logits come at a quarter of the resolution. Here they are the one-hot classes of a drawn street with warped
borders, blurred, plus noise at several scales; enlarged and normalized, they are unsure along borders and in blobs.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.stores.format.evidence import code_of, label_at, level_of
from hmsa_label.stores.format.layout import U8

F32 = NDArray[np.float32]
SIZE = (1024, 2048)
STRIDE = 4
SURENESS = 9.0  # logit of the right class above the others
NOISE = {1: 0.3, 4: 0.6, 16: 0.9, 48: 0.9}  # standard deviation of the logits by blur radius, at a quarter resolution
WARP_PX = 0.8  # borders are off by so much, at a quarter resolution


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """[H, W] uint8 arg-max, [H, W] float32 its probability, and the label and code that follow from them."""

    top1: U8
    confidence: F32
    label: U8
    code: U8


def draw(seed: int, threshold: float, grid: tuple[float, ...], size: tuple[int, int] = SIZE) -> Drawn:
    """What a teacher might have made of a street; the same for the same arguments."""
    random = np.random.default_rng(seed)
    _, ids = draw_street(size, random)
    raw = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
    top1, confidence = most_likely(quarter_logits(CITYSCAPES.train_id_of[raw], random), size)
    code = code_of(confidence, grid)
    return Drawn(top1=top1, confidence=confidence, code=code, label=label_at(top1, code, level_of(threshold, grid)))


def quarter_logits(classes: U8, random: np.random.Generator) -> F32:
    """[K, H/4, W/4] float32 logits for [H, W] uint8 trainIds; 255 has no class, so all are unlikely there."""
    height, width = classes.shape[0] // STRIDE, classes.shape[1] // STRIDE
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    ys, xs = (axis + WARP_PX * smooth_noise((height, width), 4, random) for axis in (ys, xs))
    warped = cv2.remap(classes[::STRIDE, ::STRIDE], xs, ys, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    logits = np.empty((CITYSCAPES.num_classes, height, width), np.float32)
    for train_id in range(CITYSCAPES.num_classes):
        right = cv2.GaussianBlur((warped == train_id).astype(np.float32), (0, 0), 1.0)
        noise = [deviation * smooth_noise((height, width), radius, random) for radius, deviation in NOISE.items()]
        logits[train_id] = SURENESS * right + sum(noise)
    return logits


def smooth_noise(size: tuple[int, int], radius: float, random: np.random.Generator) -> F32:
    """[H, W] float32 normal noise, blurred to patches of a radius and scaled back to standard deviation 1."""
    noise = cv2.GaussianBlur(random.standard_normal(size, np.float32), (0, 0), radius)
    return np.asarray(noise / noise.std(), np.float32)


def most_likely(logits: F32, size: tuple[int, int]) -> tuple[U8, F32]:
    """[H, W] uint8 arg-max and [H, W] float32 probability of enlarged logits."""
    large = np.stack([cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in logits])
    top1, highest = large.argmax(0).astype(np.uint8), large.max(0)
    return top1, 1.0 / np.exp(large - highest).sum(0, dtype=np.float32)
