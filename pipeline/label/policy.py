"""Rules that look at the whole set of images: what the best share of each class, or of the images, comes to in numbers.

Class-balanced thresholds are those of CBST (arXiv 1810.07911, section 4): of each predicted class the most confident
share of its pixels is kept, so that a class which the teacher is never sure of is not lost. What differs:

- Confidences are known by the stored thresholds that they reach. The threshold of a class is the highest stored one
  that still keeps the share, and 0 if none does. So at least the share is kept, with as little on top as the grid
  allows.
- No threshold is above `share_cap`, as in bidirectional learning (arXiv 1904.10620): a class that the teacher is sure
  of keeps more than its share.
- A pixel keeps the class that the teacher finds most probable. The paper weighs classes by their thresholds, and may
  take another one.
- The share is that of one round; the paper raises it from round to round of self-training.

All is counted in whole pixels over all images of a version, so neither their order nor the number of threads changes a
threshold. Every predicted pixel counts, also where a border, a mask, a margin or a polygon decides later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.rules import SHARE_CAP
from hmsa_label.stores.format.layout import IGNORE_INDEX
from hmsa_label.stores.format.rule import MEAN_CONFIDENCE, Rule
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import recut

THREADS = 4

Counts = NDArray[np.int64]


def first_rule(asked: Rule, there: Rule | None) -> Rule:
    """The rule that a run labels by before all images are predicted.

    Args:
        there: that of the store's labels. If it is the asked one, settled, then new images join them by it.
    """
    if there is not None and unsettled(there) == unsettled(asked):
        return there
    rule = replace(unsettled(asked), class_share=None, share_cap=None, best_share=None)
    return rule if asked.best_share is None else replace(rule, best_by=None)


def settle(rule: Rule, store: LabelStore, *, threads: int = THREADS) -> Rule:
    """The rule with the thresholds of its classes, and the least score of its images, for the images of a version.

    A rule that does not look at the whole set comes back as it is.

    Raises:
        ValueError: images keep no confidence, or have no mean confidence, that the rule goes by.
        LabelCorrupt, LabelMissing: evidence is damaged or gone.
    """
    settled = unsettled(rule)
    if not len(store):
        return settled
    if settled.class_share is not None and settled.share_cap is not None:
        thresholds = _common_thresholds(store)
        counts = count_levels(store, thresholds, threads=threads)
        chosen = balanced_thresholds(counts, thresholds, settled.class_share, settled.share_cap)
        named = zip(store.classes["names"], chosen, strict=True)
        own = {name: value for name, value in named if value is not None and value != settled.threshold}
        settled = replace(settled, class_thresholds=own)
    if settled.best_share is not None:
        settled = replace(settled, best_from=least_of_best(_scores(settled, store, threads), settled.best_share))
    return settled


def count_levels(store: LabelStore, thresholds: Sequence[float], *, threads: int = THREADS) -> Counts:
    """[K, T + 1] pixels of each predicted class, over all images, by how many of T thresholds they reach.

    Args:
        thresholds: ascending, stored with every image; other stored ones are passed over.
    """
    width, num_classes = len(thresholds) + 1, len(store.classes["names"])

    def count(key: str) -> Counts:
        top1, code, grid = store.read_evidence(key)
        reached = np.searchsorted(np.asarray(thresholds, np.float32), np.asarray(grid, np.float32), side="right")
        place = np.r_[0, reached].astype(np.int64)[code] + width * top1.astype(np.int64)
        return np.bincount(place[top1 < num_classes], minlength=width * num_classes)

    total = np.zeros(width * num_classes, np.int64)
    for counts in map_threads(count, store.keys(), threads):
        total += counts
    return total.reshape(num_classes, width)


def balanced_thresholds(counts: Counts, thresholds: Sequence[float], share: float, cap: float) -> list[float | None]:
    """For each class the highest threshold, at most `cap`, that keeps at least a share of its predicted pixels.

    Args:
        counts: [K, T + 1], see `count_levels`. thresholds: [T] ascending.

    Returns:
        0 where no threshold keeps as many; None for a class that is predicted nowhere.
    """
    levels = [0.0, *(value for value in thresholds if np.float32(value) <= np.float32(cap))]
    kept = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    wanted = Fraction(str(share))
    chosen = []
    for row in kept.tolist():
        enough = [level for level, pixels in zip(levels, row, strict=False) if pixels >= wanted * row[0]]
        chosen.append(enough[-1] if row[0] else None)
    return chosen


def least_of_best(scores: Iterable[float], share: float) -> float:
    """The least score among the best share of images; as many more as have the same score are among them."""
    ordered = sorted(scores, reverse=True)
    return ordered[max(1, ceil(Fraction(str(share)) * len(ordered))) - 1]


def _common_thresholds(store: LabelStore) -> tuple[float, ...]:
    if thresholds := store.thresholds:
        return thresholds
    raise ValueError(
        f"a share of the pixels of each class goes by their confidence, and not all of the {len(store)} images of "
        f"{store.uri} keep it; label them again with --evidence confidence --relabel"
    )


def _scores(rule: Rule, store: LabelStore, threads: int) -> list[float]:
    """What the images of a version are put in order by, in the order of their keys."""
    if rule.best_by == MEAN_CONFIDENCE:
        rows = store.table(["key", "mean_confidence"])
        scores: list[float | None] = rows["mean_confidence"].to_pylist()
        if None in scores:
            key = rows["key"][scores.index(None)].as_py()
            raise ValueError(f"{key} of {store.uri} has no mean confidence; choose the best images by their kept_share")
        return [score for score in scores if score is not None]
    return list(map_threads(lambda key: _kept_share(rule, store, key), store.keys(), threads))


def _kept_share(rule: Rule, store: LabelStore, key: str) -> float:
    """Share of an image that the rule keeps while it keeps every image, 0..1."""
    label = recut(store, key, rule).label
    return float(np.count_nonzero(label != IGNORE_INDEX) / label.size)


def unsettled(rule: Rule) -> Rule:
    """The rule without what follows from the images."""
    if rule.class_share is not None:
        cap = SHARE_CAP if rule.share_cap is None else rule.share_cap
        rule = replace(rule, threshold=cap, class_thresholds={}, share_cap=cap)
    return rule if rule.best_share is None else replace(rule, best_from=0.0)
