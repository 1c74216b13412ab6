"""Bytes that each kind of evidence takes in a store, at 480x360 and, of the same images enlarged, at 1024x2048."""

import cv2
import numpy as np
from results_page import markdown

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.decode import decode_image, decode_labels
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.pipeline.data.scores import labeled_images
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.chunks import encode
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.source import ImageSource

GRID_BEFORE = 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99  # that of earlier versions
SIZES = "480x360", "1024x2048"


def evidence(teacher: Teacher, image: U8, grid: tuple[float, ...], margins: tuple[float, ...]) -> dict[str, U8]:
    """All kinds of one image [H, W, 3]."""
    rule, levels = Rule(grid[0]), np.asarray(grid, np.float32)
    given = {"margins": np.asarray(margins, np.float32), "disagreement": True}
    return dict(teacher.label([image], levels, rule, True, **given)[0].arrays)


def enlarged(image: U8, interpolation: int = cv2.INTER_LINEAR) -> U8:
    """[1024, 2048, ...] of an image of 360x480 px: upscaled by 2.84, then its mirror image beside it."""
    large = cv2.resize(image, (1365, 1024), interpolation=interpolation)
    return np.ascontiguousarray(np.concatenate([large, large[:, ::-1]], 1)[:, :2048])


def bytes_of_evidence(source: ImageSource, teacher: Teacher, split: str, images: int) -> dict[str, list[list[int]]]:
    """Chunk bytes by array, of each image, at each of `SIZES`."""
    refs = sorted(labeled_images(source, split, "gtFine"), key=lambda ref: ref.key)
    found: dict[str, list[list[int]]] = {}
    for ref in refs[:: max(1, len(refs) // images)][:images]:
        image = decode_image(source.read(ref.image))
        for size, shown in enumerate((image, enlarged(image))):
            arrays = evidence(teacher, shown, DEFAULT_GRID, MARGIN_GRID)
            arrays["code, grid before"] = evidence(teacher, shown, GRID_BEFORE, MARGIN_GRID)["code"]
            arrays["label at 0.9"] = np.where(arrays["code"] > DEFAULT_GRID.index(0.9), arrays["top1"], np.uint8(255))
            del arrays["label"]
            for name, array in arrays.items():
                found.setdefault(name, [[] for _ in SIZES])[size].append(len(encode(array)))
    return found


def bytes_of_polygons(source: ImageSource, classes: ClassTable, coarse: str, images: int) -> dict[str, list[list[int]]]:
    """As `bytes_of_evidence`, of polygons and what grows from them."""
    ids = classes.train_ids_from(classes_of(source))
    refs = [ref for ref in sorted(source.list("train_extra", coarse=coarse), key=lambda ref: ref.key) if ref.coarse]
    found: dict[str, list[list[int]]] = {}
    for ref in refs[:: max(1, len(refs) // images)][:images]:
        image, raw = decode_image(source.read(ref.image)), decode_labels(source.read(ref.coarse or ""))
        for size, (shown, drawn) in enumerate(((image, raw), (enlarged(image), enlarged(raw, cv2.INTER_NEAREST)))):
            polygon = ids[drawn]
            grown, grown_px = grow(shown, polygon, (drawn != 0) & (polygon == 255))
            for name, array in (("polygon", polygon), ("grown", grown), ("grown_px", grown_px)):
                found.setdefault(f"{name}, {coarse}", [[] for _ in SIZES])[size].append(len(encode(array)))
    return found


def bytes_table(found: dict[str, list[list[int]]]) -> str:
    """Mean bytes of an image, and what is added to the arrays that every image with evidence has."""
    base = [sum(np.mean(found[name][size]) for name in ("label at 0.9", "top1", "code")) for size in range(len(SIZES))]
    rows = []
    for name, sizes in found.items():
        mean = [float(np.mean(values)) for values in sizes]
        shares = [f"{100 * value / whole:.1f}" for value, whole in zip(mean, base, strict=True)]
        rows.append([name, *(f"{value:,.0f}" for value in mean), *shares])
    return markdown(
        ["array", *(f"bytes, {size}" for size in SIZES), *(f"% of the usual, {size}" for size in SIZES)], rows
    )
