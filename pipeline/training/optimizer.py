"""The optimizer of a training, and the learning rate of each of its steps."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hmsa_label.pipeline.training.config import TrainConfig

LOOKAHEAD_STEPS, LOOKAHEAD_SHARE = 5, 0.5  # of the paper of Lookahead; that of Axial-DeepLab gives none


class RAdamLookahead(torch.optim.RAdam):
    """RAdam (arXiv 1908.03265) inside Lookahead (arXiv 1907.08610).

    Every few steps the weights go back to the slow ones, moved by a share of the way that the steps made. The slow ones
    are kept beside the moments, so that a saved state holds all of it.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of RAdam, and after every fifth the way back."""
        known = [value for group in self.param_groups for value in group["params"] if value.grad is not None]
        before = {value: value.detach().clone() for value in known if not self.state[value]}
        loss = super().step(closure)
        for value in known:
            state = self.state[value]
            slow = state.setdefault("slow", before.get(value))
            if int(state["step"]) % LOOKAHEAD_STEPS == 0:
                slow.lerp_(value.detach(), LOOKAHEAD_SHARE)
                value.data.copy_(slow)
        return loss


def build_optimizer(config: TrainConfig, net: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that a config names; momentum is SGD's alone."""
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD(net.parameters(), momentum=config.momentum, nesterov=config.nesterov, **options)
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "radam-lookahead": RAdamLookahead,
    }
    return kinds[config.optimizer](net.parameters(), **options)


def learning_rate(config: TrainConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Poly or cosine schedule by step, poly by epoch too, after a linear warm-up.

    Args:
        step: optimizer steps made so far, 0 at the first.
    """
    warmup_steps = config.warmup_steps or round(config.warmup_share * total_steps)
    if step < warmup_steps:
        return config.learning_rate * (step + 1) / warmup_steps
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * step / total_steps)) / 2
    if config.poly_by_epoch:
        step, total_steps = step // steps_per_epoch, -(-total_steps // steps_per_epoch)
    return float(config.learning_rate * (1 - step / total_steps) ** config.poly_power)
