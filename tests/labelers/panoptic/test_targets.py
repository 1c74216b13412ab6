"""Targets from panoptic maps: golden ones, crowds, crops, and batches."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.panoptic.targets import make_targets
from tests.labelers.panoptic_golden import CASES, THINGS, golden, golden_tensor

CROWD = 13_000


def golden_map(*, crowd_is_an_instance=False):
    """[1, H, W] int64 panoptic map of the golden targets; id 26 there is a crowd of cars."""
    ids, result = golden_tensor("target.panoptic_id").long(), None
    result = torch.full_like(ids, VOID)
    for segment in CASES["target.segments"]:
        instance = segment["id"] % 1000 + 1 if segment["id"] >= 1000 else 0
        instance = 900 if segment["iscrowd"] and crowd_is_an_instance else instance
        result[ids == segment["id"]] = segment["category_id"] * 1000 + instance
    return result[None]


@pytest.mark.parametrize("name", ["plain", "cityscapes"])
def test_targets_are_the_golden_ones(name):
    case = CASES[f"target.{name}"]
    settings = {"sigma_px": case["sigma"], "small_area_px": case.get("small_instance_area", 0)}
    # the reference draws a center for a crowd, too, and masks it
    targets = make_targets(golden_map(crowd_is_an_instance=True), THINGS, **settings)
    np.testing.assert_allclose(targets.center[0], golden(f"target.{name}.center"), rtol=0, atol=1e-6)
    np.testing.assert_allclose(targets.offset[0], golden(f"target.{name}.offset"), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(targets.semantic[0], golden(f"target.{name}.semantic"))
    np.testing.assert_array_equal(targets.semantic_weight[0], golden(f"target.{name}.semantic_weights"))
    targets = make_targets(golden_map(), THINGS, **settings)
    np.testing.assert_array_equal(targets.center_mask[0], golden(f"target.{name}.center_weights"))
    np.testing.assert_array_equal(targets.offset_mask[0], golden("target.cityscapes.offset_weights"))


def test_crowd_has_its_class_and_neither_center_nor_offset():
    with_crowd, without = golden_map(), golden_map()
    crowd = with_crowd == CROWD
    without[crowd] = VOID
    targets, expected = make_targets(with_crowd, THINGS), make_targets(without, THINGS)
    assert (targets.semantic[crowd] == 13).all()
    assert (targets.semantic_weight[crowd] == 1).all()
    assert not targets.center_mask[crowd].any()
    for name in ("center", "offset", "center_mask", "offset_mask"):
        assert torch.equal(getattr(targets, name), getattr(expected, name)), name


def test_peak_stands_at_the_center_of_mass_and_ends_at_its_square():
    maps = torch.zeros(1, 90, 100, dtype=torch.int64)
    maps[0, 40:51, 60:71] = 11_001
    targets = make_targets(maps, THINGS)
    assert targets.center[0, 0, 45, 65] == 1
    assert targets.center[0, 0, 45, 66] == pytest.approx(np.exp(-1 / 128))
    assert targets.center[0, 0, 45 - 25, 65 + 25] == pytest.approx(np.exp(-2 * 625 / 128))
    assert int((targets.center > 0).sum()) == 51 * 51
    assert targets.offset[0, :, 40, 70].tolist() == [5.0, -5.0]


def test_overlapping_peaks_keep_the_higher_one_and_same_numbers_of_two_classes_are_two_instances():
    maps = torch.zeros(1, 40, 60, dtype=torch.int64)
    maps[0, 10:13, 10:13], maps[0, 10:13, 20:23] = 11_001, 13_001
    center = make_targets(maps, THINGS).center[0, 0]
    assert center[11, 11] == center[11, 21] == 1
    assert center[11, 14] == pytest.approx(np.exp(-9 / 128))


def test_offsets_point_at_the_float_center_of_what_is_inside():
    maps = torch.zeros(1, 8, 8, dtype=torch.int64)
    maps[0, :2, :4] = 13_001
    offset = make_targets(maps, THINGS).offset[0]
    assert offset[:, 0, 0].tolist() == [0.5, 1.5]
    assert not offset[:, 2:].any()


def test_small_instances_weigh_more():
    maps = torch.zeros(1, 80, 80, dtype=torch.int64)
    maps[0, :64, :64], maps[0, 70:75, 70:75] = 13_001, 11_001
    weight = make_targets(maps, THINGS).semantic_weight[0]
    assert (weight[70:75, 70:75] == 3).all()
    assert int((weight == 3).sum()) == 25  # 64 x 64 px is not small


def test_images_of_a_batch_have_the_targets_of_each_alone():
    one = golden_map()
    other = torch.full_like(one, VOID)
    other[0, 30:50, 40:90] = 18_002
    together = make_targets(torch.cat([one, other]), THINGS)
    for i, maps in enumerate((one, other)):
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, make_targets(maps, THINGS), strict=True))


def test_image_without_a_label_has_empty_targets():
    targets = make_targets(torch.full((2, 9, 7), VOID), THINGS)
    assert (targets.semantic == 255).all()
    assert not any(part.any() for part in (targets.center, targets.center_mask, targets.offset, targets.offset_mask))
