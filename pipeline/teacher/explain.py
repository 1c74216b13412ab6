"""One image explained: the predictions that a teacher takes its own from, how much of each, the result, its confidence.

The picture follows figure 3 of arXiv 2005.10821: a column per prediction that enters, its share below it.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable, class_difference
from hmsa_label.pipeline.config import ExplainConfig
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.records import U8, Explanation
from hmsa_label.pipeline.report.panoptic_picture import with_instances
from hmsa_label.pipeline.rules import takes_polygons
from hmsa_label.pipeline.teacher.cutting import rule_for_one_image
from hmsa_label.stores.files import open_filesystem, read_bytes
from hmsa_label.stores.format.layout import IGNORE_INDEX
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.cityscapes import IMAGE_TYPE
from hmsa_label.stores.images.source import image_stem
from hmsa_label.stores.location import Location
from hmsa_label.stores.result import Result

CELL_WIDTH_PX, GAP_PX, TITLE_PX, LEGEND_PX = 512, 8, 30, 26
INK, PAPER = (32, 32, 32), 255
RULE_LETTERS = 38


@dataclass(frozen=True, kw_only=True)
class ExplainSummary(Result):
    """The numbers of an explained image; the JSON object of `hmsa-label explain --json`.

    Attributes:
        output: file of the picture.
        shares: mean share of each prediction in the result, by its name, 0..1; empty if the result is of one piece.
        agreement: share of pixels where such a prediction alone has the class of the result, by its name, 0..1.
        mean_confidence, kept_share: of the result, 0..1.
        threshold, rule: what is kept by; rule is all but the threshold, None if nothing else decides.
        instances: number of instances; instances_kept: of them, those that reach the thresholds of instances. None of
            a teacher that tells none apart.
        classes: share of the pixels of each class of the result, largest first.
        teacher: which one it was, what it knows, and how it looked at the image.
        warnings: lines on what does not fit, such as classes that are not those of the image's data set.
    """

    output: str
    shares: dict[str, float]
    agreement: dict[str, float]
    mean_confidence: float
    threshold: float
    rule: dict[str, Any] | None
    kept_share: float
    classes: dict[str, float]
    teacher: dict[str, Any]
    instances: int | None = None
    instances_kept: int | None = None
    warnings: list[str] = field(default_factory=list)


def explain_image(image: Location, config: ExplainConfig) -> ExplainSummary:
    """Writes the picture and returns its numbers.

    Args:
        image: path or URL of an image file.

    Raises:
        FileNotFoundError: no such image or weights.
        ValueError: the image, the teacher or its options cannot be used.
    """
    from hmsa_label.pipeline.teacher.teacher import Teacher

    _check_output(config.output)
    filesystem, path = open_filesystem(image)
    try:
        pixels = decode_image(read_bytes(filesystem, path))
    except ValueError as error:
        raise ValueError(f"cannot read {image}: {error}") from error
    teacher = Teacher(config.teacher)
    explanation, (rule, _) = teacher.explain(pixels, config.rule), rule_for_one_image(config.rule)
    _write_png(config.output, draw(pixels, explanation, teacher.classes, rule))
    summary = summarize(explanation, teacher.classes, config.output, rule, teacher.info)
    unseen = ["this is about the image alone: polygons have no say in it"] if takes_polygons(rule) else []
    return replace(summary, warnings=[*warnings_of(str(image), teacher.classes), *unseen])


def warnings_of(image: str, classes: ClassTable) -> list[str]:
    """What the name of a Cityscapes image tells against a teacher's classes."""
    if (stem := image_stem(image)) is None or not stem.endswith(f"_{IMAGE_TYPE}"):
        return []
    difference = class_difference(classes, CITYSCAPES)
    return [f"{difference}; colors and names are the teacher's"] if difference else []


def summarize(
    explanation: Explanation, classes: ClassTable, output: Location, rule: Rule, teacher: dict[str, Any]
) -> ExplainSummary:
    """The numbers of an explanation."""
    fused = explanation.top1
    pixels = np.bincount(fused.ravel(), minlength=classes.num_classes)[: classes.num_classes] / fused.size
    told = explanation.instance is not None
    return ExplainSummary(
        output=str(output),
        shares={part.name: float(part.share.mean()) for part in explanation.parts},
        agreement={part.name: float((part.top1 == fused).mean()) for part in explanation.parts},
        mean_confidence=float(explanation.confidence.mean()),
        threshold=rule.threshold,
        rule=rule.more or None,
        kept_share=float(_kept(explanation).mean()),
        classes={classes.names[index]: float(pixels[index]) for index in np.argsort(-pixels) if pixels[index] > 0},
        teacher=_facts(teacher) | {"classes": f"{classes.num_classes} of {classes.name!r}"},
        instances=len(explanation.instances) if told else None,
        instances_kept=int(rule.keeps(explanation.instances)[1:].sum()) if told else None,
    )


