"""The training objective of panoptic networks: classes, centers and offsets at the size of the crop."""

import torch
from torch import Tensor, nn

from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.layers.image_norm import training_pass
from hmsa_label.labelers.panoptic.losses import panoptic_loss
from hmsa_label.labelers.panoptic.targets import make_targets
from hmsa_label.labelers.training import StepTotal


class PanopticObjective(nn.Module):
    """A network and its training loss (`labelers.training.Objective`)."""

    def __init__(self, net: AxialDeepLab, settings: PanopticLoss, things: tuple[int, ...], dtype: torch.dtype) -> None:
        """Forward passes are computed in `dtype`; the loss always in float32.

        Args:
            things: trainIds of thing classes.
        """
        super().__init__()
        self.net, self.settings, self.things, self.dtype = net, settings, things, dtype
        net.trunk.leave_out(settings.drop_path)

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
            labels: [N, H, W] int64 panoptic maps.
            seeds: [N] int64, of what is dropped for each image; None draws it from torch's own generator.
            weights: [N, H, W] float32 factors of the pixels, or None.
            step: all that the step holds; None if it is these images.
        """
        net, settings = self.net, self.settings
        with training_pass(net, images, seeds, self.dtype) as x:
            maps = net.full_size(x)
        targets = make_targets(
            labels,
            self.things,
            sigma_px=settings.center_sigma_px,
            small_area_px=settings.small_area_px,
            small_weight=settings.small_weight,
        )
        terms = panoptic_loss(
            maps,
            targets,
            step=step,
            weights=weights,
            center_weight=settings.center_weight,
            offset_weight=settings.offset_weight,
            top_share=settings.top_share,
        )
        return terms.semantic + terms.center + terms.offset
