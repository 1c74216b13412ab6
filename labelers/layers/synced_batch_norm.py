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
        wide = x.float()
        count = torch.full((1,), float(x.numel() // x.shape[1]), device=x.device)
        sums = torch.cat([wide.sum((0, 2, 3)), (wide * wide).sum((0, 2, 3)), count])
        total, squares, number = _SumOverProcesses.apply(sums).split([x.shape[1], x.shape[1], 1])
        mean = total / number
        variance = squares / number - mean * mean
        self._follow(mean.detach(), variance.detach(), float(number.detach()))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return wide * scale.view(1, -1, 1, 1) + (self.bias - mean * scale).view(1, -1, 1, 1)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, number: float) -> None:
        """Moves the running statistics, the variance without bias as `nn.BatchNorm2d` does."""
        tracked, running_mean, running_var = self.num_batches_tracked, self.running_mean, self.running_var
        assert tracked is not None, "built without running statistics"
        tracked += 1
        momentum = 1 / float(tracked) if self.momentum is None else self.momentum
        running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
        running_var.lerp_(variance * number / (number - 1), momentum)  # type: ignore[union-attr]


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
