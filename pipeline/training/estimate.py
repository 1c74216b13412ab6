"""What a training takes, told before its first step: memory, and on a CPU time. What does not fit is refused.

Memory is what a forward pass keeps for its backward pass, counted on two small images and scaled by the pixels, and
what the optimizer keeps. A training that is small beside the memory there is is not measured.
"""

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hmsa_label.labelers.model_registry import SMALL_MODELS
from hmsa_label.labelers.panoptic.ids import DIVISOR
from hmsa_label.labelers.training import IMAGE, PANOPTIC, SEMANTIC, Objective
from hmsa_label.pipeline.teacher.available_memory import available_bytes
from hmsa_label.pipeline.teacher.devices import return_freed_memory
from hmsa_label.pipeline.training.config import TrainConfig

PROBE = (2, 128, 128)  # images, height, width
MOST_BYTES_PER_PIXEL = 40e3  # more than any network of ours keeps; saves measuring where it is little
SMALL_SHARE = 0.1  # of the memory there is: a training below that is not measured
# Gradients of activations come beside what the forward pass kept. With this factor the estimate is 0.8 (tiny) to
# 1.2 (W48) of the peak that was measured; no higher one, because a training that would fit must not be refused.
BACKWARD_FACTOR = 1.1
FORWARD_TIMES = 2  # a step takes about three times its forward pass; small images are slow for their pixels
ROOM = 0.8  # of what is left: options that are named need no more than this
STATES = {
    "sgd": 1,
    "adam": 2,
    "adamw": 2,
    "radam-lookahead": 3,
}  # numbers that an optimizer keeps for each parameter, beside its gradient
SMALLEST_CROP_PX = 128
# For a CPU, where what merely fits may take days; the tutorial trains so.
SMALL_CROP, SMALL_BATCH, SMALL_STEPS = (128, 256), 4, 400


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a network's training keeps: bytes for each pixel of a pass, bytes beside; seconds of a pixel in a step.

    Gradients of parameters come while what was kept for the pixels goes.
    """

    pixel_bytes: float
    gradient_bytes: float
    fixed_bytes: float
    pixel_seconds: float

    def pass_bytes(self, images: int, crop_px: tuple[int, int]) -> float:
        """Bytes that a step in passes of so many crops takes beside what the process has already."""
        return self.fixed_bytes + max(self.gradient_bytes, self.pixel_bytes * images * crop_px[0] * crop_px[1])


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Memory that a step takes beside what is taken already, memory that is left, bytes; seconds of all steps.

    `seconds` is None on a GPU, where small images tell nothing of large ones.
    """

    step_bytes: float
    left_bytes: float
    seconds: float | None

    def __str__(self) -> str:
        parts = [f"a step takes about {_gb(self.step_bytes)} of the {_gb(self.left_bytes)} that are left"]
        if self.seconds is not None:
            parts.append(f"all steps roughly {_duration(self.seconds)}")
        return ", ".join(parts)


def estimate(
    objective: Objective,
    config: TrainConfig,
    device: torch.device,
    *,
    num_classes: int,
    world: int,
    steps: int,
    labels: str = SEMANTIC,
) -> Estimate | None:
    """What `steps` steps will take, for one of `world` processes; None for a training too small to be measured.

    Raises:
        ValueError: a step does not fit into memory; the message names both sizes and options that would fit.
    """
    left, images = _left_bytes(device), config.batch_size // (world * config.accumulate)
    if MOST_BYTES_PER_PIXEL * images * math.prod(config.augment.crop_px) < SMALL_SHARE * left:
        return None
    if device.type == "cpu":
        return_freed_memory()
    footprint = measure(objective, config, device, num_classes, labels=labels)
    step_bytes = footprint.pass_bytes(images, config.augment.crop_px)
    if step_bytes > left:
        ways = (
            "; ".join(_ways_out(footprint, config, world, left, SMALL_MODELS[labels], on_cpu=device.type == "cpu"))
            or "train on a machine with more memory"
        )
        raise ValueError(
            f"a step of --batch-size {config.batch_size} --accumulate {config.accumulate} --crop "
            f"{_size(config.augment.crop_px)} with {config.model.name} takes about {_gb(step_bytes)}, and {_gb(left)} "
            f"are left on {device}; what would fit: {ways}"
        )
    pixels = steps * config.batch_size / world * math.prod(config.augment.crop_px)
    seconds = footprint.pixel_seconds * pixels if device.type == "cpu" else None
    return Estimate(step_bytes=step_bytes, left_bytes=left, seconds=seconds)


