"""The one place that decides which label a pixel gets: what the teacher said and the polygons say, cut by a rule.

In this order:

1. The teacher's class is kept where its confidence, its margin, the agreement of its single predictions and its
   instance suffice; the pixel is 255 elsewhere.
2. It is 255 in the border and in the mask. This is *the teacher's label*, which the counts below are about.
3. Polygons drawn by hand act, each by the mode of its class: `veto`, then `seen`, `trust` and `add`. They count in the
   border and in the mask too, as somebody drew them there.
4. Pixels that are still 255, outside of border and mask, take the class of a polygon that was grown into them.
5. An image that is none of the best keeps nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format import origin as origins
from hmsa_label.stores.format.bounds import (
    CODE,
    DISAGREEMENT,
    GROWN,
    GROWN_PX,
    INSTANCE,
    LABEL,
    MARGIN,
    MASK,
    ORIGIN,
    POLYGON,
    TOP1,
    Bounds,
    Pixels,
)
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.format.origin import teacher_alone
from hmsa_label.stores.format.rule import ADD, KEPT_SHARE, MEAN_CONFIDENCE, OFF, SEEN, TRUST, VETO, Rule

Table = NDArray[np.bool_]  # [256] whether something holds for each trainId; not for 255
UNREACHED = 255  # a level above every code
PART_PIXELS = 2**22  # counted together: bincount makes 8 bytes of each pixel


class PolygonCounts(NamedTuple):
    """Pixels of polygons and of the teacher's label in them, [K] by the class of the polygon.

    Attributes:
        px: all. kept_px: those where the teacher's label has a class. agree_px: those where it has the same.
    """

    px: tuple[int, ...]
    kept_px: tuple[int, ...]
    agree_px: tuple[int, ...]

    @property
    def agreement(self) -> float | None:
        """Share of the kept pixels that agree, 0..1; None if none is kept."""
        kept = sum(self.kept_px)
        return sum(self.agree_px) / kept if kept else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """What a rule makes of an image. Counts are made when they are asked for.

    Attributes:
        label: [H, W] uint8 trainIds, 255 where there is none.
        origin: [H, W] uint8, who said it; None if only the teacher could.
        teacher: [H, W] uint8 the teacher's label, before polygons.
        top1, polygon: [H, W] uint8 what was cut from.
    """

    label: U8
    origin: U8 | None
    teacher: U8
    top1: U8
    polygon: U8 | None
    num_classes: int

    @property
    def origins(self) -> U8:
        """[H, W] uint8 who said the label of each pixel, 0 where there is none."""
        return teacher_alone(self.label) if self.origin is None else self.origin

    @property
    def arrays(self) -> dict[str, Pixels]:
        """Those of the table of arrays that follow the rule, by name."""
        return {LABEL: self.label} | ({} if self.origin is None else {ORIGIN: self.origin})

    @cached_property
    def polygons(self) -> PolygonCounts | None:
        """How the teacher's label and the polygons agree; None if the image has no polygons."""
        if self.polygon is None:
            return None
        pairs = sum(
            np.bincount(drawn.astype(np.uint16) << 8 | said, minlength=2**16)
            for drawn, said in zip(_parts(self.polygon), _parts(self.teacher), strict=True)
        )
        of = np.asarray(pairs).reshape(256, 256)[: self.num_classes]
        counts = of.sum(1), of[:, :IGNORE_INDEX].sum(1), of.diagonal()
        return PolygonCounts(*(tuple(count.tolist()) for count in counts))

    @cached_property
    def class_px(self) -> tuple[int, ...]:
        """[K] pixels of each class in the label."""
        return counts_of(self.label, self.num_classes)

    @cached_property
    def predicted_px(self) -> tuple[int, ...]:
        """[K] pixels of each class before the rule."""
        return counts_of(self.top1, self.num_classes)

    @cached_property
    def teacher_px(self) -> tuple[int, ...] | None:
        """[K] pixels of each class in the teacher's label; None if the label has as many."""
        if self.teacher is self.label:
            return None
        counts = counts_of(self.teacher, self.num_classes)
        return None if counts == self.class_px else counts

    @cached_property
    def origin_px(self) -> tuple[int, ...] | None:
        """Pixels of each origin, by its code; None without `origin`."""
        return None if self.origin is None else counts_of(self.origin, len(origins.NAMES))

    @property
    def facts(self) -> dict[str, Any]:
        """The counts as `ImageFacts` and the manifest have them."""
        found = self.polygons
        px, kept, agree = (None, None, None) if found is None else found
        return {
            "predicted_px": self.predicted_px,
            "teacher_px": self.teacher_px,
            "origin_px": self.origin_px,
            "polygon_px": px,
            "polygon_kept_px": kept,
            "polygon_agree_px": agree,
            "coarse_agreement": None if found is None else found.agreement,
        }


