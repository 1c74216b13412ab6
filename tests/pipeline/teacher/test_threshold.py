"""Evidence from logits: the torch rule and the NumPy rule of the store are one."""

import numpy as np
import pytest
import torch

from hmsa_label.pipeline.teacher.threshold import evidence_of
from hmsa_label.stores.format.evidence import DEFAULT_GRID, code_of, label_at, level_of

GRID = np.asarray(DEFAULT_GRID, np.float32)


def logits_of(confidence):
    """[1, 2, 1, W] two-class logits whose top probability is about `confidence`."""
    p = torch.as_tensor(confidence, dtype=torch.float64)
    return torch.stack([(p / (1 - p)).log(), torch.zeros_like(p)])[None, :, None].float()


@pytest.mark.parametrize("threshold", DEFAULT_GRID)
def test_label_from_the_code_equals_the_label_from_the_probability(threshold):
    logits = torch.randn(2, 19, 40, 50, generator=torch.Generator().manual_seed(1)) * 4
    highest, top1 = logits.max(1)
    confidence = (1 / (logits - highest[:, None]).exp().sum(1)).numpy()
    top1_stored, code, _ = (part.numpy() for part in evidence_of(logits, GRID))
    expected = np.where(confidence >= np.float32(threshold), top1.numpy(), 255)
    np.testing.assert_array_equal(label_at(top1_stored, code, level_of(threshold, DEFAULT_GRID)), expected)
    np.testing.assert_array_equal(code, code_of(confidence, DEFAULT_GRID))


def test_codes_rise_with_confidence():
    _, code, _ = evidence_of(logits_of([0.5001, 0.56, 0.8999, 0.9001, 0.999]), GRID)
    assert code[0, 0].tolist() == [3, 5, 11, 12, 18]


def test_half_precision_logits_are_compared_in_float32():
    logits = logits_of([0.9001, 0.93]).bfloat16()
    _, code, _ = evidence_of(logits, GRID)
    _, expected, _ = evidence_of(logits.float(), GRID)
    assert torch.equal(code, expected)


def test_nan_reaches_no_threshold():
    _, code, _ = evidence_of(torch.full((1, 3, 2, 2), float("nan")), GRID)
    assert code.max() == 0


def test_confidence_is_the_top_softmax_probability():
    logits = torch.randn(3, 5, 7, 9)
    _, _, mean = evidence_of(logits, GRID)
    torch.testing.assert_close(mean, logits.softmax(1).amax(1).mean((1, 2)))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_confidence_that_equals_a_threshold_reaches_it(num_classes):
    # equal logits: the top probability is 1 / num_classes, in float32 without rounding
    _, code, mean = evidence_of(torch.zeros(1, num_classes, 1, 1), np.array([0.25, 0.5, 0.75], np.float32))
    assert mean.item() == 1 / num_classes
    assert code.item() == {2: 2, 4: 1}[num_classes]
