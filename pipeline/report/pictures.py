"""A page to look at: what a labeling run gave, in facts and pictures; one offline HTML file without scripts.

Nothing is read here: the caller hands in arrays and numbers.
"""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.records import U8, U16, Failure
from hmsa_label.pipeline.report.page import ClassRow, LevelSwatch, Picture, Row, ThresholdRow, render_page
from hmsa_label.pipeline.report.panoptic_picture import with_instances

MAX_WIDTH_PX = 1024
STRIPE_PX = 5  # period of the hatching, in pixels of the shown picture
HATCH = ((18, 18, 21), (110, 110, 120))
PAGE = "index.html"

Pixels = TypeVar("Pixels", U8, U16)

__all__ = ["Report", "ReportImage", "ThresholdRow", "write_report"]


@dataclass(frozen=True, kw_only=True)
class ReportImage:
    """One image of the page; all arrays have one height and width.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        label: [H, W] uint8 trainIds, ignore_index where the teacher was not sure enough.
        coarse: [H, W] uint8 trainIds of the coarse polygons, ignore_index where there is none; None without any.
        code: [H, W] uint8 number of the thresholds `grid` that the confidence reaches; None without evidence.
        instance: [H, W] uint16 instances of the labels, 0 for none; None if none are told apart.
        note: a line about this image, such as its kept share.
    """

    key: str
    image: U8
    label: U8
    coarse: U8 | None = None
    code: U8 | None = None
    grid: tuple[float, ...] = ()
    instance: U16 | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("label", "coarse", "code", "instance"):
            array = getattr(self, name)
            if array is not None and array.shape != self.image.shape[:2]:
                raise ValueError(f"{self.key}: {name} is {array.shape}, its image {self.image.shape[:2]}")
        if self.code is not None and int(self.code.max(initial=0)) > len(self.grid):
            raise ValueError(f"{self.key}: a code of {self.code.max()}, but only {len(self.grid)} thresholds")


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows.

    Attributes:
        facts: (what, value) lines of the table on top, in order.
        names: class names in trainId order. colors: (red, green, blue), 0..255.
        class_px: kept pixels of each class over all images.
        iou: IoU of the teacher per class on images with fine labels, None where it is not known.
        threshold: marked in the legend of confidence levels.
        thresholds: what other thresholds would keep, for those whose evidence is stored.
    """

    title: str
    facts: list[tuple[str, str]]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    class_px: list[int]
    threshold: float
    thresholds: list[ThresholdRow] = field(default_factory=list)
    iou: dict[str, float | None] = field(default_factory=dict)
    images: list[ReportImage] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def write_report(folder: str | Path, report: Report) -> Path:
    """Writes the page into the folder, over an earlier one; gives its path."""
    path = Path(folder) / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        render_page(
            title=report.title,
            facts=report.facts,
            classes=_class_rows(report),
            thresholds=report.thresholds,
            threshold=report.threshold,
            levels=_levels(report),
            rows=[_row(image, report.colors) for image in report.images],
            failed=[(failure.key, failure.reason) for failure in report.failed],
        ),
        encoding="utf-8",
    )
    return path


def label_picture(label: U8, colors: tuple[tuple[int, int, int], ...], instance: U16 | None = None) -> U8:
    """[H, W, 3] uint8: class colors; anything that is no class, such as ignored pixels, dark and hatched.

    Args:
        instance: [H, W] uint16 instances of the labels, 0 for none; each gets a shade of its own and a border.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    rows, columns = np.indices(label.shape)
    stripe = ((rows + columns) % STRIPE_PX) < 1
    hatched = np.asarray(HATCH, np.uint8)[stripe.astype(np.intp)]
    void = label >= len(colors)
    picture = np.where(void[..., None], hatched, table[label])
    return picture if instance is None else with_instances(picture, instance, void)


