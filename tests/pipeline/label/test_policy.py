"""Rules of the whole set: which numbers come of a share of the pixels of each class, or of the images."""

import numpy as np
import pytest

from hmsa_label.pipeline.label.policy import balanced_thresholds, first_rule, least_of_best
from hmsa_label.stores.format.rule import Rule

GRID = (0.5, 0.7, 0.9, 0.99)
# Pixels by how many thresholds they reach: 0, 1, 2, 3, 4.
COUNTS = np.array([
    [10, 20, 30, 30, 10],  # reached at least: 100, 90, 70, 40, 10
    [80, 10, 10, 0, 0],
    [0, 0, 0, 0, 100],
    [0, 0, 0, 0, 0],
])  # fmt: skip


def test_a_class_gets_the_highest_threshold_that_still_keeps_its_share() -> None:
    assert balanced_thresholds(COUNTS, GRID, 0.5, 0.99) == [0.7, 0.0, 0.99, None]
    assert balanced_thresholds(COUNTS, GRID, 0.7, 0.99) == [0.7, 0.0, 0.99, None]
    assert balanced_thresholds(COUNTS, GRID, 0.71, 0.99) == [0.5, 0.0, 0.99, None]
    assert balanced_thresholds(COUNTS, GRID, 0.2, 0.99) == [0.9, 0.5, 0.99, None]
    assert balanced_thresholds(COUNTS, GRID, 1.0, 0.99) == [0.0, 0.0, 0.99, None]


def test_no_threshold_of_a_share_is_above_the_cap() -> None:
    assert balanced_thresholds(COUNTS, GRID, 0.2, 0.9) == [0.9, 0.5, 0.9, None]
    assert balanced_thresholds(COUNTS, GRID, 0.2, 0.8) == [0.7, 0.5, 0.7, None]


def test_a_share_is_the_decimal_number_that_was_written() -> None:
    """7 of 100 pixels are 0.07 of them, although 0.07 * 100 is above 7 in binary fractions."""
    assert balanced_thresholds(np.array([[93, 7]]), (0.9,), 0.07, 0.9) == [0.9]


def test_the_best_share_of_images_is_at_least_one_image_and_takes_equals_along() -> None:
    scores = [0.9, 0.5, 0.7, 0.7, 0.1]
    assert least_of_best(scores, 0.01) == 0.9
    assert least_of_best(scores, 0.2) == 0.9
    assert least_of_best(scores, 0.4) == least_of_best(scores, 0.6) == 0.7
    assert least_of_best(scores, 1.0) == 0.1


def test_only_shares_need_the_whole_set() -> None:
    assert Rule(0.9, class_share=0.5).of_whole_set
    assert Rule(0.9, best_share=0.5, best_by="kept_share").of_whole_set
    assert not Rule(0.9, class_thresholds={"road": 0.5}, best_by="kept_share", best_from=0.3).of_whole_set


def test_a_run_labels_at_the_cap_until_all_images_are_predicted() -> None:
    asked = Rule(0.9, class_share=0.5, share_cap=0.8, margin=0.1, best_share=0.3, best_by="mean_confidence")
    assert first_rule(asked, None) == Rule(0.8, margin=0.1)
    assert first_rule(asked, Rule(0.5)) == Rule(0.8, margin=0.1)


def test_new_images_are_labeled_by_the_settled_rule_of_those_that_are_there() -> None:
    asked = Rule(0.9, class_share=0.5, share_cap=0.9)
    settled = Rule(0.9, class_share=0.5, share_cap=0.9, class_thresholds={"pole": 0.4})
    assert first_rule(asked, settled) == settled
    other = Rule(0.9, class_share=0.4, share_cap=0.9, class_thresholds={"pole": 0.5})
    assert first_rule(asked, other) == Rule(0.9)


@pytest.mark.parametrize("cap", [None, 0.9])
def test_a_cap_that_is_not_given_is_the_default_one(cap: float | None) -> None:
    assert first_rule(Rule(0.5, class_share=0.5, share_cap=cap), None) == Rule(0.9)
