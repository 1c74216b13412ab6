"""One temperature for each predicted class: how much too sure the teacher is of it.

Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599, section 4.2), divide all logits by one T, which
is chosen to make the negative log-likelihood of held-out labels least. Of a stored pixel only the confidence is known.
So this departs from the paper: it is the event "the class is right" whose likelihood is made greatest, with
p' = sigmoid(logit(p) / T). If two classes share the probability, that is the paper's temperature.
"""

import numpy as np

from hmsa_label.pipeline.calibrate.counts import F64, I64

LOWEST, HIGHEST = 0.05, 20.0
NEAREST = 1e-7  # to 0 and 1; a float32 confidence of 1 has no logit
HALVINGS = 60


def fit_temperature(confidence: F64, pixels: I64, right: I64) -> float | None:
    """The temperature of a class; above 1 if it is less often right than its confidence says.

    Args:
        confidence: [B] mean confidence of the pixels of each bin, 0..1. pixels, right: [B] how many, and how many of
            them are right.

    Returns:
        None if no temperature from 0.05 to 20 is best: no pixel, all or none of them right, or right no more often
        than wrong whatever the confidence is.
    """
    logit = _logit(confidence)

    def slope(inverse: float) -> float:
        """Derivative of the negative log-likelihood, which is convex in 1 / T."""
        expected = 1 / (1 + np.exp(-np.clip(inverse * logit, -60, 60)))
        return float((logit * (pixels * expected - right)).sum())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0 or slope(high) <= 0:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


def threshold_before(threshold: float, temperature: float) -> float:
    """The confidence that a temperature turns into a threshold: what a common threshold means for one class."""
    return float(1 / (1 + np.exp(-temperature * _logit(np.float64(threshold)))))


def _logit(probability: F64 | np.float64) -> F64:
    held = np.clip(probability, NEAREST, 1 - NEAREST)
    return np.asarray(np.log(held) - np.log1p(-held))
