"""Polygons that grow into the pixels beside them, where the image and the distance agree on the class.

Polygons are drawn with a margin to the outlines of things. Two guesses fill it: the class of the nearest polygon, and a
watershed (Meyer, Color image segmentation, 1992; `cv2.watershed`) that floods the image from the polygons and stops at
edges of color. Where both name one class it is mostly right: see benchmarks/results/polygon_growth.md.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8
from hmsa_label.stores.format.rule import MAX_GROW_PX

SIGMA_PX = 1.0  # blur before the flood; the best of ten surfaces on polygons that miss the outlines by a few pixels
NO_CLASS = 255
VOID = NO_CLASS + 1  # marker of a region that was drawn and has no class
HALF_STEP = 0.01  # distances are roots of whole numbers up to 256, which lie further apart than this


def grow(image: U8, polygon: U8, void: NDArray[np.bool_] | None = None) -> tuple[U8, U8]:
    """(grown, grown_px), both [H, W] uint8: the class that each pixel beside the polygons gets, and how far it lies.

    `grown` is 255 where nothing grows: inside polygons, where the two guesses differ, and further away than
    MAX_GROW_PX. `grown_px` is the Euclidean distance to the nearest polygon in pixels, rounded up, 1..16; 0 where
    nothing grows. Where polygons of two classes are equally near, the watershed decides. The result depends on the
    arguments alone, on any thread.

    A single class in an image does not grow: nothing could speak against it.

    Args:
        image: [H, W, 3] uint8; the order of the channels does not matter.
        polygon: [H, W] uint8 trainIds of the polygons, 255 outside.
        void: [H, W] bool, regions that were drawn and have no class, such as the ego vehicle. They take part in both
            guesses and win pixels, which then have no class.

    Raises:
        ValueError: the sizes differ.
    """
    if image.shape != (*polygon.shape, 3) or (void is not None and void.shape != polygon.shape):
        raise ValueError(
            f"growth needs an image [H, W, 3] and polygons of its size; got {image.shape}, {polygon.shape}"
            f"{'' if void is None else f' and void {void.shape}'}"
        )
    grown, grown_px = np.full(polygon.shape, NO_CLASS, np.uint8), np.zeros(polygon.shape, np.uint8)
    markers = _markers(polygon, void)
    drawn = np.flatnonzero(np.bincount(markers.ravel(), minlength=VOID + 2)[1:])
    if len(drawn) < 2:
        return grown, grown_px
    distance = _distance_px(markers > 0)
    near = (distance > HALF_STEP) & (distance < MAX_GROW_PX + HALF_STEP)
    flooded = _flood(image, markers)
    for train_id in drawn[drawn < NO_CLASS]:
        box = _box(near & (flooded == train_id + 1))
        if box is None:
            continue
        to_class = _distance_px(markers[box] == train_id + 1)
        agreed = near[box] & (flooded[box] == train_id + 1) & (to_class < distance[box] + HALF_STEP)
        grown[box][agreed] = train_id
        grown_px[box][agreed] = np.ceil(distance[box][agreed] - HALF_STEP)
    return grown, grown_px


def _markers(polygon: U8, void: NDArray[np.bool_] | None) -> NDArray[np.int32]:
    """[H, W] int32, 1 + class inside polygons, 0 where nothing was drawn."""
    markers = np.where(polygon == NO_CLASS, np.int32(0), polygon.astype(np.int32) + 1)
    if void is not None:
        markers[void & (polygon == NO_CLASS)] = VOID + 1
    return markers


def _flood(image: U8, markers: NDArray[np.int32]) -> NDArray[np.int32]:
    """[H, W] int32 marker that the flood of each pixel came from, -1 where two floods met."""
    # cv2 keeps the outermost pixels for itself: they get a frame that is cut off again.
    framed = cv2.copyMakeBorder(markers, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    cv2.watershed(cv2.copyMakeBorder(_surface(image), 1, 1, 1, 1, cv2.BORDER_REPLICATE), framed)
    return np.asarray(framed[1:-1, 1:-1], np.int32)


def _surface(image: U8) -> U8:
    """[H, W, 3] uint8 colors between neighbors of which the flood passes the more easily, the less they differ."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), SIGMA_PX, borderType=cv2.BORDER_REPLICATE), np.uint8)


def _distance_px(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[H, W] float32 exact Euclidean distance to the nearest pixel inside; very large if there is none."""
    outside = np.ascontiguousarray(~inside, np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _box(pixels: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """The box around the pixels that are set and all that lies within MAX_GROW_PX of them; None if none is set."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return None
    top, left = max(0, rows[0] - MAX_GROW_PX), max(0, columns[0] - MAX_GROW_PX)
    return slice(top, rows[-1] + MAX_GROW_PX + 1), slice(left, columns[-1] + MAX_GROW_PX + 1)
