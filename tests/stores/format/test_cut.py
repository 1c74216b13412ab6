"""What a rule makes of an image: each field by hand on 4 x 4 pixels, the order of its steps, and against an oracle."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmsa_label.stores.errors import ThresholdNotStored
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import Cut, counts_of, cut, needs, uses
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.rule import MODES, MaskOf, Rule
from tests.stores.format.slow_cut import slow_cut

ROAD, CAR, SKY, _ = 0, 1, 2, 255
NAMES = ("road", "car", "sky")
GRID, MARGINS = (0.3, 0.5, 0.9), (0.1, 0.5)
BOUNDS = Bounds(names=NAMES, thresholds=GRID, margins=MARGINS, mean_confidence=0.7)
MASK = MaskOf("0" * 64, 4, 4)


def grid(*rows: Any) -> Any:
    return np.array(rows, np.uint8)


TOP1 = grid([2, 2, 2, 2], [2, 1, 1, 2], [0, 1, 1, 0], [0, 0, 0, 0])
CODE = grid([3, 3, 2, 0], [2, 3, 1, 3], [3, 2, 0, 3], [1, 3, 3, 2])
# Outside of polygons _; a car, larger than the one that the teacher sees, on a road.
POLYGON = grid([_, _, _, _], [_, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0])
GROWN = grid([2, 2, 1, 1], [1, _, _, _], [_, _, _, _], [_, _, _, _])
GROWN_PX = grid([9, 4, 1, 2], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
EVIDENCE = {"top1": TOP1, "code": CODE}
DRAWN = {**EVIDENCE, "polygon": POLYGON}
AT_90 = grid([2, 2, _, _], [_, 1, _, 2], [0, _, _, 0], [_, 0, 0, _])
AT_50 = grid([2, 2, 2, _], [2, 1, _, 2], [0, 1, _, 0], [_, 0, 0, 0])


def made(rule: Rule, arrays: Any = EVIDENCE, bounds: Bounds = BOUNDS) -> Cut:
    done, slow = cut(arrays, rule, bounds), slow_cut(arrays, rule, bounds)
    np.testing.assert_array_equal(done.label, slow["label"])
    assert (done.origin is None) == (slow["origin"] is None)
    return done


def label(rule: Rule, arrays: Any = EVIDENCE, bounds: Bounds = BOUNDS) -> Any:
    return made(rule, arrays, bounds).label


def same(found: Any, *rows: Any) -> None:
    np.testing.assert_array_equal(found, np.array(rows, np.uint8) if len(rows) > 1 else rows[0])


def test_the_threshold_is_the_least_confidence() -> None:
    same(label(Rule(0.9)), AT_90)
    same(label(Rule(0.5)), AT_50)
    with pytest.raises(ThresholdNotStored, match=r"threshold 0.7 is not among the stored ones: 0.3, 0.5, 0.9"):
        cut(EVIDENCE, Rule(0.7), BOUNDS)


def test_the_threshold_0_keeps_every_pixel_and_void_stays_void() -> None:
    same(label(Rule(0.0)), TOP1)
    void = np.where(TOP1 == CAR, np.uint8(255), TOP1)
    same(label(Rule(0.0), {**EVIDENCE, "top1": void}), void)
    same(label(Rule(0.0), {"top1": TOP1, "code": np.zeros_like(CODE)}, Bounds(names=NAMES)), TOP1)


def test_a_class_has_a_threshold_of_its_own_or_none_of_it_is_kept() -> None:
    same(
        label(Rule(0.9, class_thresholds={"sky": 0.5, "road": "off"})),
        [2, 2, 2, _], [2, 1, _, 2], [_, _, _, _], [_, _, _, _],
    )  # fmt: skip
    same(label(Rule(0.9, class_thresholds={"car": 0.0})), [2, 2, _, _], [_, 1, 1, 2], [0, 1, 1, 0], [_, 0, 0, _])
    with pytest.raises(ThresholdNotStored, match=r"threshold 0.7 is"):
        cut(EVIDENCE, Rule(0.9, class_thresholds={"sky": 0.7}), BOUNDS)
    with pytest.raises(ValueError, match="the rule is about 'tram', which is no class; there are road, car, sky"):
        cut(EVIDENCE, Rule(0.9, class_thresholds={"tram": 0.5}), BOUNDS)


def test_the_margin_is_the_least_difference_to_the_runner_up() -> None:
    margin = grid([2, 1, 2, 2], [2, 0, 2, 1], [1, 1, 1, 2], [2, 2, 0, 0])
    arrays = {**EVIDENCE, "margin": margin}
    same(label(Rule(0.5, margin=0.1), arrays), [2, 2, 2, _], [2, _, _, 2], [0, 1, _, 0], [_, 0, _, _])
    same(label(Rule(0.5, margin=0.5), arrays), [2, _, 2, _], [2, _, _, _], [_, _, _, 0], [_, 0, _, _])
    with pytest.raises(ThresholdNotStored, match=r"margin 0.2 is not among the stored ones: 0.1, 0.5"):
        cut(arrays, Rule(0.5, margin=0.2), BOUNDS)
    with pytest.raises(ValueError, match=r"the rule \(0.5, margin 0.1\) needs the array margin, which is not kept"):
        cut(EVIDENCE, Rule(0.5, margin=0.1), BOUNDS)


def test_pixels_on_which_the_predictions_disagree_are_left_out() -> None:
    arrays = {**EVIDENCE, "disagreement": grid([0, 1, 2, 0], [0, 0, 0, 3], [0, 2, 0, 1], [0, 0, 1, 0])}
    same(label(Rule(0.5, max_disagreement=0), arrays), [2, _, _, _], [2, 1, _, _], [0, _, _, _], [_, 0, _, 0])
    same(label(Rule(0.5, max_disagreement=1), arrays), [2, 2, _, _], [2, 1, _, _], [0, _, _, 0], [_, 0, 0, 0])


def test_pixels_of_weak_instances_are_left_out() -> None:
    arrays = {**EVIDENCE, "instance": np.where(TOP1 == CAR, 1, 0).astype(np.uint16)}
    bounds = replace(BOUNDS, things=(CAR,), instances=(StoredInstance(CAR, 0.4, 0.6, 4, (1, 1, 2, 2)),))
    same(label(Rule(0.5, center_threshold=0.5), arrays, bounds), np.where(TOP1 == CAR, 255, AT_50))
    same(label(Rule(0.5, instance_threshold=0.5), arrays, bounds), AT_50)


def test_the_border_is_named_from_the_top_clockwise() -> None:
    same(label(Rule(0.0, border_px=(1, 0, 0, 0))), [_, _, _, _], [2, 1, 1, 2], [0, 1, 1, 0], [0, 0, 0, 0])
    same(label(Rule(0.0, border_px=(0, 2, 0, 0))), [2, 2, _, _], [2, 1, _, _], [0, 1, _, _], [0, 0, _, _])
    same(label(Rule(0.0, border_px=(0, 0, 3, 0))), [2, 2, 2, 2], [_, _, _, _], [_, _, _, _], [_, _, _, _])
    same(label(Rule(0.0, border_px=(0, 0, 0, 1))), [_, 2, 2, 2], [_, 1, 1, 2], [_, 1, 1, 0], [_, 0, 0, 0])
    same(label(Rule(0.0, border_px=(9, 9, 9, 9))), np.full((4, 4), 255))


def test_nothing_in_the_mask_has_a_label() -> None:
    mask = np.zeros((4, 4), bool)
    mask[3, 1:3] = True
    rule = Rule(0.5, mask=MASK)
    same(label(rule, {**EVIDENCE, "mask": mask}), [2, 2, 2, _], [2, 1, _, 2], [0, 1, _, 0], [_, _, _, 0])
    with pytest.raises(ValueError, match=r"the rule has a mask for images of 4 x 4, not \[4, 3\]"):
        cut({**{name: one[:, :3] for name, one in EVIDENCE.items()}, "mask": mask}, rule, BOUNDS)


def test_polygons_that_are_off_change_nothing_and_are_counted() -> None:
    done = made(Rule(0.9), DRAWN)
    same(done.label, AT_90)
    assert done.origin is None
    assert done.polygons == ((5, 6, 0), (3, 3, 0), (3, 1, 0))
    assert done.facts["coarse_agreement"] == 4 / 6
    assert (done.predicted_px, done.teacher_px) == ((6, 4, 6), None)
    assert made(Rule(0.9)).facts["polygon_px"] is made(Rule(0.9)).facts["coarse_agreement"] is None


def test_trusted_polygons_count_inside_them() -> None:
    done = made(Rule(0.9, polygons="trust"), DRAWN)
    same(done.label, [2, 2, _, _], [_, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0])
    same(done.origin, [1, 1, 0, 0], [0, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2])
    assert (done.class_px, done.teacher_px, done.origin_px) == ((5, 6, 2), (4, 1, 3), (3, 2, 11, 0, 0))
    assert done.polygons == made(Rule(0.9), DRAWN).polygons


def test_added_polygons_fill_only_what_has_no_label() -> None:
    done = made(Rule(0.9, polygons="add"), DRAWN)
    same(done.label, [2, 2, _, _], [_, 1, 1, 2], [0, 1, 1, 0], [0, 0, 0, 0])
    same(done.origin, [1, 1, 0, 0], [0, 1, 2, 1], [1, 2, 2, 1], [2, 1, 1, 2])


def test_vetoes_drop_labels_of_another_class_and_give_none() -> None:
    done = made(Rule(0.9, polygons="veto"), DRAWN)
    same(done.label, [2, 2, _, _], [_, 1, _, _], [0, _, _, _], [_, 0, 0, _])
    assert done.origin is None
    assert done.teacher_px == (4, 1, 3)


def test_seen_polygons_count_only_in_images_where_the_teacher_saw_their_class() -> None:
    rule = Rule(0.9, class_polygons={"car": "seen"})
    done = made(rule, DRAWN)
    same(done.label, [2, 2, _, _], [_, 1, 1, 1], [0, 1, 1, 1], [_, 0, 0, _])
    same(done.origin, [1, 1, 0, 0], [0, 2, 2, 2], [1, 2, 2, 2], [0, 1, 1, 0])
    unseen = made(rule, {**DRAWN, "code": np.where(TOP1 == CAR, 2, CODE).astype(np.uint8)})
    same(unseen.label, np.where(TOP1 == CAR, 255, AT_90))
    assert unseen.origin is not None


def test_each_class_of_polygon_has_its_own_mode() -> None:
    done = made(Rule(0.9, polygons="trust", class_polygons={"car": "veto"}), DRAWN)
    same(done.label, [2, 2, _, _], [_, 1, _, _], [0, _, _, _], [0, 0, 0, 0])
    same(done.origin, [1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 0, 0], [2, 2, 2, 2])


def test_polygons_grow_into_what_is_left_as_far_as_they_may() -> None:
    arrays = {**DRAWN, "grown": GROWN, "grown_px": GROWN_PX}
    done = made(Rule(0.9, polygons="add", grow_px=2), arrays)
    same(done.label, [2, 2, 1, 1], [_, 1, 1, 2], [0, 1, 1, 0], [0, 0, 0, 0])
    same(done.origin, [1, 1, 3, 3], [0, 1, 2, 1], [1, 2, 2, 1], [2, 1, 1, 2])
    same(label(Rule(0.9, polygons="add", grow_px=3), arrays)[1], np.array([1, 1, 1, 2]))
    same(label(Rule(0.9, polygons="add", class_polygons={"car": "off"}, grow_px=16), arrays)[0], np.array([2, 2, _, _]))
    with pytest.raises(ValueError, match="needs the array grown, which is not kept"):
        cut(DRAWN, Rule(0.9, polygons="add", grow_px=1), BOUNDS)


def test_vetoed_polygons_do_not_grow() -> None:
    arrays = {**DRAWN, "grown": GROWN, "grown_px": GROWN_PX}
    same(label(Rule(0.9, polygons="veto", grow_px=16), arrays)[0], AT_90[0])


def test_images_below_the_best_keep_nothing() -> None:
    same(label(Rule(0.9, best_by="mean_confidence", best_from=0.7)), AT_90)
    none = made(Rule(0.9, best_by="mean_confidence", best_from=float(np.nextafter(np.float32(0.7), np.float32(1)))))
    same(none.label, np.full((4, 4), 255))
    assert (none.class_px, none.teacher_px) == ((0, 0, 0), (4, 1, 3))
    stored = replace(BOUNDS, mean_confidence=float(np.float32(0.7)))  # below 0.7 as float64, the same as float32
    same(label(Rule(0.9, best_by="mean_confidence", best_from=0.7), bounds=stored), AT_90)
    same(label(Rule(0.9, best_by="kept_share", best_from=0.5)), AT_90)
    same(label(Rule(0.9, best_by="kept_share", best_from=0.51)), np.full((4, 4), 255))
    with pytest.raises(ValueError, match="needs the mean confidence, which is not recorded"):
        cut(EVIDENCE, Rule(0.9, best_by="mean_confidence"), replace(BOUNDS, mean_confidence=None))


def test_an_image_that_is_none_of_the_best_has_no_origin_anywhere() -> None:
    done = made(Rule(0.9, polygons="trust", best_by="mean_confidence", best_from=0.8), DRAWN)
    assert done.origin is not None
    assert not done.origin.any()
    assert done.origin_px == (16, 0, 0, 0, 0)
    assert done.polygons == made(Rule(0.9), DRAWN).polygons


# The order of the steps.


def test_polygons_count_in_the_border_and_nothing_grows_into_it() -> None:
    rule = Rule(0.9, border_px=(1, 1, 0, 0), polygons="trust", grow_px=16)
    done = made(rule, {**DRAWN, "grown": GROWN, "grown_px": GROWN_PX})
    same(done.label, [_, _, _, _], [1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0])
    same(done.origin, [0, 0, 0, 0], [3, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2])
    assert done.polygons is not None
    assert done.polygons.kept_px == (3, 1, 0)  # as the border is no label of the teacher


def test_a_class_is_seen_by_what_the_threshold_and_the_border_left() -> None:
    rule = Rule(0.9, border_px=(2, 0, 0, 0), class_polygons={"car": "seen"})  # the sure pixel of the car is at (1, 1)
    same(label(rule, DRAWN), [_, _, _, _], [_, _, _, _], [0, _, _, 0], [_, 0, 0, _])


def test_a_veto_does_not_make_a_class_unseen() -> None:
    # The only sure car lies in a polygon of the sky, which vetoes it; cars elsewhere are seen all the same.
    polygon = grid([_, _, _, _], [_, 2, _, _], [_, _, 1, 1], [_, _, _, _])
    rule = Rule(0.9, class_polygons={"car": "seen", "sky": "veto"})
    same(label(rule, {**EVIDENCE, "polygon": polygon}), [2, 2, _, _], [_, _, _, 2], [0, _, 1, 1], [_, 0, 0, _])


def test_the_share_that_is_kept_counts_polygons_and_what_was_grown() -> None:
    best = {"best_by": "kept_share", "best_from": 0.75}
    assert (label(Rule(0.9, **best), DRAWN) == 255).all()
    assert (label(Rule(0.9, polygons="trust", **best), DRAWN) != 255).sum() == 13


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 4), (1, 2**22 + 3)])
def test_every_pixel_is_counted_once(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, size).astype(np.uint8)
    assert counts_of(pixels, 3) == tuple(int((pixels == train_id).sum()) for train_id in range(3))


def test_a_rule_names_the_arrays_that_it_needs() -> None:
    assert needs(Rule(0.9)) == ("top1", "code")
    assert needs(Rule(0.9, 0.5, margin=0.1, max_disagreement=0)) == (
        "top1", "code", "margin", "disagreement", "instance",
    )  # fmt: skip
    grows = Rule(0.9, polygons="add", grow_px=3)
    assert needs(grows) == ("top1", "code")
    assert needs(grows, polygons=True) == ("top1", "code", "polygon", "grown", "grown_px")
    assert uses(Rule(0.9), [*DRAWN, "top2", "grown"]) == ["top1", "code", "polygon"]


SIDE = 6
MAPS = {
    "top1": [0, 1, 2, 255],
    "code": [0, 1, 2, 3],
    "margin": [0, 1, 2],
    "disagreement": [0, 1, 2, 3],
    "polygon": [0, 1, 2, 255],
    "grown": [0, 1, 2, 255],
}
SURE = st.sampled_from([0.0, *GRID])
MODE = st.sampled_from(MODES)
RULES = st.builds(
    Rule,
    SURE,
    class_thresholds=st.dictionaries(st.sampled_from(NAMES), st.one_of(SURE, st.just("off"))),
    margin=st.sampled_from([0.0, *MARGINS]),
    max_disagreement=st.one_of(st.none(), st.integers(0, 2)),
    border_px=st.one_of(st.none(), st.tuples(*[st.integers(0, SIDE + 1)] * 4)),
    mask=st.sampled_from([None, MaskOf("0" * 64, SIDE, SIDE)]),
    polygons=MODE,
    class_polygons=st.dictionaries(st.sampled_from(NAMES), MODE),
    grow_px=st.integers(0, 4),
    best_by=st.sampled_from([None, "mean_confidence", "kept_share"]),
    best_from=st.sampled_from([0.0, 0.2, 0.7, 0.71]),
    center_threshold=st.sampled_from([0.0, 0.5]),
)


def drawn_arrays(seed: int, polygons: bool, panoptic: bool) -> tuple[dict[str, Any], Bounds]:
    """An image of blocks and noise, with everything that a rule can ask for."""
    generator = np.random.default_rng(seed)
    arrays = {name: generator.choice(values, (SIDE, SIDE)).astype(np.uint8) for name, values in MAPS.items()}
    arrays["grown_px"] = np.where(arrays["grown"] == 255, 0, generator.integers(1, 6, (SIDE, SIDE))).astype(np.uint8)
    arrays["mask"] = generator.random((SIDE, SIDE)) < 0.2
    bounds = BOUNDS
    if panoptic:
        arrays["instance"] = np.where(arrays["top1"] == CAR, generator.integers(1, 3, (SIDE, SIDE)), 0).astype(
            np.uint16
        )
        scores = ((0.4, 0.9), (0.6, 0.9))
        bounds = replace(BOUNDS, instances=tuple(StoredInstance(CAR, *one, 1, (0, 0, 1, 1)) for one in scores))
    drawn = {
        name: pixels for name, pixels in arrays.items() if polygons or name not in ("polygon", "grown", "grown_px")
    }
    return drawn, bounds


@settings(max_examples=150, deadline=None)
@given(RULES, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_every_rule_makes_what_the_slow_oracle_makes(rule: Rule, seed: int, polygons: bool, panoptic: bool) -> None:
    arrays, bounds = drawn_arrays(seed, polygons, panoptic)
    before = {name: pixels.copy() for name, pixels in arrays.items()}
    done, slow = cut(arrays, rule, bounds), slow_cut(arrays, rule, bounds)
    np.testing.assert_array_equal(done.label, slow["label"])
    assert (done.origin is None) == (slow["origin"] is None)
    if done.origin is not None:
        np.testing.assert_array_equal(done.origin, slow["origin"])
        assert done.origin_px == tuple(np.bincount(slow["origin"].ravel(), minlength=5))
    assert done.predicted_px == tuple(slow["predicted_px"])
    assert (done.teacher_px or done.class_px) == tuple(slow["teacher_px"])
    for name in ("polygon_px", "polygon_kept_px", "polygon_agree_px"):
        assert done.facts[name] == (tuple(slow[name]) if polygons else None)
    for name, pixels in arrays.items():  # what was cut from stays as it was
        np.testing.assert_array_equal(pixels, before[name])
