"""Thresholds chosen on some images and measured on the others, each part in its turn."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hmsa_label.pipeline.calibrate.bootstrap import Precision, Resamples
from hmsa_label.pipeline.calibrate.choice import choose
from hmsa_label.pipeline.calibrate.counts import I64
from hmsa_label.pipeline.calibrate.curves import Measured, known, share
from hmsa_label.pipeline.calibrate.records import OFF, HeldOutClass, HeldOutPart, HeldOutReport
from hmsa_label.pipeline.calibrate.units import Parts, Units

POINT = 0.01  # a part's precision may be this far below the target, and its interval this wide to either side
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How intervals are drawn: see `Resamples`."""

    units: Units
    resamples: int
    confidence: float

    def over(self, images: np.ndarray | None = None) -> Resamples:
        """Of some images ([N] bool), or of all."""
        units = self.units.of_image if images is None else self.units.of_image[images]
        return Resamples(units, self.resamples, self.confidence)


def report_held_out(measured: Measured, parts: Parts, drawing: Drawing, targets: Mapping[str, float]) -> HeldOutReport:
    """For each part, thresholds from all images but its own; and what they do there.

    Args:
        targets: precision of each class.
    """
    found = [_Part.of(measured, parts, number, drawing, targets) for number in range(len(parts.names))]
    whole = drawing.over()
    classes = {}
    for name in targets:
        kept, right = (np.zeros(len(parts.of_image), np.int64) for _ in range(2))
        for part in found:
            kept[part.images], right[part.images] = part.kept[name], part.right[name]
        classes[name] = _held_out(measured, name, None, whole.precision(kept[:, None], right[:, None]), targets[name])
    return HeldOutReport(split_by=parts.text, classes=classes, parts=[part.record for part in found])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """One part: `kept` and `right` [images of the part] pixels of each class at the threshold chosen without it."""

    images: np.ndarray
    kept: dict[str, I64]
    right: dict[str, I64]
    record: HeldOutPart

    @classmethod
    def of(
        cls, measured: Measured, parts: Parts, number: int, drawing: Drawing, targets: Mapping[str, float]
    ) -> "_Part":
        here = parts.of_image == number
        there, elsewhere = drawing.over(here), drawing.over(~here)
        kept, right, classes = {}, {}, {}
        for train_id, name in enumerate(measured.counts.names):
            if name not in targets:
                continue
            chosen, _ = choose_stored(measured, elsewhere, train_id, targets[name], ~here)
            kept[name], right[name] = (part[here, train_id] for part in _at(measured, chosen))
            precision = there.precision(kept[name][:, None], right[name][:, None])
            classes[name] = _held_out(measured, name, chosen, precision, targets[name], here)
        record = HeldOutPart(name=parts.names[number], images=int(here.sum()), classes=classes)
        return cls(images=here, kept=kept, right=right, record=record)


def choose_stored(
    measured: Measured,
    resamples: Resamples,
    train_id: int | None,
    target: float,
    images: np.ndarray | None = None,
) -> tuple[float | str, str | None]:
    """(stored threshold of a class or of all, None) or ("off", why); from some images or all."""
    found = measured.precision(resamples, train_id, images)
    stored = Precision(**{name: values[1:] for name, values in vars(found).items()})  # 0 is not stored
    return choose(measured.thresholds[1:], stored, target, int(found.kept_px[0]))


def _at(measured: Measured, threshold: float | str) -> tuple[I64, I64]:
    """([N, K] kept, [N, K] right) at a threshold; nothing if it is off."""
    if threshold == OFF:
        nothing = np.zeros(measured.kept.shape[:2], np.int64)
        return nothing, nothing
    place = measured.thresholds.index(float(threshold))
    return measured.kept[:, :, place], measured.right[:, :, place]


def _held_out(
    measured: Measured,
    name: str,
    threshold: float | str | None,
    found: Precision,
    target: float,
    images: np.ndarray | slice = slice(None),
) -> HeldOutClass:
    train_id = measured.counts.names.index(name)
    precision, low, high = (known(values[0]) for values in (found.value, found.low, found.high))
    sure = None if precision is None else low is not None and high is not None and high - low <= 2 * POINT + ROUNDING
    return HeldOutClass(
        threshold=threshold,
        pixels=int(measured.counts.labeled[images, train_id].sum()),
        kept_px=int(found.kept_px[0]),
        precision=precision,
        precision_low=low,
        precision_high=high,
        kept_share=share(int(found.kept_px[0]), int(measured.kept[images, train_id, 0].sum())),
        target=target,
        reached=None if precision is None else precision >= target - POINT - ROUNDING,
        sure=sure,
    )