def measure(
    objective: Objective, config: TrainConfig, device: torch.device, num_classes: int, *, labels: str = SEMANTIC
) -> Footprint:
    """The footprint of a network, from two small forward passes, of which the second is timed; the network stays."""
    before = [buffer.clone() for buffer in objective.net.buffers()]
    objective.net.train()
    draw = torch.Generator().manual_seed(0)
    found = torch.randint(0, num_classes, PROBE[:1] if labels == IMAGE else PROBE, generator=draw)
    found *= DIVISOR if labels == PANOPTIC else 1
    kept, seconds = [_forward(objective, device, found) for _ in range(2)][-1]
    for buffer, value in zip(objective.net.buffers(), before, strict=True):
        buffer.copy_(value)
    pixels = math.prod(PROBE)
    parameters = sum(value.numel() * value.element_size() for value in objective.net.parameters())
    return Footprint(
        pixel_bytes=BACKWARD_FACTOR * kept / pixels,
        gradient_bytes=parameters,
        fixed_bytes=parameters * (STATES[config.optimizer] + (config.ema_decay is not None)),
        pixel_seconds=FORWARD_TIMES * seconds / pixels,
    )


def _forward(objective: Objective, device: torch.device, labels: Tensor) -> tuple[int, float]:
    """(bytes that a forward pass keeps beside the network, its seconds), on images of noise."""
    own = {value.untyped_storage().data_ptr() for value in _tensors(objective.net)}
    kept: dict[int, torch.UntypedStorage] = {}  # alive until all is counted, or addresses would come twice

    def count(value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage

    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (*PROBE, 3), dtype=torch.uint8, generator=draw).to(device)
    began = time.perf_counter()
    # Nothing is handed back to a backward pass, which never comes.
    with torch.autograd.graph.saved_tensors_hooks(count, lambda _: torch.empty(0)):
        objective(images, labels.to(device), torch.arange(PROBE[0]))
    return sum(storage.nbytes() for storage in kept.values()), time.perf_counter() - began


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    yield from net.parameters()
    yield from net.buffers()


def _ways_out(
    footprint: Footprint, config: TrainConfig, world: int, left: float, small: str, *, on_cpu: bool
) -> Iterator[str]:
    """Options with which a step fits: on a CPU first those that end within hours, then those that change least."""
    crop, mine, left = config.augment.crop_px, config.batch_size // world, ROOM * left
    smaller_model = config.model.name != small
    if on_cpu and smaller_model:
        yield (
            f"--model {small} --crop {_size(SMALL_CROP)} --batch-size {SMALL_BATCH * world} "
            f"--max-steps {SMALL_STEPS}, which a CPU ends within hours"
        )
    for passes in range(config.accumulate + 1, mine + 1):
        if mine % passes == 0 and footprint.pass_bytes(mine // passes, crop) <= left:
            yield f"--accumulate {passes}"
            break
    fewer = [n for n in range(1, mine) if n % config.accumulate == 0]
    fitting = [n for n in fewer if footprint.pass_bytes(n // config.accumulate, crop) <= left]
    if fitting:
        yield f"--batch-size {max(fitting) * world}"
    smaller = _largest_crop(footprint, crop, left)
    if smaller is not None:
        yield f"--crop {_size(smaller)} --accumulate {mine}"
    if not on_cpu and smaller_model:
        yield f"a smaller network, such as --model {small}"


def _largest_crop(footprint: Footprint, crop_px: tuple[int, int], left: float) -> tuple[int, int] | None:
    """The largest crop of the same shape, in steps of 32 px, of which one fits."""
    for share in range(99, 0, -1):
        height, width = (side * share // 100 // 32 * 32 for side in crop_px)
        if min(height, width) >= SMALLEST_CROP_PX and footprint.pass_bytes(1, (height, width)) <= left:
            return height, width
    return None


def _left_bytes(device: torch.device) -> float:
    """What one process may still take of a device, of which those of a host take equal parts."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return available_bytes() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _size(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]}x{size_px[1]}"


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB"


def _duration(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
