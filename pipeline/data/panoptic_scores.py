"""Scores predicted instances and classes against labels with instances: panoptic quality, average precision, IoU."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from hmsa_label.labelers.base import Instance
from hmsa_label.labelers.confusion import by_name, iou_by_class, mean_iou
from hmsa_label.labelers.panoptic.average_precision import AveragePrecision
from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.panoptic.quality import PanopticQuality, Quality
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.panoptic_labels import PanopticMap, numbered_per_class, read_panoptic
from hmsa_label.pipeline.data.scores import Evaluation
from hmsa_label.pipeline.records import U8, Prediction
from hmsa_label.stores.images.source import BadImage, ImageRef, ImageSource


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores of one class over a split, 0..1; None where the class occurs neither in labels nor in predictions.

    Attributes:
        pq, sq, rq: panoptic quality, mean IoU of the regions that match, and how well regions are found.
        ap: average precision of instances over IoU 0.5 to 0.95; None for stuff too.
        iou: of all pixels of the class.
    """

    pq: float | None
    sq: float | None
    rq: float | None
    ap: float | None
    iou: float | None


@dataclass(frozen=True, kw_only=True)
class PanopticEvaluation(Evaluation):
    """Scores over a split of a teacher that tells instances apart; see `Evaluation`.

    IoU and pixel accuracy are of the classes after merging; a pixel that belongs to nothing is a miss.

    Attributes:
        pq, sq, rq: means over the classes that occur, 0..1.
        things, stuff: the same over either kind of classes; None if none of them occurs.
        ap, ap50: average precision of instances, over IoU 0.5 to 0.95 and at 0.5; instances of the labels with fewer
            than 100 px are not asked for, as Cityscapes has it.
        classes: scores by class name.
    """

    pq: float
    sq: float
    rq: float
    things: dict[str, float] | None
    stuff: dict[str, float] | None
    ap: float
    ap50: float
    classes: dict[str, ClassScores]


class PanopticScores:
    """Counts images one by one."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self.quality, self.precision = PanopticQuality(classes), AveragePrecision(classes)
        self._pixels = np.zeros((classes.num_classes, classes.num_classes + 1), np.int64)  # the last one is void
        self._images = 0

    def add(self, labels: PanopticMap, predicted: Prediction) -> None:
        """Counts one image.

        Args:
            labels: [H, W] panoptic map. predicted: of a teacher that tells instances apart.

        Raises:
            ValueError: the shapes differ.
            BadImage: more instances of one class than a panoptic map holds.
        """
        assert predicted.instance is not None
        self.quality.add(labels, numbered_per_class(predicted.top1, predicted.instance))
        self.precision.add(labels, predicted.instance, [Instance(*one) for one in predicted.instances])
        known, void = labels // DIVISOR < self.classes.num_classes, self.classes.num_classes
        given = np.minimum(predicted.top1[known], void).astype(np.int64)
        pairs = np.bincount(labels[known] // DIVISOR * (void + 1) + given, minlength=self._pixels.size)
        self._pixels += pairs.reshape(self._pixels.shape)
        self._images += 1

    def scores(self) -> PanopticEvaluation:
        """The scores of all that was counted."""
        pixels, void = self._pixels, self.classes.num_classes
        # As a class of its own that no label has, void takes pixels from the others and has no IoU itself.
        iou = iou_by_class(np.pad(pixels, ((0, 1), (0, 0))))[:void]
        quality = self.quality.mean() or Quality(0.0, 0.0, 0.0)
        ap, ap50 = self.precision.score()
        return PanopticEvaluation(
            miou=mean_iou(iou),
            iou=by_name(self.classes.names, iou),
            pixel_accuracy=float(np.trace(pixels) / max(pixels.sum(), 1)),
            images=self._images,
            **quality._asdict(),
            things=_plain(self.quality.of_things),
            stuff=_plain(self.quality.of_stuff),
            ap=ap,
            ap50=ap50,
            classes=self._by_class(by_name(self.classes.names, iou)),
        )

    def _by_class(self, iou: dict[str, float | None]) -> dict[str, ClassScores]:
        found = self.quality.by_class()
        precision = by_name(self.classes.names, self.precision.by_class().mean(axis=1))
        return {
            name: ClassScores(
                pq=None if one is None else one.pq,
                sq=None if one is None else one.sq,
                rq=None if one is None else one.rq,
                ap=precision[name],
                iou=iou[name],
            )
            for name, one in found.items()
        }


def scores_of(
    source: ImageSource, refs: Iterable[ImageRef], classes: ClassTable, predict: Callable[[U8], Prediction]
) -> PanopticScores:
    """Counts what `predict` says of images [H, W, 3] uint8 RGB that have instances."""
    scores = PanopticScores(classes)
    for ref in refs:
        image, labels = read_panoptic(source, ref, classes)
        try:
            scores.add(labels, predict(image))
        except BadImage as error:
            raise ValueError(f"cannot label {ref.key}: {error}") from error
    return scores


def _plain(quality: Quality | None) -> dict[str, float] | None:
    return None if quality is None else dict(quality._asdict())
