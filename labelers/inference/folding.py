"""Batch norms folded into the convolutions before them, for inference."""

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the second is what a network trained on several GPUs has


Net = TypeVar("Net", bound=nn.Module)


def fold(net: Net) -> Net:
    """A copy of `net` in inference mode whose batch norms are part of the convolutions; `net` keeps its own.

    A batch norm belongs to the convolution registered right before it, which holds for every trunk and head here.

    Raises:
        ValueError: a batch norm has no convolution before it.
    """
    folded = copy.deepcopy(net).eval()
    _fold_children(folded)
    left = [name for name, module in folded.named_modules() if isinstance(module, BATCH_NORMS)]
    if left:
        raise ValueError(f"no convolution comes before the batch norm {left[0]}; it cannot be folded")
    return folded.requires_grad_(False)


def _fold_children(module: nn.Module) -> None:
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BATCH_NORMS):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    for child in module.children():
        _fold_children(child)
