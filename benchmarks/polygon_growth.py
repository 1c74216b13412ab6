"""Which surface polygons should grow on, and how right it is: polygons are drawn over photos with exact labels.

The surface is chosen on every other image of a split and reported on the ones between. Right is the share of the
filled pixels that have the exact class; filled is the share of the pixels without polygon that get a class. Both are by
the distance to the nearest polygon.

    python benchmarks/polygon_growth.py --data camvid --output benchmarks/results/polygon_growth.md
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from drawn_polygons import U8, agreement, careful, hurried, labeled_photos
from results_page import markdown, page

from hmsa_label import CITYSCAPES
from hmsa_label.pipeline.data import growth
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.stores.format.rule import MAX_GROW_PX

Grow = Callable[[U8, U8], tuple[U8, U8]]
Scene = tuple[U8, U8, U8]  # image, exact trainIds, trainIds of the polygons
WITHIN_PX = (1, 2, 3, 6, 16)
KINDS = {"careful polygons": careful, "hurried polygons": hurried}
SURFACES: dict[str, Callable[[U8], U8]] = {
    "color": lambda image: image,
    "gray": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "CIELAB": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2LAB),
    "median of 3 x 3": lambda image: cv2.medianBlur(image, 3),
    "median of 5 x 5": lambda image: cv2.medianBlur(image, 5),
    "bilateral filter": lambda image: cv2.bilateralFilter(image, 5, 40, 3),
    "mean shift": lambda image: cv2.pyrMeanShiftFiltering(image, 4, 16),
    "blur, sigma 0.5 px": lambda image: cv2.GaussianBlur(image, (0, 0), 0.5),
    "blur, sigma 1 px": lambda image: cv2.GaussianBlur(image, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE),
    "blur, sigma 2 px": lambda image: cv2.GaussianBlur(image, (0, 0), 2.0),
}
SUMMARY = """Polygons that keep clear of every outline grow rightly, and polygons that were drawn in a hurry do not:
their corners already lie in another thing, and what grows from them does too. The surface hardly matters; the second
opinion does, most of all beyond 3 px."""
CHOSEN = "blur, sigma 1 px"


def growing_on(surface: Callable[[U8], U8]) -> Grow:
    """`grow` with another surface in place of its own."""

    def grown(image: U8, polygon: U8) -> tuple[U8, U8]:
        own, growth._surface = growth._surface, surface
        try:
            return grow(image, polygon)
        finally:
            growth._surface = own

    return grown


def nearest(image: U8, polygon: U8) -> tuple[U8, U8]:
    """As `grow`, without the watershed."""
    classes = [int(train_id) for train_id in np.unique(polygon) if train_id != 255]
    far = np.stack([growth._distance_px(polygon == train_id) for train_id in classes])
    px = np.ceil(far.min(0) - 0.01)
    beside = (px > 0) & (px <= MAX_GROW_PX)
    found = np.array(classes, np.uint8)[far.argmin(0)]
    return np.where(beside, found, np.uint8(255)), np.where(beside, px, 0).astype(np.uint8)


def measure(scenes: Iterable[Scene], grower: Grow) -> list[str]:
    """`right, filled` within each distance, and milliseconds per image."""
    right, filled, left, images, seconds = np.zeros(17), np.zeros(17), 0, 0, 0.0
    for image, exact, polygon in scenes:
        began = time.process_time()
        grown, grown_px = grower(image, polygon)
        seconds, images = seconds + time.process_time() - began, images + 1
        known = exact != 255
        left += int((known & (polygon == 255)).sum())
        filled += np.bincount(grown_px[known], minlength=17)
        right += np.bincount(grown_px[known & (grown == exact)], minlength=17)
    right[0] = filled[0] = 0
    cells = [
        f"{100 * right[: px + 1].sum() / filled[: px + 1].sum():.1f}, {100 * filled[: px + 1].sum() / left:.0f}"
        for px in WITHIN_PX
    ]
    return [*cells, f"{1000 * seconds / images:.0f}"]


def table(scenes: list[Scene], growers: dict[str, Grow]) -> str:
    columns = ("right %, filled % within", *(f"{px} px" for px in WITHIN_PX), "CPU ms an image")
    return markdown(columns, [(name, *measure(scenes, grower)) for name, grower in growers.items()])


def drawn(photos: list[tuple[str, U8, U8]], draw: Callable[[U8, np.random.Generator], U8], seed: int) -> list[Scene]:
    train_id = CITYSCAPES.train_id_of
    scenes = []
    for number, (_, image, raw) in enumerate(photos):
        ids = draw(raw, np.random.default_rng([seed, number]))
        scenes.append((image, train_id[raw], train_id[ids]))
    return scenes


def covered(photos: list[tuple[str, U8, U8]], draw: Callable[[U8, np.random.Generator], U8], seed: int) -> str:
    totals = np.zeros(3)
    for number, (_, _, raw) in enumerate(photos):
        totals += agreement(raw, draw(raw, np.random.default_rng([seed, number])))
    pixels = sum(raw.size for _, _, raw in photos)
    return (
        f"they cover {100 * totals[0] / pixels:.1f} % of the pixels, {100 * totals[2] / totals[1]:.1f} % of these right"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a Cityscapes tree with fine labels")
    parser.add_argument("--split", default="train")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    photos = labeled_photos(options.data, options.split)
    choosing, reporting = photos[::2], photos[1::2]
    growers = {name: growing_on(surface) for name, surface in SURFACES.items()}
    parts = [SUMMARY, "## The surface, chosen on every other image"]
    for name, draw in KINDS.items():
        parts += [f"{name.capitalize()} over {len(choosing)} images; {covered(choosing, draw, 7)}.",
                  table(drawn(choosing, draw, 7), growers | {"nearest polygon alone": nearest})]  # fmt: skip
    parts += [f"Chosen: {CHOSEN}.", "## What it gives on the images between"]
    for name, draw in KINDS.items():
        parts += [f"{name.capitalize()} over {len(reporting)} images; {covered(reporting, draw, 8)}.",
                  table(drawn(reporting, draw, 8), {"grow": grow, "nearest polygon alone": nearest})]  # fmt: skip
    Path(options.output).write_text(page("Growth of polygons", tempfile.gettempdir(), *parts))


if __name__ == "__main__":
    main()
