"""Batch norm whose statistics are those of the batches of all processes together.

torch's own `SyncBatchNorm` is the one for GPUs and knows no CPU; there this one computes the same from sums that
`torch.distributed` adds up, gradients included.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; so is the gradient, as each process's part reaches every loss."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes, for any device; [N, C, H, W] -> [N, C, H, W] float32."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide, number = x.float(), float(x.numel() // x.shape[1])
        mean, variance = batch_moments(self, wide.sum((0, 2, 3)), (wide * wide).sum((0, 2, 3)), number)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return wide * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)


def batch_moments(
    norm: nn.modules.batchnorm._BatchNorm, total: Tensor, squares: Tensor, number: float
) -> tuple[Tensor, Tensor]:
    """Mean and variance (with bias) [C] that a norm in training normalizes with; its running statistics follow.

    Args:
        total: [C] sums of what this process's batch has. squares: of the squares. number: of values in a channel.
    """
    if isinstance(norm, SyncedBatchNorm2d) or (isinstance(norm, nn.SyncBatchNorm) and dist.is_initialized()):
        sums = torch.cat([total, squares, total.new_full((1,), number)])
        total, squares, everywhere = _SumOverProcesses.apply(sums).split([len(total), len(total), 1])
        number = float(everywhere.detach())
    mean = total / number
    variance = (squares / number - mean * mean).clamp(min=0)
    _follow(norm, mean.detach(), variance.detach(), number)
    return mean, variance


@torch.no_grad()
def _follow(norm: nn.modules.batchnorm._BatchNorm, mean: Tensor, variance: Tensor, number: float) -> None:
    """Moves the running statistics, the variance without bias as `nn.BatchNorm2d` does."""
    tracked, running_mean, running_var = norm.num_batches_tracked, norm.running_mean, norm.running_var
    assert tracked is not None, "built without running statistics"
    assert running_mean is not None, "built without running statistics"
    assert running_var is not None, "built without running statistics"
    tracked += 1
    momentum = 1 / float(tracked) if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * number / max(number - 1, 1)).to(running_var.dtype), momentum)


def sync_batch_norms(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with every batch norm synchronized; keys and values of its state dict stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _synced(child))
    return net


def _synced(norm: nn.BatchNorm2d) -> SyncedBatchNorm2d:
    synced = SyncedBatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    synced.load_state_dict(norm.state_dict())
    return synced.train(norm.training)
