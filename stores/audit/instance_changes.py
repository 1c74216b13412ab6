"""What became of the instances of an image from one label to another, told from their pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.result import Result


@dataclass(frozen=True, kw_only=True)
class InstanceChanges(Result):
    """Instances of one class, from a version `a` to a version `b`.

    Two instances are the same thing if they share more than half of what they cover together, as in panoptic quality.

    Attributes:
        added: without such a partner in `a`. removed: without one in `b`.
        changed: with a partner that has other pixels.
    """

    added: int
    removed: int
    changed: int


Counts = NDArray[np.int64]  # [K, 3], in the order of the fields of InstanceChanges


def changes_of(old: tuple[U8, NDArray[np.uint16]], new: tuple[U8, NDArray[np.uint16]], num_classes: int) -> Counts:
    """[K, 3] int64 instances that were added, removed and changed, by class.

    Args:
        old, new: [H, W] trainIds and instances of the same image, the latter 0 where there is no label.
    """
    counts = np.zeros((num_classes, 3), np.int64)
    either = (old[1] > 0) | (new[1] > 0)
    (label_a, a), (label_b, b) = ((label[either], instance[either].astype(np.int64)) for label, instance in (old, new))
    class_a, class_b = _class_of(label_a, a), _class_of(label_b, b)
    area_a, area_b = np.bincount(a, minlength=len(class_a)), np.bincount(b, minlength=len(class_b))
    both, shared = np.unique(a * len(class_b) + b, return_counts=True)
    first, second = np.divmod(both, len(class_b))
    same = (first > 0) & (second > 0) & (class_a[first] == class_b[second])
    same &= 2 * shared > area_a[first] + area_b[second] - shared
    first, second, shared = first[same], second[same], shared[same]
    lonely_a, lonely_b = area_a > 0, area_b > 0
    lonely_a[first] = lonely_b[second] = False
    lonely_a[0] = lonely_b[0] = False
    moved = (shared < area_a[first]) | (shared < area_b[second])
    for column, classes in enumerate((class_b[lonely_b], class_a[lonely_a], class_b[second[moved]])):
        counts[:, column] = np.bincount(classes, minlength=num_classes)[:num_classes]
    return counts


def _class_of(label: U8, instance: NDArray[np.int64]) -> NDArray[np.int64]:
    """[1 + M] trainId of each instance, from labels [P] that are one class all over it."""
    found = np.zeros(int(instance.max(initial=0)) + 1, np.int64)
    found[instance] = label
    return found
