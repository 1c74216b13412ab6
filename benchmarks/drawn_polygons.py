"""Polygons as people draw them over exact labels: with care, or in a hurry, as dense and as right as Cityscapes'."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label import CITYSCAPES
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.demo.scenes.tree import coarse_regions, paint_regions

U8 = NDArray[np.uint8]
SIDE = 45  # of an image's height, how much a hurried outline stays inside
ERROR = 33  # of an image's height, standard deviation of a hurried corner
SMALLEST = 400  # of an image's area, the smallest region that is drawn


def careful(raw: U8, rng: np.random.Generator) -> U8:
    """[H, W] uint8 labelIds as the demo draws coarse labels: few corners, inside each region, small ones left out."""
    return paint_regions(coarse_regions(raw.astype(np.int32), rng), raw.shape)


def hurried(raw: U8, rng: np.random.Generator) -> U8:
    """[H, W] uint8 labelIds whose corners miss: some two thirds of the pixels, 98 % of them right."""
    height, width = raw.shape
    side = round(height / SIDE)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * side + 1, 2 * side + 1))
    regions = []
    for label_id in np.unique(raw[raw > 0]):
        inside = cv2.erode((raw == label_id).astype(np.uint8), kernel, borderType=cv2.BORDER_REPLICATE)
        outlines, tree = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for outline, links in zip(outlines, tree[0] if len(outlines) else [], strict=True):
            corners = cv2.approxPolyDP(outline, height / SIDE, True)[:, 0]
            if cv2.contourArea(outline) >= height * width / SMALLEST and len(corners) >= 3:
                moved = np.rint(corners + rng.normal(0, height / ERROR, corners.shape)).astype(np.int32)
                regions.append((cv2.contourArea(outline), 0 if links[3] >= 0 else int(label_id), moved))
    drawn = np.zeros_like(raw)
    for _, label_id, corners in sorted(regions, key=lambda region: -region[0]):
        cv2.fillPoly(drawn, [corners], (label_id,))
    return drawn


def labeled_photos(root: str, split: str) -> list[tuple[str, U8, U8]]:
    """(key below the split, image [H, W, 3] uint8, labelIds [H, W] uint8) of a Cityscapes tree's fine labels."""
    found = []
    for path in sorted(Path(root, "gtFine", split).rglob("*_gtFine_labelIds.png")):
        key = path.relative_to(Path(root, "gtFine", split)).as_posix().removesuffix("_gtFine_labelIds.png")
        (image,) = Path(root, "leftImg8bit", split).glob(f"{key}_leftImg8bit.*")
        found.append((key, decode_image(image.read_bytes()), decode_labels(path.read_bytes())))
    return found


def agreement(raw: U8, drawn: U8) -> tuple[int, int, int]:
    """(pixels drawn, of these with an exact label, of these right)."""
    exact, polygon = CITYSCAPES.train_id_of[raw], CITYSCAPES.train_id_of[drawn]
    both = (exact != 255) & (polygon != 255)
    return int((polygon != 255).sum()), int(both.sum()), int(((exact == polygon) & both).sum())
