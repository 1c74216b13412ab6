"""Rules: what they keep, how they are written down, and what is refused."""

import numpy as np
import pytest

from hmsa_label.stores.errors import LabelCorrupt, ThresholdNotStored
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.rule import Rule

GRID = (0.5, 0.9)
TOP1 = np.array([[3, 1, 1, 2, 2, 4]], np.uint8)
CODE = np.array([[2, 2, 1, 2, 2, 0]], np.uint8)
INSTANCE = np.array([[0, 1, 1, 2, 2, 3]], np.uint16)
INSTANCES = (
    StoredInstance(1, 0.3, 0.8, 2, (1, 0, 2, 1)),
    StoredInstance(2, 0.7, 0.6, 2, (3, 0, 2, 1)),
    StoredInstance(4, 1.0, 1.0, 1, (5, 0, 1, 1)),
)
BOUNDS = Bounds(names=("road", "car", "person", "sky", "bus"), thresholds=GRID, instances=INSTANCES)


def label(**rule: float) -> list[int]:
    arrays = {"top1": TOP1, "code": CODE, "instance": INSTANCE}
    return list(cut(arrays, Rule(rule.pop("threshold", 0.5), **rule), BOUNDS).label[0])


def test_a_pixel_is_kept_if_its_confidence_its_center_and_its_instance_are() -> None:
    assert label() == [3, 1, 1, 2, 2, 255]
    assert label(threshold=0.9) == [3, 1, 255, 2, 2, 255]
    assert label(center_threshold=0.5) == [3, 255, 255, 2, 2, 255]
    assert label(instance_threshold=0.7) == [3, 1, 1, 255, 255, 255]
    assert label(threshold=0.9, center_threshold=0.2, instance_threshold=0.7) == [3, 1, 255, 255, 255, 255]


def test_scores_are_compared_as_float32() -> None:
    # As float64 the stored score is below 0.7, as float32 it is the same number.
    just = (StoredInstance(1, float(np.float32(0.7)), 1.0, 2, (1, 0, 2, 1)),)
    assert float(np.float32(0.7)) < 0.7
    assert Rule(0.5, center_threshold=0.7).keeps(just).tolist() == [True, True]
    assert Rule(0.5, center_threshold=float(np.nextafter(np.float32(0.7), 1))).keeps(just).tolist() == [True, False]


def test_without_instances_the_threshold_decides_alone() -> None:
    rule = Rule(0.5, center_threshold=1.0)
    alone = {"top1": TOP1, "code": CODE}
    np.testing.assert_array_equal(cut(alone, rule, BOUNDS).label, [[3, 1, 1, 2, 2, 255]])
    with pytest.raises(ThresholdNotStored):
        cut(alone, Rule(0.7), BOUNDS)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(0.9), None),
        (Rule(0.9, 0.25), '{"center_threshold":0.25}'),
        (Rule(0.9, 0.25, 0.5), '{"center_threshold":0.25,"instance_threshold":0.5}'),
    ],
)
def test_what_is_at_its_default_is_not_written(rule: Rule, text: str | None) -> None:
    assert rule.text == text
    assert Rule.parse(0.9, text) == rule
    assert Rule.from_settings({**rule.settings, "model": "x"}) == rule
    assert ("rule" in rule.settings) == (text is not None)


def test_a_rule_is_spelled_for_people() -> None:
    assert str(Rule(0.9)) == "0.9"
    assert str(Rule(0.9, 0.3, 0.5)) == "0.9, center threshold 0.3, instance threshold 0.5"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"center_threshold":2}', "center_threshold must be a number from 0 to 1; it is 2"),
        ('{"center_threshold":"x"}', "center_threshold must be a number from 0 to 1"),
        ('{"blur":0.2}', "by a rule with 'blur', which this hmsa-label does not know"),
        ("[0.5]", "must be an object with fields"),
        ("{", "does not read"),
        ('{"center_threshold":NaN}', "does not read"),
    ],
)
def test_a_rule_that_is_none_is_refused(text: str, fault: str) -> None:
    with pytest.raises(LabelCorrupt, match=fault):
        Rule.parse(0.9, text)
