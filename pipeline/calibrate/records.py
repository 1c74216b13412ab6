"""What a calibration says: frozen dataclasses in the form of `calibration.json`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hmsa_label.stores.result import Result

KIND = "hmsa-label calibration"
OFF = "off"  # in the place of a threshold: the class is not labeled at all


@dataclass(frozen=True, kw_only=True)
class CurvePoint(Result):
    """What one threshold keeps of the pixels that are predicted as a class.

    Attributes:
        threshold: least confidence; 0 keeps every pixel.
        kept_px: pixels that are kept; of those with a fine label, as everywhere.
        precision: share of these whose class is right, 0..1; None if there are none.
        precision_low, precision_high: ends of its interval; None where it cannot be told.
        kept_share: share of the pixels predicted as the class that is kept, 0..1; None if there are none.
        found: share of the pixels labeled as the class that are kept as the class, 0..1; None if there are none.
        iou: of the class among the pixels that this threshold, applied to all classes, keeps; None without any.
    """

    threshold: float
    kept_px: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    kept_share: float | None
    found: float | None
    iou: float | None


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin(Result):
    """Pixels whose confidence lies in [low, high): how sure the teacher was, and how often it was right.

    Attributes:
        pixels: how many. confidence: their mean, 0..1; of stored labels the middle of the bin.
        precision: share that is right, with the ends of its interval, 0..1; None where it cannot be told.
    """

    low: float
    high: float
    pixels: int
    confidence: float
    precision: float
    precision_low: float | None
    precision_high: float | None


@dataclass(frozen=True, kw_only=True)
class ClassCalibration(Result):
    """What was measured of the pixels that are predicted as one class, or of all of them.

    Attributes:
        pixels: labeled as the class. predicted_px: predicted as the class. Both of pixels with a fine label.
        images: with a pixel predicted as the class.
        curve: one point for no threshold and each stored one, ascending.
        bins: reliability diagram, ascending, without empty bins.
        ece: expected calibration error over the bins, 0..1; None if the class is never predicted.
        temperature: T that makes sigmoid(logit(confidence) / T) fit best, above 1 for a teacher that is too sure; None
            where nothing tells it.
        target: the precision that was asked for; None if none was.
        threshold: the stored one that reaches it, "off" if none does; None if none was asked for.
        reason: why it is off; None if it is not.
    """

    pixels: int
    predicted_px: int
    images: int
    curve: list[CurvePoint]
    bins: list[ReliabilityBin]
    ece: float | None
    temperature: float | None
    target: float | None = None
    threshold: float | str | None = None
    reason: str | None = None

    @property
    def chosen(self) -> CurvePoint | None:
        """The point of the curve at the chosen threshold; None if there is none."""
        return next((point for point in self.curve if point.threshold == self.threshold), None)


@dataclass(frozen=True, kw_only=True)
class HeldOutClass(Result):
    """What a class' threshold does on images that it was not chosen on.

    Attributes:
        pixels: labeled as the class there. kept_px: kept at the threshold.
        precision, precision_low, precision_high: of the kept ones, 0..1; None without any.
        kept_share: of the pixels predicted as the class, 0..1; None if there are none.
        target: what was asked for. reached: whether the precision is at most a point (0.01) below it; None if nothing
            is kept.
        sure: whether the interval is at most a point wide to either side, so that `reached` means something.
    """

    threshold: float | str | None
    pixels: int
    kept_px: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    kept_share: float | None
    target: float
    reached: bool | None
    sure: bool | None


@dataclass(frozen=True, kw_only=True)
class HeldOutPart(Result):
    """One part of the images: its classes at the thresholds that were chosen on the other parts.

    Attributes:
        name: such as "cities lindau, munster". images: of the part.
    """

    name: str
    images: int
    classes: dict[str, HeldOutClass]


@dataclass(frozen=True, kw_only=True)
class HeldOutReport(Result):
    """Thresholds chosen on some images and measured on others, each part in its turn.

    Attributes:
        split_by: what the parts are made of, in words.
        classes: over all parts, every image at the thresholds that were chosen without it; `threshold` is None there,
            as parts differ. parts: each of them.
    """

    split_by: str
    classes: dict[str, HeldOutClass]
    parts: list[HeldOutPart]


@dataclass(frozen=True, kw_only=True)
class Calibration(Result):
    """The outcome of `calibrate`; the object of `calibration.json` and of `calibrate --json`.

    Attributes:
        kind: "hmsa-label calibration". hmsa_label: version of the package. made_at: time, UTC.
        teacher: `sha256` of its weights and what else is known of it. fold_teachers: the same of others, each of which
            predicted the images that the first one was trained on.
        stores: `store`, `version`, `digest` of stored labels that were counted; empty if a teacher predicted.
        data, dataset, split, labels: where the fine labels are. images: how many were counted.
        failed: `key` and `reason` of images that could not be counted; they are not among `images`.
        images_trained_on: of them, by name or content, those that their teacher was trained on; 0 unless allowed.
        drawn: what the resamples of the intervals consist of, in words. confidence: of the intervals, 0..1.
        grid: stored thresholds, ascending.
        target_precision: one for all classes, or by class; None if none was asked for.
        all: over all classes. classes: by name.
        class_thresholds: by name, a stored threshold or "off"; empty if no precision was asked for.
        report: how such thresholds do on images that they were not chosen on; None without a target or enough images.
        warnings: lines for whoever reads the figures. method: how they were made.
        page: the HTML page; None if none was written.
    """

    kind: str = KIND
    hmsa_label: str
    made_at: str
    teacher: dict[str, Any]
    fold_teachers: list[dict[str, Any]] = field(default_factory=list)
    stores: list[dict[str, Any]] = field(default_factory=list)
    data: str
    dataset: str
    split: str
    labels: str
    images: int
    images_trained_on: int
    failed: list[dict[str, str]] = field(default_factory=list)
    drawn: str
    confidence: float
    grid: list[float]
    target_precision: float | dict[str, float] | None
    all: ClassCalibration
    classes: dict[str, ClassCalibration]
    class_thresholds: dict[str, float | str]
    report: HeldOutReport | None
    warnings: list[str] = field(default_factory=list)
    method: str = ""
    page: str | None = None

    @property
    def kept_shares(self) -> dict[str, float]:
        """Class -> share of its predicted pixels that its chosen threshold keeps, 0..1; 0 where it is off.

        Classes without a predicted pixel, or without a chosen threshold, are left out.
        """
        shares = {}
        for name, found in self.classes.items():
            if found.threshold is not None and found.predicted_px:
                shares[name] = found.chosen.kept_share or 0.0 if found.chosen is not None else 0.0
        return shares

    def kept_share_at(self, name: str, threshold: float | str) -> float | None:
        """Share of the pixels predicted as a class that a stored threshold, or "off", keeps, 0..1.

        None if the class has no predicted pixel, or the threshold is not one of the curve's.
        """
        found = self.classes.get(name)
        if found is None or not found.predicted_px:
            return None
        if threshold == OFF:
            return 0.0
        asked = np.float32(threshold)
        return next((point.kept_share for point in found.curve if np.float32(point.threshold) == asked), None)

    @property
    def class_shares(self) -> dict[str, float]:
        """Class -> its share of the pixels of the fine labels, 0..1; they sum to 1."""
        total = max(sum(found.pixels for found in self.classes.values()), 1)
        return {name: found.pixels / total for name, found in self.classes.items()}
