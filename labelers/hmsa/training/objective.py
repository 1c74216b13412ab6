"""The training objective of HMSA networks: two-scale training, explicit attention, or a single scale."""

from typing import Any

import torch
from torch import Tensor, nn

from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.hmsa.training.losses import single_scale_loss, two_scale_loss
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.labelers.layers.image_norm import training_pass
from hmsa_label.labelers.training import StepTotal


class HmsaObjective(nn.Module):
    """A network and its training loss (`labelers.training.Objective`)."""

    def __init__(self, net: SegmentationNet, settings: HmsaLoss, dtype: torch.dtype) -> None:
        """Forward passes are computed in `dtype`; the loss always in float32."""
        super().__init__()
        self.net, self.settings, self.dtype = net, settings, dtype

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        seeds: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        step: StepTotal | None = None,
    ) -> Tensor:
        """The loss, a scalar: the part that these images have in that of their step.

        Args:
            images: [N, H, W, 3] uint8 RGB.
            labels: [N, H, W] int64 trainIds, 255 ignored.
            seeds: [N] int64, of each image's dropout; None draws it for the batch from torch's own generator.
            weights: [N, H, W] float32 factors of the pixels, or None.
            step: all that the step holds; None if it is these images.
        """
        net, settings = self.net, self.settings
        with training_pass(net, images, seeds, self.dtype) as x:
            if settings.low_scale is None:
                single = net(x, aux=True)
            elif net.fusion == "explicit":
                fused = net.forward_explicit(x)
            else:
                fused = net.forward_two_scales(x, settings.low_scale)
        terms: dict[str, Any] = {name: getattr(settings, name) for name in ("loss", "aux_loss", "aux_weight")}
        terms |= {"weights": weights, "step": step}
        if settings.low_scale is None:
            return single_scale_loss(single, labels, **terms)
        return two_scale_loss(fused, labels, side_weight=settings.side_weight, **terms)
