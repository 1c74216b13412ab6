"""Several processes that train one network: who they are, and what they tell each other.

Whoever starts them (torchrun, Ray Train) sets RANK, WORLD_SIZE and LOCAL_RANK, as torch expects it. Without these a
training is one process and no process group exists.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# DistributedDataParallel imports it; the default arguments of its functions keep alive the group there is by then.
import torch.distributed.nn
from numpy.typing import NDArray
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hmsa_label.labelers.layers.synced_batch_norm import sync_batch_norms
from hmsa_label.pipeline.teacher.devices import resolve_device


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among those of a training; `rank` 0 validates and writes."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and logs."""
        return self.rank == 0

    def mean(self, value: float) -> float:
        """The mean of a number over all processes, the same in each."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=_meeting_place())
        dist.all_reduce(total)
        return float(total) / self.world

    def total(self, counts: NDArray[Any]) -> NDArray[Any]:
        """The sum of arrays of numbers over all processes, the same in each."""
        if self.world == 1:
            return counts
        total = torch.from_numpy(counts).to(_meeting_place())
        dist.all_reduce(total)
        summed: NDArray[Any] = total.cpu().numpy()
        return summed

    def spread(self, net: nn.Module, device: torch.device) -> nn.Module:
        """`net` with the batch norms of all processes joined."""
        return net if self.world == 1 else sync_batch_norms(net, device)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """`module` such that a backward pass averages its gradients over all processes."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)

    @contextmanager
    def averaging(self, module: nn.Module, *, now: bool) -> Iterator[None]:
        """Backward passes inside average their gradients over all processes, or only add them up if not `now`."""
        if self.world == 1 or now:
            yield
        else:
            assert isinstance(module, DistributedDataParallel)
            with module.no_sync():
                yield


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """This process's place and device while the process group lives; one that is there already is used and kept.

    What `Processes.wrap` returned must not outlive the block.

    Args:
        device: as `resolve_device` takes it; without a number each process of a host takes the GPU of its own number.

    Raises:
        ValueError: a number was given although there are several processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(), resolve_device(device)
        return
    if ":" in device:
        raise ValueError(f"with {world} processes each takes the GPU of its own number; got --device {device}")
    own = resolve_device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(own)
    begun_here = not dist.is_initialized()
    if begun_here:
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield Processes(rank=dist.get_rank(), world=dist.get_world_size()), own
    finally:
        if begun_here:
            # gloo's threads end with the last reference to the group, and one that still runs when the interpreter
            # ends may abort the process. A wrapped network refers to the group and is part of a cycle.
            gc.collect()
            dist.destroy_process_group()


def _meeting_place() -> torch.device:
    """Where tensors must be for the group to add them up."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
