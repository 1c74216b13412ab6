"""Scores predictions against fine labels: IoU per class and pixel accuracy, as Cityscapes defines them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.confusion import by_name, count_pairs, iou_by_class, mean_iou
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.data.label_checks import refuse_train_ids
from hmsa_label.pipeline.data.label_files import read_raw_ids
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images.source import BadImage, ImageRef, ImageSource
from hmsa_label.stores.result import Result


@dataclass(frozen=True, kw_only=True)
class Evaluation(Result):
    """Scores over a split.

    Attributes:
        miou: mean IoU over the classes that occur in labels or predictions, 0..1.
        iou: IoU by class name, 0..1; None for a class that occurs in neither.
        pixel_accuracy: share of labeled pixels whose class is right, 0..1.
        images: number of images scored.
        images_trained_on: of them, by their names, those that the weights were trained on.
    """

    miou: float
    iou: dict[str, float | None]
    pixel_accuracy: float
    images: int
    images_trained_on: int = 0


class Confusion:
    """Running confusion matrix; `counts[label, prediction]` in pixels, [K, K] int64."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.counts = np.zeros((classes.num_classes, classes.num_classes), np.int64)
        self.num_images = 0

    def add(self, labels: U8, predicted: U8) -> None:
        """Counts one image; pixels whose label is not a class are left out.

        Args:
            labels: [H, W] uint8 trainIds, 255 ignored.
            predicted: [H, W] uint8 trainIds, every one a class.

        Raises:
            ValueError: the shapes differ.
        """
        self.counts += count_pairs(labels, predicted, self.classes.num_classes)
        self.num_images += 1

    def scores(self) -> Evaluation:
        """IoU = TP / (TP + FP + FN) by class, their mean, and pixel accuracy."""
        iou = iou_by_class(self.counts)
        return Evaluation(
            miou=mean_iou(iou),
            iou=by_name(self.classes.names, iou),
            pixel_accuracy=float(np.trace(self.counts) / max(self.counts.sum(), 1)),
            images=self.num_images,
        )


def read_pair(source: ImageSource, ref: ImageRef, classes: ClassTable) -> tuple[U8, U8]:
    """(image [H, W, 3] uint8 RGB, labels [H, W] uint8 trainIds) of an image that has labels.

    Raises:
        ValueError: no label file, or the sizes differ; decode errors name the file.
    """
    if ref.labels is None:
        raise ValueError(f"{ref.key} has no label file")
    try:
        image = decode_image(source.read(ref.image))
        labels = classes.train_id_of[read_raw_ids(source, ref.labels)]
    except ValueError as error:
        raise ValueError(f"cannot read {ref.key}: {error}") from error
    if image.shape[:2] != labels.shape:
        raise ValueError(f"{ref.key}: the image is {image.shape[:2]} px, its labels are {labels.shape} px")
    return image, labels


def labeled_images(source: ImageSource, split: str, labels: str, limit: int | None = None) -> list[ImageRef]:
    """The images of a split that have a label file, sorted by key.

    Raises:
        ValueError: there is none, or the labels hold other ids than a tree of this kind has.
    """
    refs = [ref for ref in source.list(split, labels=labels) if ref.labels is not None]
    if not refs:
        raise ValueError(f"split {split!r} of {source.root} has no image with {labels} labels")
    refuse_train_ids(source, refs[:limit])
    return refs[:limit]


def confusion_of(
    source: ImageSource, refs: Iterable[ImageRef], classes: ClassTable, predict: Callable[[U8], NDArray[np.uint8]]
) -> Confusion:
    """Counts what `predict`, which maps an image [H, W, 3] to arg-max trainIds [H, W], says of labeled images."""
    confusion = Confusion(classes)
    for ref in refs:
        image, labels = read_pair(source, ref, classes)
        try:
            confusion.add(labels, predict(image))
        except BadImage as error:
            raise ValueError(f"cannot label {ref.key}: {error}") from error
    return confusion
