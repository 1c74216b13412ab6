"""What moves between the stages of the flow: names, arrays inside one process, and small receipts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.result import Result

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What is to be known of every pixel.

    Attributes:
        thresholds: [T] float32 that codes count, ascending.
        margins: [M] float32 that margins are counted by, ascending; None for no runner-up and no margin.
        disagreement: count the views that have another class.
        confidence: keep the confidence itself, too.
    """

    thresholds: NDArray[np.float32]
    margins: NDArray[np.float32] | None = None
    disagreement: bool = False
    confidence: bool = False


@dataclass(frozen=True, kw_only=True)
class LabeledImage:
    """What a teacher says of one image, and its labels once they are cut, on the CPU.

    Attributes:
        arrays: [H, W] arrays by the names that the store gives them: what was asked of the teacher, `instance` of a
            panoptic one, and `label`, uint8 trainIds with ignore_index (255) where a rule keeps nothing; `confidence`,
            float32, if it was asked for.
        mean_confidence: mean over pixels of the probability of their class, 0..1; None if nothing tells it.
        tiles: how the image was cut because it did not fit into memory; None if it was labeled as a whole.
        instances: all that a panoptic teacher found, before the rule; None of other teachers.
    """

    arrays: Mapping[str, NDArray[Any]]
    mean_confidence: float | None
    tiles: str | None = None
    instances: tuple[StoredInstance, ...] | None = None

    @property
    def label(self) -> U8:
        return np.asarray(self.arrays["label"], np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionPart:
    """One of the predictions that a teacher takes its own from, at the size of the image.

    Attributes:
        name: as in tables and JSON. title: as in pictures.
        top1: [H, W] uint8 arg-max trainId of this prediction alone.
        share: [H, W] float32, what is taken of it.
    """

    name: str
    title: str
    top1: U8
    share: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """How a prediction came about.

    Attributes:
        parts: what the prediction is taken from; empty if it is of one piece.
        top1: [H, W] uint8 arg-max trainId of the prediction.
        confidence: [H, W] float32 its softmax probability, 0..1.
        label: [H, W] uint8 what a rule keeps of it, 255 elsewhere.
        instance, instances: as those of a `Prediction`.
    """

    parts: list[PredictionPart]
    top1: U8
    confidence: NDArray[np.float32]
    label: U8
    instance: U16 | None = None
    instances: tuple[StoredInstance, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a teacher says of one image.

    Attributes:
        label: [H, W] uint8 trainIds, ignore_index (255) where the rule keeps nothing.
        top1: [H, W] uint8 arg-max trainIds, whatever their confidence; where instances are told apart, the classes
            after merging, 255 where a pixel belongs to nothing.
        confidence: [H, W] float32 probability of the class in `top1`, 0..1.
        instance: [H, W] uint16, 0 for none, else n for the n-th of `instances`; whatever their scores. None if the
            teacher tells no instances apart.
        instances: class, scores, area and box of each.
    """

    label: U8
    top1: U8
    confidence: NDArray[np.float32]
    instance: U16 | None = None
    instances: tuple[StoredInstance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be labeled, and why in one line.

    Attributes:
        source_bytes, source_sha256: of the file, if its bytes are the reason; another try on the same ones is in vain.
    """

    key: str
    reason: str
    source_bytes: int | None = None
    source_sha256: str | None = None


class NetworkFailure(Failure):
    """An image for which the network gave NaN or infinite logits: its file is not to blame."""


@dataclass(frozen=True, kw_only=True)
class GuardedClass(Result):
    """A class against one reference, see `label/guard.py`.

    Attributes:
        name: of the class. against: polygons, calibration or fine labels.
        share, expected: the two that are compared, 0..1.
        pixels, images: that the first is taken from.
        state: kept, lost, or too rare to tell.
    """

    name: str
    against: str
    share: float
    expected: float
    pixels: int
    images: int
    state: str


@dataclass(frozen=True, kw_only=True)
class LabelSummary(Result):
    """What one `label_images` call did; the JSON object of `hmsa-label run --json`.

    `images_labelled_elsewhere` were labeled by other drivers of the same run meanwhile. `images_not_retried` of the
    failed images failed in an earlier attempt, and their files are still the same.
    `warnings` are lines that were shown, `classes_absent` the teacher's classes without a pixel in the version.
    `guard` compares what is left of each class with what is there.
    `threshold` and `rule` decided what is kept: `rule` is all but the threshold, null if nothing else decided.
    `kept_share` is the share of pixels that are kept, over all images of the version, 0..1;
    `seconds` the wall time of the call and `images_per_second` = images_labelled / seconds of labeling.
    """

    store: str
    version: int
    digest: str
    images_total: int
    images_done_before: int
    images_labelled: int
    images_failed: int
    images_not_retried: int = 0
    images_labelled_elsewhere: int = 0
    failed: list[Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    classes_absent: list[str] = field(default_factory=list)
    guard: list[GuardedClass] = field(default_factory=list)
    threshold: float | None = None
    rule: dict[str, Any] | None = None
    kept_share: float | None = None
    images_per_second: float | None = None
    seconds: float = 0.0
    interrupted: bool = False
