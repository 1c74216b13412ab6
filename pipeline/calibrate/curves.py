"""From counts to what is told of a class: its curve over the thresholds, its reliability diagram, its error."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.calibrate.bootstrap import Precision, Resamples
from hmsa_label.pipeline.calibrate.counts import F64, I64, Counts
from hmsa_label.pipeline.calibrate.records import ClassCalibration, CurvePoint, ReliabilityBin
from hmsa_label.pipeline.calibrate.temperature import fit_temperature

BIN_EDGES = tuple(5 * number / 100 for number in range(1, 20))  # of a teacher's own confidence: 20 bins
NARROWEST = 0.004  # of a bin between stored thresholds; 0.5 and 128/255 make one


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The counts of images at every threshold, 0 and the stored ones; T of them.

    Attributes:
        thresholds: [T]. kept, right: [N, K, T] pixels by predicted class. missed: [N, K, T] by class of the label.
    """

    counts: Counts
    thresholds: tuple[float, ...]
    kept: I64
    right: I64
    missed: I64

    @classmethod
    def of(cls, counts: Counts) -> "Measured":
        at = (0.0, *counts.grid)
        kept, right, missed = (counts.kept(part, at) for part in (counts.predicted, counts.right, counts.missed))
        return cls(counts=counts, thresholds=at, kept=kept, right=right, missed=missed)

    @cached_property
    def bins(self) -> "Bins":
        """Those of the reliability diagrams."""
        return Bins.of(self.counts)

    def precision(
        self, resamples: Resamples, train_id: int | None, images: NDArray[np.bool_] | None = None
    ) -> Precision:
        """Of a class, or of all together for None; on some of the images, or on all."""
        kept, right = (part.sum(1) if train_id is None else part[:, train_id] for part in (self.kept, self.right))
        return resamples.precision(*((kept, right) if images is None else (kept[images], right[images])))

    def describe(self, resamples: Resamples, train_id: int | None) -> ClassCalibration:
        """All that is measured of a class, or of all together for None; nothing is chosen yet."""
        counts, found = self.counts, self.precision(resamples, train_id)
        classes = slice(None) if train_id is None else [train_id]
        predicted = int(self.kept[:, classes, 0].sum())
        return ClassCalibration(
            pixels=int(counts.labeled[:, classes].sum()),
            predicted_px=predicted,
            images=int((self.kept[:, classes, 0].sum(1) > 0).sum()),
            curve=self._curve(found, classes, None if train_id is None else train_id),
            bins=self.bins.diagram(resamples, classes),
            ece=self.bins.error(classes) if predicted else None,
            temperature=self.bins.temperature(classes),
        )

    def _curve(self, found: Precision, classes: slice | list[int], train_id: int | None) -> list[CurvePoint]:
        right = self.right[:, classes].sum((0, 1))
        labeled = int(self.counts.labeled[:, classes].sum())
        iou = self._iou() if train_id is None else self._class_iou()[train_id]
        return [
            CurvePoint(
                threshold=threshold,
                kept_px=int(found.kept_px[place]),
                precision=known(found.value[place]),
                precision_low=known(found.low[place]),
                precision_high=known(found.high[place]),
                kept_share=share(found.kept_px[place], found.kept_px[0]),
                found=share(right[place], labeled),
                iou=known(iou[place]),
            )
            for place, threshold in enumerate(self.thresholds)
        ]

    def _class_iou(self) -> F64:
        """[K, T] TP / (TP + FP + FN) among the pixels that a threshold keeps; NaN for a class in neither."""
        right, union = self.right.sum(0), self.kept.sum(0) + self.missed.sum(0)
        return np.divide(right, union, out=np.full(right.shape, np.nan), where=union > 0)

    def _iou(self) -> F64:
        """[T] their mean over the classes that the labels hold; NaN where a threshold keeps nothing of these."""
        iou = self._class_iou()[self.counts.labeled.sum(0) > 0]
        held = ~np.isnan(iou)
        return np.divide(
            np.where(held, iou, 0).sum(0), held.sum(0), out=np.full(iou.shape[1], np.nan), where=held.any(0)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Levels of confidence, some of them put together; B bins.

    Attributes:
        edges: [B + 1] from 0 to 1. pixels, right: [N, K, B] by predicted class. confidence: [K, B] sum over the pixels.
        fine: the same of single levels, for what needs them: (confidence [K, L], pixels [K, L], right [K, L]).
    """

    edges: tuple[float, ...]
    pixels: I64
    right: I64
    confidence: F64
    fine: tuple[F64, I64, I64]

    @classmethod
    def of(cls, counts: Counts) -> "Bins":
        inner = BIN_EDGES if counts.confidence is not None else _apart(counts.edges.tolist())
        starts = [0, *(int(np.flatnonzero(counts.edges == np.float32(edge))[0]) + 1 for edge in inner)]
        pixels, right = (
            np.add.reduceat(part, starts, axis=2, dtype=np.int64) for part in (counts.predicted, counts.right)
        )
        total = counts.predicted.sum(0, dtype=np.int64)
        sums = counts.confidence if counts.confidence is not None else total * _middles(counts)
        return cls(
            edges=(0.0, *(round(float(edge), 6) for edge in inner), 1.0),
            pixels=pixels,
            right=right,
            confidence=np.add.reduceat(sums, starts, axis=1),
            fine=(sums, total, counts.right.sum(0, dtype=np.int64)),
        )

    def diagram(self, resamples: Resamples, classes: slice | list[int]) -> list[ReliabilityBin]:
        """The bins that hold a pixel."""
        pixels, right = self.pixels[:, classes].sum(1), self.right[:, classes].sum(1)
        found, sums = resamples.precision(pixels, right), self.confidence[classes].sum(0)
        return [
            ReliabilityBin(
                low=self.edges[place],
                high=self.edges[place + 1],
                pixels=int(count),
                confidence=min(float(sums[place] / count), 1.0),
                precision=float(found.value[place]),
                precision_low=known(found.low[place]),
                precision_high=known(found.high[place]),
            )
            for place, count in enumerate(found.kept_px)
            if count
        ]

    def error(self, classes: slice | list[int]) -> float:
        """Expected calibration error: mean over pixels of |precision - confidence| of their bin (arXiv 1706.04599)."""
        pixels, right = self.pixels[:, classes].sum((0, 1)), self.right[:, classes].sum((0, 1))
        return float(np.abs(right - self.confidence[classes].sum(0)).sum() / pixels.sum())

    def temperature(self, classes: slice | list[int]) -> float | None:
        """See `fit_temperature`; from single levels."""
        sums, pixels, right = (part[classes].sum(0) for part in self.fine)
        held = pixels > 0
        return fit_temperature(sums[held] / pixels[held], pixels[held], right[held])


def known(value: float) -> float | None:
    """A figure, or None for NaN."""
    return None if np.isnan(value) else float(value)


def share(part: int, whole: int) -> float | None:
    """part / whole; None of nothing."""
    return float(part / whole) if whole else None


def _middles(counts: Counts) -> F64:
    """[L] the confidence that pixels are taken to have of which only the level is known."""
    ends = np.array([1 / len(counts.names), *counts.edges, 1.0], np.float64)
    ends[0] = min(ends[0], ends[1])
    return np.asarray((ends[:-1] + ends[1:]) / 2)


def _apart(edges: Sequence[float]) -> list[float]:
    kept: list[float] = []
    for edge in edges:
        if not kept or edge - kept[-1] > NARROWEST:
            kept.append(edge)
    return kept
