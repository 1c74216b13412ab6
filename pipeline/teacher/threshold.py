"""Logits -> hard labels and evidence: the arg-max, and how many stored thresholds its confidence reaches.

The confidence is cast to float32 before any comparison, on every device: in half precision 0.9 compares as another
number. The label is derived from the code that is stored, so that a later threshold gives exactly the same pixels.

The margin is the difference of two probabilities that were rounded to float32 first. A subtraction rounds once, in the
same way everywhere, so NumPy gets the same margin from the same two probabilities, and the same code.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers.taxonomy import IGNORE_INDEX


def evidence_of(logits: Tensor, grid: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
    """(top1, code, mean confidence) of fused logits.

    Args:
        logits: [N, K, H, W] float.
        grid: [T] float32 stored thresholds, ascending.

    Returns:
        top1 [N, H, W] uint8 arg-max trainId; code [N, H, W] uint8, the number of thresholds t with
        float32(confidence) >= float32(t), 0 for NaN; mean top softmax probability of each image [N] float32.
    """
    top1, confidence = top_class_of(logits)
    return top1.to(torch.uint8), code_of_confidence(confidence, grid), confidence.mean(dim=(1, 2))


def top_class_of(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(arg-max trainIds [N, H, W] int64, their softmax probabilities [N, H, W] float32) of logits [N, K, H, W]."""
    logits = logits.float()
    highest, top1 = logits.max(dim=1)
    return top1, 1 / (logits - highest.unsqueeze(1)).exp_().sum(dim=1)


class TwoBest(NamedTuple):
    """The best two classes of every pixel.

    Attributes:
        top1: [N, H, W] int64 arg-max trainIds; of equal classes the lowest.
        confidence: [N, H, W] float32, the probability of top1.
        top2: [N, H, W] int64, the highest of the other classes; 255 where none of them has a probability above 0.
        margin: [N, H, W] float32, the probability of top1 minus that of top2; NaN where the confidence is.
    """

    top1: Tensor
    confidence: Tensor
    top2: Tensor
    margin: Tensor


def two_best_of_logits(logits: Tensor) -> TwoBest:
    """The best two classes of logits [N, K, H, W]; top1 and confidence have the bits of `top_class_of`."""
    logits = logits.float()
    highest, top1 = logits.max(dim=1)
    shares = (logits - highest.unsqueeze(1)).exp_()
    total = shares.sum(dim=1)
    return _with_runner_up(top1, 1 / total, shares.scatter_(1, top1.unsqueeze(1), 0), total)


def two_best_of_probabilities(probabilities: Tensor) -> TwoBest:
    """The best two classes of probabilities [N, K, H, W]."""
    probabilities = probabilities.float()
    confidence, top1 = probabilities.max(dim=1)
    return _with_runner_up(top1, confidence, probabilities.scatter(1, top1.unsqueeze(1), 0))


def _with_runner_up(top1: Tensor, confidence: Tensor, others: Tensor, total: Tensor | None = None) -> TwoBest:
    """`others` are the shares of all classes with that of top1 at 0; `total` is what they are divided by."""
    second, top2 = others.max(dim=1)
    if total is not None:
        second = second / total
    return TwoBest(top1, confidence, top2.masked_fill_(~(second > 0), IGNORE_INDEX), confidence - second)


def code_of_confidence(confidence: Tensor, grid: NDArray[np.float32]) -> Tensor:
    """[N, H, W] uint8 number of the thresholds [T] that a float32 confidence or margin reaches; 0 for NaN."""
    code = torch.zeros_like(confidence, dtype=torch.uint8)
    for threshold in torch.from_numpy(np.asarray(grid, np.float32)).to(confidence.device):
        code += confidence >= threshold
    return code
