"""Segmentation losses with ignored pixels.

Region mutual information: arXiv 1910.12037, with the constants of the published HMSA training.

A step may be made in several passes and by several processes. Each part divides by what the whole step holds
(`StepTotal`), so that the parts add up to the loss of one pass over all crops. Sums over pixels are divided by the
labeled pixels of the step: cross-entropy, weighted or not, and sigmoid cross-entropy, whether of the main, the
auxiliary or the single-scale terms. Sums over images are divided by its images: region mutual information. The released
code divides by the pixels of each GPU, so that a crop on a GPU of its own counts as much as any other one.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hmsa_label.labelers.hmsa.net import ScalePrediction, TwoScalePrediction
from hmsa_label.labelers.training import StepTotal

RMI_RADIUS_PX = 3
RMI_POOL_PX = 4
RMI_WEIGHT = 0.5
_PROBABILITY_FLOOR = 1e-6
_COVARIANCE_FLOOR = 5e-4


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    weights: Tensor | None = None,
    step: StepTotal | None = None,
) -> Tensor:
    """Softmax cross-entropy, mean over labeled pixels; 0 when every pixel is ignored.

    Args:
        logits: [N, K, H, W] float.
        labels: [N, H, W] int64, 0..K-1 or `ignore_index`.
        weights: [N, H, W] float, factor of each pixel's term; the mean is still over the number of labeled pixels.
        step: the sum is divided by its labeled pixels instead of these ones'.
    """
    labeled = (labels != ignore_index).sum().clamp(min=1) if step is None else max(1, step.labeled_px)
    reduction = "sum" if weights is None else "none"
    loss = F.cross_entropy(logits.float(), labels, ignore_index=ignore_index, reduction=reduction)
    total = loss if weights is None else (loss * weights).sum()
    return total / labeled


def sigmoid_bce(logits: Tensor, labels: Tensor, step: StepTotal | None = None) -> Tensor:
    """Per-class sigmoid cross-entropy, summed over classes, mean over labeled pixels (+1 in the denominator).

    A pixel's sum over classes is softplus of every logit less the logit of its own class; no one-hot map is made.

    Args:
        logits: [N, K, H, W] float.
        labels: [N, H, W] int64; any value >= K is ignored.
        step: the sum is divided by its labeled pixels instead of these ones'.
    """
    logits = logits.float()
    mask = labels < logits.shape[1]
    own = logits.gather(1, torch.where(mask, labels, 0).unsqueeze(1)).squeeze(1)
    loss = F.softplus(logits).sum(dim=1) - own
    labeled = mask.sum() if step is None else step.labeled_px
    return (loss * mask).sum() / (labeled + 1)


def _neighborhoods(maps: Tensor) -> Tensor:
    """[N, K, 9, L] float64 vectors of all 3x3 neighborhoods of [N, K, h, w], their mean over L removed."""
    n, k = maps.shape[:2]
    vectors = F.unfold(maps.flatten(0, 1).unsqueeze(1), RMI_RADIUS_PX).double()
    vectors = vectors.unflatten(0, (n, k))
    return vectors - vectors.mean(dim=3, keepdim=True)


def region_mutual_information(logits: Tensor, labels: Tensor, step: StepTotal | None = None) -> Tensor:
    """Negative lower bound of the mutual information between label and prediction neighborhoods (equation 16).

    Summed over classes, mean over images, in float64 whatever the autocast state. Negative values are normal. An image
    counts as much as any other, however many of its pixels are labeled: a covariance is not a sum over pixels.

    Args:
        logits: [N, K, H, W] float.
        labels: [N, H, W] int64; any value >= K is ignored.
        step: the sum over images is divided by its images instead of N.
    """
    num_classes, share = logits.shape[1], 1.0 if step is None else len(logits) / step.images
    mask = labels < num_classes
    # A class without a pixel has no covariance with anything: its value is a constant, its gradient zero.
    present = labels[mask].unique()
    absent = math.log(_COVARIANCE_FLOOR**0.5 + 1e-8) * (num_classes - len(present))
    if not len(present):
        return logits.sum() * 0.0 + absent * share
    with torch.autocast(logits.device.type, enabled=False):
        one_hot = (labels.unsqueeze(1) == present.view(1, -1, 1, 1)).float()
        probabilities = logits.float()[:, present].sigmoid() * mask.unsqueeze(1) + _PROBABILITY_FLOOR
        labels_v, predicted_v = (
            _neighborhoods(F.avg_pool2d(maps, RMI_POOL_PX, RMI_POOL_PX, padding=RMI_POOL_PX // 2))
            for maps in (one_hot, probabilities)
        )
        floor = _COVARIANCE_FLOOR * torch.eye(RMI_RADIUS_PX**2, dtype=torch.float64, device=logits.device)
        cov_yy = labels_v @ labels_v.mT
        cov_pp = predicted_v @ predicted_v.mT
        cov_yp = labels_v @ predicted_v.mT
        residual = cov_yy - cov_yp @ torch.linalg.solve(cov_pp + floor, cov_yp.mT)
        factor = torch.linalg.cholesky(residual + floor)
        logdet = 2 * (factor.diagonal(dim1=-2, dim2=-1) + 1e-8).log().sum(dim=-1)
        value = (0.5 * logdet).mean(dim=0).sum() / RMI_RADIUS_PX**2
        return ((value + absent) * share).float()


def rmi_loss(logits: Tensor, labels: Tensor, step: StepTotal | None = None) -> Tensor:
    """Half sigmoid BCE, half region mutual information: the published main loss."""
    regions = region_mutual_information(logits, labels, step)
    return RMI_WEIGHT * sigmoid_bce(logits, labels, step) + (1 - RMI_WEIGHT) * regions


_Term = Callable[..., Tensor]
_MAIN: dict[str, _Term] = {"rmi": rmi_loss, "ce": cross_entropy}
_SIDE: dict[str, _Term] = {"rmi": sigmoid_bce, "ce": cross_entropy}


def two_scale_loss(
    prediction: TwoScalePrediction,
    labels: Tensor,
    *,
    loss: str = "rmi",
    aux_weight: float = 0.4,
    side_weight: float = 0.05,
    aux_loss: str = "side",
    weights: Tensor | None = None,
    step: StepTotal | None = None,
) -> Tensor:
    """Objective of two-scale training: fused prediction, auxiliary head, and each scale on its own.

    Args:
        prediction: output of `SegmentationNet.forward_two_scales` or `forward_explicit`.
        labels: [N, H, W] int64 trainIds, 255 ignored.
        loss: `rmi` uses RMI on the fused prediction and sigmoid BCE elsewhere; `ce` softmax cross-entropy everywhere.
        aux_weight, side_weight: weights of the auxiliary and of each single-scale term.
        aux_loss: of the auxiliary head: `side` is that of the single scales, `ce` and `rmi` are as for `loss`.
        weights: [N, H, W] float factors of the pixels; only where every term is cross-entropy.
        step: of which these images are a part; None if they are all of it. Every term follows its own rule.

    Raises:
        ValueError: weights with another loss than cross-entropy.
    """
    main, side, aux = _terms(loss, aux_loss, weights, step)
    total = main(prediction.logits, labels)
    if prediction.aux_logits is not None:
        total = total + aux_weight * aux(prediction.aux_logits, labels)
    if side_weight:
        total = total + side_weight * (side(prediction.logits_low, labels) + side(prediction.logits_one, labels))
    return total


def single_scale_loss(
    prediction: ScalePrediction,
    labels: Tensor,
    *,
    loss: str = "rmi",
    aux_weight: float = 0.4,
    aux_loss: str = "side",
    weights: Tensor | None = None,
    step: StepTotal | None = None,
) -> Tensor:
    """Objective of a network without attention: main and auxiliary head at one scale; terms as in `two_scale_loss`."""
    main, _, aux = _terms(loss, aux_loss, weights, step)
    total = main(prediction.logits, labels)
    if prediction.aux_logits is not None:
        total = total + aux_weight * aux(prediction.aux_logits, labels)
    return total


def _terms(loss: str, aux_loss: str, weights: Tensor | None, step: StepTotal | None) -> tuple[_Term, _Term, _Term]:
    """Terms of the main prediction, of single scales, and of the auxiliary head."""
    terms: tuple[_Term, _Term, _Term] = _MAIN[loss], _SIDE[loss], _MAIN.get(aux_loss, _SIDE[loss])
    if weights is not None and any(term is not cross_entropy for term in terms):
        raise ValueError(f"weights of pixels need cross-entropy in every term; got loss {loss}, aux_loss {aux_loss}")
    options: dict[str, Any] = {"step": step} if weights is None else {"step": step, "weights": weights}
    main, side, aux = (partial(term, **options) for term in terms)
    return main, side, aux
