"""The optimizer of a training, and the learning rate of each of its steps."""

from typing import Any

import torch
from torch import nn

from hmsa_label.pipeline.training.config import TrainConfig


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
