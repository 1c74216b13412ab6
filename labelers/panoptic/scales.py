"""Maps of a panoptic network averaged over scales of an image and its mirror image.

Everything is averaged at the size of the image, with equal weights: probabilities (the softmax comes after upsampling),
heat maps and offsets. Instances are then found once. Corners are aligned throughout, so a side of n px becomes one of
(n - 1) * scale + 1 px, and offsets grow by the ratio of the distances between corners, axis by axis.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps, upsample
from hmsa_label.labelers.layers.blocks import resize


class FullMaps(NamedTuple):
    """What instances are found from, at the size of the image.

    Attributes:
        probabilities: [N, K, H, W] float32, sums to 1 over the classes.
        center: [N, 1, H, W] float32 heat map. offset: [N, 2, H, W] float32 (dy, dx), px.
    """

    probabilities: Tensor
    center: Tensor
    offset: Tensor


def average_over_scales(
    net: Callable[[Tensor], PanopticMaps],
    x: Tensor,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    views: list[Tensor] | None = None,
) -> FullMaps:
    """The maps of a batch, averaged; for inference.

    Only the sum is kept beside the maps of one image at one scale.

    Args:
        net: from normalized images of any size to maps at the network's own stride.
        x: [N, 3, H, W] normalized images.
        scales: factors of both sides. flip: the mirror image of each scale takes part, too.
        views: gets the arg-max trainIds [N, H, W] uint8 of each pass alone, if they are wanted.

    Raises:
        ValueError: no scale is given, or one is not positive.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be positive factors, at least one; got {tuple(scales)}")
    total: FullMaps | None = None
    for maps in _views(net, x, scales, flip):
        if views is not None:
            views.append(torch.empty(len(x), *x.shape[-2:], dtype=torch.uint8, device=x.device))
        for i in range(len(x)):
            one = PanopticMaps(*(part[i : i + 1] for part in maps))
            total = _added(total, _full(one, x.shape[-2:]), i, len(x), views)
    assert total is not None, "a batch holds an image"
    for mean in total:
        mean /= len(scales) * (2 if flip else 1)
    return total


def _added(total: FullMaps | None, one: FullMaps, place: int, count: int, views: list[Tensor] | None) -> FullMaps:
    """The sum over the views of a batch of `count` with another view of one image in it, which the last view shows."""
    if views is not None:
        views[-1][place] = one.probabilities[0].max(0).indices
    if total is None:
        total = FullMaps(*(part.new_zeros(count, *part.shape[1:]) for part in one))
    for whole, part in zip(total, one, strict=True):
        whole[place] += part[0]
    return total


def scaled_size(size_px: Sequence[int], scale: float) -> tuple[int, int]:
    """(height, width) of an image at a scale."""
    height, width = (max(1, round((side - 1) * scale + 1)) for side in size_px)
    return height, width


def _views(
    net: Callable[[Tensor], PanopticMaps], x: Tensor, scales: Sequence[float], flip: bool
) -> Iterator[PanopticMaps]:
    """The network's maps of every scale, and of its mirror image turned back."""
    for scale in scales:
        scaled = resize(x, scaled_size(x.shape[-2:], scale), align_corners=True)
        yield net(scaled)
        if flip:
            logits, center, offset = (part.flip(-1) for part in net(scaled.flip(-1)))
            yield PanopticMaps(logits, center, offset * offset.new_tensor([1.0, -1.0]).view(2, 1, 1))


def _full(maps: PanopticMaps, size_px: torch.Size) -> FullMaps:
    logits, center, offset = upsample(PanopticMaps(*(part.float() for part in maps)), size_px)
    return FullMaps(logits.softmax(1), center, offset)
