"""Logits -> hard labels and evidence: the arg-max, and how many stored thresholds its confidence reaches.

The confidence is cast to float32 before any comparison, on every device: in half precision 0.9 compares as another
number. The label is derived from the code that is stored, so that a later threshold gives exactly the same pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


def code_of_confidence(confidence: Tensor, grid: NDArray[np.float32]) -> Tensor:
    """[N, H, W] uint8 number of the thresholds [T] that a float32 confidence reaches; 0 for NaN."""
    code = torch.zeros_like(confidence, dtype=torch.uint8)
    for threshold in torch.from_numpy(np.asarray(grid, np.float32)).to(confidence.device):
        code += confidence >= threshold
    return code
