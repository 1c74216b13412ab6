"""What a training minimises, and how: the loss of a batch as a module, the optimizer, the schedule."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from hmsa_label.labelers import SegmentationNet
from hmsa_label.labelers.hmsa.losses import StepTotal, single_scale_loss, two_scale_loss
from hmsa_label.labelers.layers.blocks import dropout_drawn_by_image
from hmsa_label.pipeline.teacher.devices import autocast
from hmsa_label.pipeline.training.config import TrainConfig


class Objective(nn.Module):
    """A network and its training loss; a module of its own so that several processes can share its backward pass."""

    def __init__(self, net: SegmentationNet, config: TrainConfig, precision: str) -> None:
        super().__init__()
        self.net = net
        self.low_scale = config.low_scale
        self.precision = precision
        self.terms: dict[str, Any] = {
            "loss": config.loss,
            "aux_weight": config.aux_weight,
            "aux_loss": config.aux_loss,
        }
        self.side_weight = config.side_weight

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
        net, low = self.net, self.low_scale
        x = net.normalise(images).contiguous(memory_format=torch.channels_last)
        drawn = nullcontext() if seeds is None else dropout_drawn_by_image(net, seeds.tolist())
        with drawn, autocast(self.precision, x.device):
            if low is None:
                single = net(x, aux=True)
            else:
                fused = net.forward_explicit(x) if net.fusion == "explicit" else net.forward_two_scales(x, low)
        if low is None:
            return single_scale_loss(single, labels, weights=weights, step=step, **self.terms)
        options = {"weights": weights, "step": step, **self.terms}
        return two_scale_loss(fused, labels, side_weight=self.side_weight, **options)


def build_optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW."""
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(net.parameters(), **options)
    return torch.optim.SGD(net.parameters(), momentum=config.momentum, **options)


def learning_rate(config: TrainConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Poly schedule by step or by epoch, after a linear warm-up of `config.warmup_steps`.

    Args:
        step: optimizer steps made so far, 0 at the first.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.poly_by_epoch:
        step, total_steps = step // steps_per_epoch, -(-total_steps // steps_per_epoch)
    return float(config.learning_rate * (1 - step / total_steps) ** config.poly_power)
