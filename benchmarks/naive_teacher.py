"""The reference order of operations, as the baseline that the teacher is measured against.

Every scale is a whole pass with auxiliary logits and attention, upsampled to the size of its scaled image; predictions
and auxiliary logits are fused at those sizes; softmax and threshold follow on the whole image. Nothing is folded.
"""

import torch
from torch import Tensor

from hmsa_label.labelers import SegmentationNet
from hmsa_label.labelers.hmsa.scale_chain import fuse_chain, scaled_size
from hmsa_label.labelers.layers.blocks import resize

IGNORE_INDEX = 255


def fused_logits(net: SegmentationNet, x: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Logits [N, K, H, W] of a normalized batch; auxiliary logits are fused the same way and dropped."""
    passes = []
    for scale in sorted(scales, reverse=True):
        scaled = resize(x, scaled_size(x.shape[2], x.shape[3], scale))
        passes.append((scale, net(scaled, aux=True, attention=True)))
    fuse_chain((scale, part.aux_logits, part.attention) for scale, part in passes)
    return fuse_chain((scale, part.logits, part.attention) for scale, part in passes)


def label(net: SegmentationNet, image: Tensor, scales: tuple[float, ...], threshold: float) -> tuple[Tensor, Tensor]:
    """(top1, label) [H, W] uint8 of an image [H, W, 3] uint8 RGB; flipped and averaged, then thresholded."""
    x = net.normalize(image[None])
    logits = fused_logits(net, x, scales)
    logits = (logits + fused_logits(net, x.flip(3), scales).flip(3)) / 2
    confidence, top1 = logits.softmax(1).max(1)
    kept = torch.where(confidence >= threshold, top1, IGNORE_INDEX)
    return top1[0].to(torch.uint8), kept[0].to(torch.uint8)
