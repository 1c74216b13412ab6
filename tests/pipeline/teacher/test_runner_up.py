"""The runner-up and the margin: worked by hand, the same in NumPy and torch, and refused where nobody can tell them."""

import math

import numpy as np
import pytest
import torch

from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.pipeline.teacher.threshold import (
    code_of_confidence,
    top_class_of,
    two_best_of_logits,
    two_best_of_probabilities,
)
from hmsa_label.stores.format.evidence import code_of
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake

MARGINS = np.array([0.01, 0.1, 0.25, 0.5, 0.9], np.float32)
NONE = 255


def pixel(*values):
    """[1, K, 1, 1] of one pixel."""
    return torch.tensor(values, dtype=torch.float32)[None, :, None, None]


def best(found):
    return tuple(values.item() for values in found)


def test_best_two_of_probabilities_worked_by_hand():
    assert best(two_best_of_probabilities(pixel(0.125, 0.625, 0.25))) == (1, 0.625, 2, 0.375)
    assert best(two_best_of_probabilities(pixel(0.0, 1.0, 0.0))) == (1, 1.0, NONE, 1.0)


def test_best_two_of_logits_worked_by_hand():
    # shares 1 : 2 : 1
    top1, confidence, top2, margin = best(two_best_of_logits(pixel(0.0, math.log(2), 0.0)))
    assert (top1, top2) == (1, 0)
    assert (confidence, margin) == pytest.approx((0.5, 0.25), abs=1e-6)


@pytest.mark.parametrize("two_best", [two_best_of_logits, two_best_of_probabilities])
def test_of_equal_classes_the_lowest_comes_first_and_nothing_lies_between(two_best):
    assert best(two_best(pixel(0.25, 0.25, 0.25, 0.25))) == (0, 0.25, 1, 0.0)
    # equal ones that are not the first
    top1, _, top2, margin = best(two_best(pixel(0.2, 0.4, 0.4)))
    assert (top1, top2, margin) == (1, 2, 0.0)


def test_a_single_class_has_no_runner_up():
    assert best(two_best_of_logits(pixel(3.0))) == (0, 1.0, NONE, 1.0)
    assert best(two_best_of_probabilities(pixel(1.0))) == (0, 1.0, NONE, 1.0)


def test_classes_that_are_ruled_out_are_no_runner_up():
    assert best(two_best_of_logits(pixel(-math.inf, 2.0, -math.inf))) == (1, 1.0, NONE, 1.0)


def test_nan_has_no_runner_up_and_reaches_no_margin():
    for logits in (pixel(math.nan, 1.0, 2.0), pixel(math.nan)):
        found = two_best_of_logits(logits)
        assert found.top2.item() == NONE
        assert code_of_confidence(found.margin, MARGINS).item() == 0


def test_arg_max_and_confidence_have_the_bits_they_have_without_a_runner_up():
    logits = torch.randn(2, 19, 40, 50, generator=torch.Generator().manual_seed(1)) * 4
    before = logits.clone()
    found, (top1, confidence) = two_best_of_logits(logits), top_class_of(logits)
    assert torch.equal(found.top1, top1)
    assert torch.equal(found.confidence, confidence)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("kind", ["logits", "probabilities", "bfloat16"])
def test_numpy_makes_the_same_margin_and_code_of_the_same_two_probabilities(kind):
    logits = torch.randn(2, 19, 40, 50, generator=torch.Generator().manual_seed(2)) * 4
    probabilities = logits.softmax(1)
    if kind == "logits":
        found = two_best_of_logits(logits)
        # what torch computes of each class, to the bit: the share over the sum of all
        shares = (logits - logits.amax(1, keepdim=True)).exp()
        ranked = np.sort((shares / shares.sum(1, keepdim=True)).numpy(), axis=1)
    else:
        given = probabilities.bfloat16() if kind == "bfloat16" else probabilities
        found = two_best_of_probabilities(given)
        ranked = np.sort(given.float().numpy(), axis=1)
    margin = ranked[:, -1] - ranked[:, -2]
    assert margin.dtype == np.float32
    np.testing.assert_array_equal(found.confidence.numpy(), ranked[:, -1])
    np.testing.assert_array_equal(found.margin.numpy(), margin)
    np.testing.assert_array_equal(code_of_confidence(found.margin, MARGINS).numpy(), code_of(margin, MARGINS))


def test_runner_up_is_the_second_of_the_sorted_classes():
    logits = torch.randn(1, 19, 30, 30, generator=torch.Generator().manual_seed(3))
    order = logits.argsort(1, descending=True)
    found = two_best_of_logits(logits)
    assert torch.equal(found.top1, order[:, 0])
    assert torch.equal(found.top2, order[:, 1])


def test_teacher_gives_both_beside_the_same_labels(weights):
    teacher = Teacher(TeacherConfig(weights=weights, device="cpu", options={"scales": (0.5, 1.0)}))
    images = list(np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8))
    grid, rule = np.array([0.06, 0.08, 0.1], np.float32), Rule(0.08)
    plain = teacher.label(images, grid, rule, True)
    margins = np.array([0.001, 0.005, 0.02], np.float32)
    probabilities = teacher.probabilities(torch.from_numpy(np.stack(images))).sort(1, descending=True)
    for index, one in enumerate(teacher.label(images, grid, rule, True, margins=margins)):
        assert set(one.arrays) == {"label", "top1", "code", "top2", "margin"}
        for name in ("label", "top1", "code"):
            np.testing.assert_array_equal(one.arrays[name], plain[index].arrays[name])
        assert one.mean_confidence == plain[index].mean_confidence
        assert (one.arrays["top2"] == probabilities.indices[index, 1].numpy()).mean() > 0.999
        difference = (probabilities.values[index, 0] - probabilities.values[index, 1]).numpy()
        assert (one.arrays["margin"] == code_of(difference, margins)).mean() > 0.999
        assert len(np.unique(one.arrays["margin"])) > 1


@pytest.mark.parametrize(("instances", "gives"), [(False, "top1"), (True, "panoptic")])
def test_teacher_that_keeps_the_other_classes_to_itself_is_refused_in_one_line(instances, gives):
    teacher = Teacher(fake(instances=instances, nan="all"))  # anything but the refusal would be of NaN
    with pytest.raises(ValueError, match=rf"the teacher tests.fake_teacher:FakeTeacher gives {gives}, .* leave top2"):
        teacher.label([np.zeros((8, 8, 3), np.uint8)], MARGINS, Rule(0.5), True, margins=MARGINS)