def _kept(explanation: Explanation) -> NDArray[np.bool_]:
    """[H, W] bool, which predicted pixels become labels."""
    return explanation.label != IGNORE_INDEX


def _facts(teacher: dict[str, Any]) -> dict[str, Any]:
    """Which teacher it was, and how it looked at the image."""
    asked = {name: value for name, value in teacher["settings"].items() if name not in ("teacher_sha256", "model")}
    which = {name: teacher.get(name) for name in ("model", "weights", "weights_sha256")}
    return {**which, **asked, "device": teacher["device"]}


def draw(image: U8, explanation: Explanation, classes: ClassTable, rule: Rule) -> U8:
    """[h, w, 3] uint8 RGB picture of an explanation of `image` [H, W, 3]; instances in shades with a border."""
    colors = np.full((256, 3), PAPER, np.uint8)
    colors[: classes.num_classes] = classes.colors
    kept, instance = _kept(explanation), explanation.instance
    result, labels_of = colors[explanation.top1], colors[explanation.label]
    if instance is not None:
        void = explanation.top1 == classes.ignore_index
        result, labels_of = with_instances(result, instance, void), with_instances(labels_of, instance, ~kept)
    columns = [(("image", image), ("confidence (white: 1)", _gray(explanation.confidence)))]
    for part in explanation.parts:
        prediction = (f"{part.title}: prediction", colors[part.top1])
        columns.append((prediction, (f"{part.title}: share, mean {part.share.mean():.2f}", _gray(part.share))))
    labels = (f"labels at {_short(str(rule))} (white: none)", labels_of)
    title = "fused prediction" if explanation.parts else "prediction"
    columns.append(((title, result), labels))
    body = np.concatenate([np.concatenate([_cell(*cell) for cell in column]) for column in columns], axis=1)
    return np.concatenate([body, _legend(explanation.top1, classes, body.shape[1])])


def _short(text: str) -> str:
    """As much of a text as fits above a picture beside other words."""
    return text if len(text) <= RULE_LETTERS else f"{text[: RULE_LETTERS - 4]} ..."


def _gray(values: NDArray[np.float32]) -> U8:
    gray = (255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _cell(title: str, picture: U8) -> U8:
    """A picture with its title above and a margin around, every cell of one size."""
    height = round(picture.shape[0] * CELL_WIDTH_PX / picture.shape[1])
    # areas when shrinking, so that thin things stay visible; whole pixels when enlarging
    how = cv2.INTER_AREA if picture.shape[1] > CELL_WIDTH_PX else cv2.INTER_NEAREST
    scaled = cv2.resize(np.ascontiguousarray(picture), (CELL_WIDTH_PX, height), interpolation=how)
    cell = np.full((TITLE_PX + height + GAP_PX, CELL_WIDTH_PX + 2 * GAP_PX, 3), PAPER, np.uint8)
    cell[TITLE_PX : TITLE_PX + height, GAP_PX : GAP_PX + CELL_WIDTH_PX] = scaled
    _write(cell, title, GAP_PX, TITLE_PX - 9)
    return cell


def _legend(top1: U8, classes: ClassTable, width_px: int) -> U8:
    """Color and name of every class of the result, the most frequent first, in as many lines as needed."""
    counts = np.bincount(top1.ravel(), minlength=classes.num_classes)[: classes.num_classes]
    present = [int(index) for index in np.argsort(-counts) if counts[index]]
    lines = [np.full((LEGEND_PX, width_px, 3), PAPER, np.uint8)]
    x = GAP_PX
    for index in present:
        entry_px = 34 + 10 * len(classes.names[index])
        if x + entry_px > width_px and x > GAP_PX:
            lines.append(np.full((LEGEND_PX, width_px, 3), PAPER, np.uint8))
            x = GAP_PX
        lines[-1][5:21, x : x + 16] = classes.colors[index]
        _write(lines[-1], classes.names[index], x + 22, 18)
        x += entry_px
    return np.concatenate(lines)


def _write(canvas: U8, text: str, x: int, y: int) -> None:
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, INK, 1, cv2.LINE_AA)


def _check_output(path: Location) -> None:
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG file; give --output a name that ends in .png, not {path}")
    if target.is_dir():
        raise ValueError(f"{path} is a folder; give --output the name of a file in it")


def _write_png(path: Location, picture: U8) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    target.write_bytes(encoded.tobytes())
