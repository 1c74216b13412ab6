"""Which classes the guard takes for lost: two shares compared, by hand."""

import numpy as np
import pytest

from hmsa_label.pipeline.label.guard import FEW, KEPT, LOW, Expected, guarded
from hmsa_label.stores.audit.coverage import Coverage
from hmsa_label.stores.format.rule import Rule

NAMES = ("road", "pole", "bus")
MANY = (20, 20, 20)


def found(**counts: tuple[int, ...]) -> Coverage:
    """What is not named is nothing, and in twenty images."""
    images = {"predicted_images": MANY, "polygon_images": MANY}
    given = {**dict.fromkeys(Coverage.__dataclass_fields__, (0, 0, 0)), **images, **counts}
    return Coverage(names=NAMES, **{name: np.array(given[name]) for name in given if name != "names"})


def states(coverage: Coverage, rule: Rule | None = None, **expected: Expected) -> dict[tuple[str, str], str]:
    return {(one.name, one.against): one.state for one in guarded(coverage, rule or Rule(0.9), expected)}


def test_a_class_is_lost_that_labels_hold_half_as_much_of_as_of_all_polygons() -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0)}
    assert states(found(**drawn, polygon_held_px=(81_000, 3_000, 0))) == {
        ("road", "polygons"): KEPT,
        ("pole", "polygons"): LOW,
    }
    assert states(found(**drawn, polygon_held_px=(81_000, 5_000, 0)))["pole", "polygons"] == KEPT


def test_the_two_shares_are_told() -> None:
    pole = guarded(found(polygon_px=(90_000, 10_000, 0), polygon_held_px=(81_000, 3_000, 0)), Rule(0.9))[1]
    assert (pole.share, pole.expected, pole.pixels, pole.images) == (0.3, 0.84, 10_000, 20)


@pytest.mark.parametrize("rare", [{"polygon_px": (90_000, 999, 0)}, {"polygon_images": (20, 7, 0)}])
def test_a_rare_class_is_named_and_not_judged(rare: dict[str, tuple[int, ...]]) -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0), "polygon_held_px": (81_000, 0, 0), **rare}
    assert states(found(**drawn))["pole", "polygons"] == FEW


def test_a_class_that_does_not_occur_is_not_judged() -> None:
    coverage = found(label_px=(900, 0, 0), predicted_px=(9_000, 0, 0), teacher_px=(900, 0, 0), polygon_px=(9_000, 0, 0))
    expected = Expected(kept_share=0.8, fine_share=0.3)
    assert {name for name, _ in states(coverage, road=expected, pole=expected, bus=expected)} == {"road"}


def test_kept_pixels_are_compared_with_those_that_the_calibration_kept() -> None:
    coverage = found(predicted_px=(90_000, 10_000, 5_000), teacher_px=(80_000, 2_000, 1_000))
    expected = {"pole": Expected(kept_share=0.5, fine_share=None), "bus": Expected(kept_share=0.3, fine_share=None)}
    assert states(coverage, **expected) == {("pole", "calibration"): LOW, ("bus", "calibration"): KEPT}


def test_a_share_of_fine_labels_is_asked_of_a_class_that_the_teacher_predicts_as_often() -> None:
    pole = {"pole": Expected(kept_share=None, fine_share=0.1)}
    kept = {"label_px": (90_000, 1_000, 0), "teacher_px": (90_000, 1_000, 0)}
    assert states(found(**kept, predicted_px=(92_000, 8_000, 0)), **pole) == {("pole", "fine labels"): LOW}
    assert states(found(**kept, predicted_px=(97_000, 3_000, 0)), **pole) == {}


def test_a_class_that_is_off_on_purpose_is_left_alone() -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0), "polygon_held_px": (81_000, 0, 0)}
    off = Rule(0.9, class_thresholds={"pole": "off"})
    assert ("pole", "polygons") not in states(found(**drawn), off)
    taken = Rule(0.9, class_thresholds={"pole": "off"}, polygons="trust")  # then its polygons are to be in the labels
    assert states(found(**drawn), taken)["pole", "polygons"] == LOW
