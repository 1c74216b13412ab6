"""Losses of panoptic networks (arXiv 1911.10194, section 3.1; numbers of its released code).

The parts of a step add up, as `labelers.training.StepTotal` asks for: each divides by what the whole step holds. So the
hardest pixels are chosen image by image, however the step is cut into passes and processes.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps
from hmsa_label.labelers.panoptic.targets import Targets
from hmsa_label.labelers.taxonomy import IGNORE_INDEX
from hmsa_label.labelers.training import StepTotal


class LossTerms(NamedTuple):
    """The parts of the loss, weights included; scalars."""

    semantic: Tensor
    center: Tensor
    offset: Tensor


def panoptic_loss(
    maps: PanopticMaps,
    targets: Targets,
    *,
    step: StepTotal | None = None,
    weights: Tensor | None = None,
    center_weight: float = 200.0,
    offset_weight: float = 0.01,
    top_share: float = 0.2,
) -> LossTerms:
    """The terms whose sum is minimized.

    Args:
        maps: of the network at the size of the targets (`upsample`).
        step: of which these images are a part; None if they are all of it.
        weights: [N, H, W] float32 factors of the pixels in every term, or None.
        center_weight, offset_weight: of the terms beside the semantic one.
        top_share: of the pixels of each image, the hardest ones, that the semantic term is the mean of.
    """
    semantic_weight = targets.semantic_weight if weights is None else targets.semantic_weight * weights
    center_mask, offset_mask = (
        mask.float() if weights is None else mask * weights for mask in (targets.center_mask, targets.offset_mask)
    )
    center_px = int(targets.center_mask.sum()) if step is None else step.labeled_px - step.crowd_px
    offset_px = int(targets.offset_mask.sum()) if step is None else step.instance_px
    squared = (maps.center.float() - targets.center).square()[:, 0]
    absolute = (maps.offset.float() - targets.offset).abs().sum(1)
    return LossTerms(
        bootstrapped_cross_entropy(maps.logits, targets.semantic, semantic_weight, top_share, step),
        center_weight * (squared * center_mask).sum() / max(1, center_px),
        offset_weight * (absolute * offset_mask).sum() / max(1, 2 * offset_px),  # both axes count
    )


def bootstrapped_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, top_share: float = 0.2, step: StepTotal | None = None
) -> Tensor:
    """Mean of the highest softmax cross-entropies of each image, and over the images.

    An ignored pixel has a loss of 0 and counts among the pixels, as in the released code.

    Args:
        logits: [N, K, H, W] float.
        labels: [N, H, W] int64, 0..K-1 or 255 for ignored.
        weights: [N, H, W] float, factor of each pixel's loss, before the highest are taken.
        top_share: of the pixels of an image that are taken, 0..1.
        step: the sum over images is divided by its images instead of N.
    """
    loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none") * weights
    loss = loss.flatten(1)
    hardest = loss.topk(max(1, round(top_share * loss.shape[1])), dim=1, sorted=False).values
    return hardest.mean(1).sum() / (len(loss) if step is None else step.images)