def needs(rule: Rule, *, polygons: bool = False) -> tuple[str, ...]:
    """Names of the arrays that an image must have for a rule.

    Args:
        polygons: whether the image has polygons.
    """
    names = [TOP1, CODE]
    names += [MARGIN] * (rule.margin > 0)
    names += [DISAGREEMENT] * (rule.max_disagreement is not None)
    names += [INSTANCE] * bool(rule.of_instances)
    return (*names, *((POLYGON, GROWN, GROWN_PX) if polygons and rule.grow_px else (POLYGON,) if polygons else ()))


def uses(rule: Rule, names: Collection[str]) -> list[str]:
    """Those of an image's arrays that `cut` looks at."""
    return [name for name in needs(rule, polygons=POLYGON in names) if name in names]


def cut(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Cut:
    """The label of an image by a rule.

    Args:
        arrays: [H, W] by name: `top1` and `code`, and of `margin`, `disagreement`, `instance`, `polygon`, `grown` and
            `grown_px` what the image has; `mask`, bool, if the rule has one.

    Raises:
        ThresholdNotStored: if a threshold or the margin is not among the stored ones.
        ValueError: if the rule needs an array or a fact that is not there, is about other classes, or its mask has
            another size.
    """
    _refuse(arrays, rule, bounds)
    teacher = _sure(arrays, rule, bounds)
    hidden = _hide(teacher, arrays, rule)
    label, origin = teacher, None
    if POLYGON in arrays and any(rule.mode_of(name) != OFF for name in bounds.names):
        label, origin = _with_polygons(teacher, arrays, rule, bounds, hidden)
    if not _is_among_best(label, rule, bounds):
        label = np.full_like(label, IGNORE_INDEX)
        origin = None if origin is None else np.zeros_like(origin)
    return Cut(
        label=label,
        origin=origin,
        teacher=teacher,
        top1=arrays[TOP1],
        polygon=arrays.get(POLYGON),
        num_classes=bounds.num_classes,
    )


def counts_of(pixels: U8, num_classes: int) -> tuple[int, ...]:
    """[K] how many pixels have each trainId."""
    counts = np.zeros(256, np.int64)
    for part in _parts(pixels):
        # Two neighbors at a time: making numbers of 8 bytes of the pixels is what counting costs.
        even = len(part) // 2 * 2
        pairs = np.bincount(part[:even].view(np.uint16), minlength=2**16).reshape(256, 256)
        counts += pairs.sum(0) + pairs.sum(1) + np.bincount(part[even:], minlength=256)
    return tuple(counts[:num_classes].tolist())


def _parts(pixels: U8) -> list[U8]:
    return np.array_split(pixels.ravel(), 1 + pixels.size // PART_PIXELS)


def _refuse(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> None:
    if fault := rule.fault(bounds.names):
        raise ValueError(fault)
    grows = bool(rule.grow_px) and rule.takes_polygons(bounds.names)
    needed = needs(rule, polygons=POLYGON in arrays and grows)
    # Without instances the confidence decides alone; who asks for more refuses images without them.
    if lost := [name for name in needed if name not in arrays and name != INSTANCE]:
        raise ValueError(f"the rule ({rule}) needs the array {lost[0]}, which is not kept")
    if rule.best_by == MEAN_CONFIDENCE and bounds.mean_confidence is None:
        raise ValueError(f"the rule ({rule}) needs the mean confidence, which is not recorded")
    shape = arrays[TOP1].shape
    if rule.mask is not None and (MASK not in arrays or arrays[MASK].shape != shape):
        raise ValueError(f"the rule has a mask for images of {rule.mask.height} x {rule.mask.width}, not {list(shape)}")


def _sure(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> U8:
    """[H, W] uint8 the classes that the teacher is sure of, 255 elsewhere."""
    top1 = arrays[TOP1]
    levels = np.full(256, level_of(rule.threshold, bounds.thresholds), np.uint8)
    for name, value in rule.class_thresholds.items():
        levels[bounds.names.index(name)] = UNREACHED if value == OFF else level_of(float(value), bounds.thresholds)
    label = label_at(top1, arrays[CODE], levels.take(top1) if rule.class_thresholds else int(levels[0]))
    if rule.margin:
        np.putmask(label, arrays[MARGIN] < level_of(rule.margin, bounds.margins, "margin"), IGNORE_INDEX)
    if rule.max_disagreement is not None:
        np.putmask(label, arrays[DISAGREEMENT] > rule.max_disagreement, IGNORE_INDEX)
    if INSTANCE in arrays and not (kept := rule.keeps(bounds.instances or ())).all():
        label[~kept[arrays[INSTANCE]]] = IGNORE_INDEX
    return label


def _hide(label: U8, arrays: Mapping[str, Pixels], rule: Rule) -> Table | None:
    """[H, W] bool border and mask, where the label becomes 255; None if the rule has neither."""
    if rule.border_px is None and rule.mask is None:
        return None
    hidden = np.array(arrays[MASK], bool) if rule.mask is not None else np.zeros(label.shape, bool)
    if rule.border_px is not None:
        (height, width), (top, right, bottom, left) = label.shape, rule.border_px
        hidden[:top] = hidden[max(0, height - bottom) :] = True
        hidden[:, :left] = hidden[:, max(0, width - right) :] = True
    np.putmask(label, hidden, IGNORE_INDEX)
    return hidden


def _with_polygons(
    teacher: U8, arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds, hidden: Table | None
) -> tuple[U8, U8 | None]:
    """Label and origin [H, W] after polygons and what was grown from them; no origin if they give no class."""
    label, polygon = teacher, arrays[POLYGON]
    veto, trust, add, seen = (_classes_by(rule, bounds, mode) for mode in (VETO, TRUST, ADD, SEEN))
    if veto.any():
        label = np.where(veto[polygon] & (label != polygon), np.uint8(IGNORE_INDEX), label)
    if not rule.takes_polygons(bounds.names):
        return label, None
    if seen.any():
        trust |= seen & _present(teacher)
    takes = trust[polygon]
    if add.any():
        takes |= add[polygon] & (label == IGNORE_INDEX)
    origin = teacher_alone(label)
    np.putmask(origin, takes, origins.POLYGON)
    label = np.where(takes, polygon, label)
    if rule.grow_px:
        grown = arrays[GROWN]
        fills = (label == IGNORE_INDEX) & (trust | add)[grown] & (arrays[GROWN_PX] <= rule.grow_px)
        if hidden is not None:
            fills &= ~hidden
        np.putmask(label, fills, grown)
        np.putmask(origin, fills, origins.GROWN)
    return label, origin


def _classes_by(rule: Rule, bounds: Bounds, mode: str) -> Table:
    """The classes whose polygons act by a mode."""
    classes = np.zeros(256, bool)
    classes[: bounds.num_classes] = [rule.mode_of(name) == mode for name in bounds.names]
    return classes


def _present(label: U8) -> Table:
    """The classes that a label has somewhere."""
    present = np.zeros(256, bool)
    present[label] = True
    return present


def _is_among_best(label: U8, rule: Rule, bounds: Bounds) -> bool:
    if rule.best_by is None:
        return True
    score = bounds.mean_confidence
    if rule.best_by == KEPT_SHARE:
        score = np.count_nonzero(label != IGNORE_INDEX) / label.size
    assert score is not None  # refused before
    return bool(np.float32(score) >= np.float32(rule.best_from))