def overlay_picture(image: U8, label: U8, colors: tuple[tuple[int, int, int], ...]) -> U8:
    """[H, W, 3] uint8: class colors over the image where there is a class, the image in gray elsewhere."""
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    known = (label < len(colors))[..., None]
    tint = label_picture(label, colors).astype(np.float32)
    return np.where(known, 0.35 * image + 0.65 * tint, 0.25 * image + 0.55 * gray).astype(np.uint8)


def confidence_picture(code: U8, num_levels: int) -> U8:
    """[H, W, 3] uint8: the color of each pixel's level, dark for unsure, on a scale of even perceived steps."""
    return np.asarray(level_colors(num_levels)[code], np.uint8)


def level_colors(num_levels: int) -> U8:
    """[num_levels + 1, 3] uint8 RGB: colors of the codes 0..num_levels, viridis."""
    ramp = np.rint(np.linspace(0, 255, num_levels + 1)).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(ramp[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1])


def _row(shown: ReportImage, colors: tuple[tuple[int, int, int], ...]) -> Row:
    image, coarse, label, code = (
        _fitted(array) for array in (shown.image, shown.coarse, shown.label, shown.code)
    )  # labels are thinned out, never averaged
    instance = _fitted(shown.instance)
    assert image is not None
    assert label is not None
    pictures = [Picture(caption="Image", source=_embedded(image, ".jpg"))]
    if coarse is not None:
        over = overlay_picture(image, coarse, colors)
        pictures.append(Picture(caption="Coarse polygons", source=_embedded(over, ".jpg")))
    pictures.append(Picture(caption="Auto label", source=_embedded(label_picture(label, colors, instance), ".png")))
    if code is not None:
        levels = confidence_picture(code, len(shown.grid))
        pictures.append(Picture(caption="Confidence", source=_embedded(levels, ".png")))
    return Row(key=shown.key, note=shown.note, pictures=pictures)


def _fitted(array: Pixels | None) -> Pixels | None:
    """The array at no more than MAX_WIDTH_PX columns; photographs are averaged, maps sampled."""
    if array is None or array.shape[1] <= MAX_WIDTH_PX:
        return array
    size = (MAX_WIDTH_PX, max(1, round(array.shape[0] * MAX_WIDTH_PX / array.shape[1])))
    how = cv2.INTER_AREA if array.ndim == 3 else cv2.INTER_NEAREST
    resized: Pixels = cv2.resize(array, size, interpolation=how)
    return resized


def _embedded(picture: U8, suffix: str) -> str:
    options = [cv2.IMWRITE_JPEG_QUALITY, 88] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), options)
    assert done
    kind = "jpeg" if suffix == ".jpg" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _class_rows(report: Report) -> list[ClassRow]:
    """Classes that occur in kept pixels or pictures, or have an IoU; most pixels first."""
    total = max(1, sum(report.class_px))
    shown = _shown_classes(report)
    rows = [
        ClassRow(name=name, color=_hex(color), kept_px=kept, kept_share=kept / total, iou=report.iou.get(name))
        for train_id, (name, color, kept) in enumerate(zip(report.names, report.colors, report.class_px, strict=True))
        if kept or train_id in shown or report.iou.get(name) is not None
    ]
    return sorted(rows, key=lambda row: -row.kept_px)


def _shown_classes(report: Report) -> set[int]:
    maps = [array for image in report.images for array in (image.label, image.coarse) if array is not None]
    return {int(value) for array in maps for value in np.unique(array)}


def _levels(report: Report) -> list[LevelSwatch]:
    """The legend of the confidence pictures; empty when no image has evidence."""
    grid: tuple[float, ...] = next((image.grid for image in report.images if image.code is not None), ())
    if not grid:
        return []
    texts = [f"below {grid[0]:g}", *(f"{value:g}" for value in grid)]
    reached: NDArray[np.bool_] = np.asarray([0.0, *grid], np.float32) >= np.float32(report.threshold)
    return [
        LevelSwatch(text=text, color=_hex(color), kept=bool(kept))
        for text, color, kept in zip(texts, level_colors(len(grid)).tolist(), reached, strict=True)
    ]


def _hex(color: tuple[int, int, int] | list[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
