"""What a rule leaves of each class, counted from rows of a manifest: of what is predicted, and of polygons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmsa_label.stores.format.origin import NAMES, NONE, TEACHER
from hmsa_label.stores.format.rule import ADD, SEEN, TRUST, Rule

COLUMNS = ["class_px", "predicted_px", "teacher_px", "polygon_px", "polygon_kept_px", "polygon_agree_px"]
COLUMNS += ["valid_px", "threshold", "rule"]

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Coverage:
    """Pixels over all images, [K] int64 by trainId.

    Attributes:
        names: of the classes.
        label_px: in the labels, whoever said so.
        predicted_px: what the teacher predicts, before the rule; teacher_px: what the rule keeps of that. Both over
            the images whose rows tell.
        predicted_images: images where the class is predicted.
        polygon_px: inside of polygons; polygon_held_px: of these where the label has the polygon's class. Images that
            keep nothing at all, as they are none of the best, are left out of both.
        polygon_images: images that have polygons of the class.
        polygon_kept_px: inside of polygons where the teacher's label has a class; polygon_agree_px: the same class.
    """

    names: tuple[str, ...]
    label_px: Counts
    predicted_px: Counts
    teacher_px: Counts
    predicted_images: Counts
    polygon_px: Counts
    polygon_held_px: Counts
    polygon_images: Counts
    polygon_kept_px: Counts
    polygon_agree_px: Counts

    @property
    def kept_share(self) -> dict[str, float | None]:
        """Share of the predicted pixels of each class that the rule keeps, 0..1; None where none are predicted."""
        return self._shares(self.teacher_px, self.predicted_px)

    @property
    def polygon_held_share(self) -> dict[str, float | None]:
        """Share of the pixels of the polygons of each class that have it in the label; None where there are none."""
        return self._shares(self.polygon_held_px, self.polygon_px)

    @property
    def polygon_agreement(self) -> dict[str, float | None]:
        """Share of the pixels in the polygons of each class that the teacher's label has a class for, and the same."""
        return self._shares(self.polygon_agree_px, self.polygon_kept_px)

    def _shares(self, some: Counts, of: Counts) -> dict[str, float | None]:
        pairs = zip(self.names, some.tolist(), of.tolist(), strict=True)
        return {name: part / whole if whole else None for name, part, whole in pairs}


def coverage(rows: pa.Table, names: Sequence[str]) -> Coverage:
    """Counts of the rows of a version; `rows` has `COLUMNS`."""
    label, _ = _counts(rows, "class_px", len(names))
    predicted, predicted_told = _counts(rows, "predicted_px", len(names))
    own, changed = _counts(rows, "teacher_px", len(names))
    teacher = np.where(changed[:, None], own, label)[predicted_told]
    drawn, drawn_kept, agree = (_counts(rows, f"polygon_{what}px", len(names))[0] for what in ("", "kept_", "agree_"))
    held = _held(rows, names, label, (drawn, drawn_kept, agree))
    kept = rows["valid_px"].to_numpy() > 0
    return Coverage(
        names=tuple(names),
        label_px=label.sum(0),
        predicted_px=predicted.sum(0),
        teacher_px=teacher.sum(0),
        predicted_images=(predicted > 0).sum(0),
        polygon_px=drawn[kept].sum(0),
        polygon_held_px=held[kept].sum(0),
        polygon_images=(drawn[kept] > 0).sum(0),
        polygon_kept_px=drawn_kept.sum(0),
        polygon_agree_px=agree.sum(0),
    )


def _held(rows: pa.Table, names: Sequence[str], label: Counts, polygons: tuple[Counts, Counts, Counts]) -> Counts:
    """[N, K] pixels of polygons that have the polygon's class in the label, by what the rule lets polygons do."""
    drawn, kept, agree = polygons
    held = agree.copy()
    rules = list(zip(rows["threshold"].to_pylist(), rows["rule"].to_pylist(), strict=True))
    for own in set(rules):
        rule, chosen = Rule.parse(*own), np.array([one == own for one in rules])[:, None]
        modes = np.array([rule.mode_of(name) for name in names])
        filled = {TRUST: drawn, ADD: agree + drawn - kept, SEEN: np.where(label > agree, drawn, agree)}
        for mode, pixels in filled.items():
            np.copyto(held, pixels, where=chosen & (modes == mode))
    return held


def _counts(rows: pa.Table, column: str, num_classes: int) -> tuple[Counts, NDArray[np.bool_]]:
    """([N, K] int64 counts, 0 in rows that do not tell; [N] bool whether they do)."""
    told = np.asarray(pc.is_valid(rows[column]), bool)
    counts = np.zeros((rows.num_rows, num_classes), np.int64)
    counts[told] = np.asarray(pc.list_flatten(rows[column]), np.int64).reshape(-1, num_classes)
    return counts, told


def origin_shares(rows: pa.Table) -> dict[str, float]:
    """Share of the labeled pixels that each origin has, by its name; `rows` has `origin_px` and `valid_px`."""
    told, valid = np.asarray(pc.is_valid(rows["origin_px"]), bool), rows["valid_px"].to_numpy()
    counts = np.asarray(pc.list_flatten(rows["origin_px"]), np.int64).reshape(-1, len(NAMES)).sum(0)
    counts[TEACHER] += int(valid[~told].sum())
    counts[NONE] = 0
    return dict(zip(NAMES[1:], shares(counts)[1:], strict=True))


def shares(counts: Counts) -> list[Any]:
    """Each count as a share of all, 0..1; 0 where there are none."""
    return (counts / max(int(counts.sum()), 1)).tolist()
