"""Centers of instances: the local maxima of a heat map (arXiv 1911.10194, section 3.2)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def find_centers(heatmap: Tensor, threshold: float = 0.1, kernel: int = 7, top_k: int = 200) -> tuple[Tensor, Tensor]:
    """(y, x) of the centers [C, 2] int64 in row-major order, and their scores [C].

    A center is above the threshold and the highest of its window; of equal neighbors each is one. Where there are more
    than `top_k`, the highest stay, of equal ones the first in row-major order.

    Args:
        heatmap: [H, W] float.
        kernel: side of the window in px, odd.
    """
    above = torch.where(heatmap > threshold, heatmap, -torch.inf)[None]
    half = kernel // 2
    rows = F.max_pool2d(above, (1, kernel), 1, (0, half))
    highest = F.max_pool2d(rows, (kernel, 1), 1, (half, 0))
    points = ((above == highest) & (above > threshold))[0].nonzero()
    scores = heatmap[points[:, 0], points[:, 1]]
    if len(points) > top_k:
        kept = scores.argsort(descending=True, stable=True)[:top_k].sort().values
        points, scores = points[kept], scores[kept]
    return points, scores
