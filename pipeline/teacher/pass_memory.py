"""The memory of one teacher: how much its passes may take, how much one takes, and the windows that follow."""

import gc
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from hmsa_label.labelers import SegmentationNet
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.available_memory import CPU_SHARE, available_bytes
from hmsa_label.pipeline.teacher.windows import MemoryModel, Size, in_smaller_windows, measure, window_for

GPU_SHARE = 0.9  # of a GPU's memory, for all passes on it; the rest is for what other libraries take
IMAGE_BYTES_PER_PIXEL = 8  # of the whole image on a CPU: its pixels, arg-max, code, label and two masks
# Times the tensors of a pass on a CPU: what convolutions and matrix products take for themselves. In bfloat16 they
# bring whole maps into forms of their own (benchmarks/memory_budget.py).
WORK_SPACE, WORK_SPACE_LOW_PRECISION = 1.2, 2.4
# No network here takes more for a pixel at scale 1, by far; passes over images that fit even so need no measuring.
FAR_TOO_MANY_BYTES_PER_PIXEL = 4096

Result = TypeVar("Result")


class PassMemory:
    """Finds windows that fit, and smaller ones where they did not; to be used in the teacher's thread."""

    def __init__(self, net: InferenceNet, built_from: SegmentationNet, config: TeacherConfig, share: float) -> None:
        """Looks at the memory that is free now.

        Args:
            built_from: what `net` is a folded copy of; becomes a network of shapes without weights.
            share: of the device's memory, 0..1, where several teachers use it.
        """
        self._net, self._config = net, config
        self._on_gpu = net.device.type == "cuda"
        self._shapes: SegmentationNet = built_from.to("meta")
        self._budget_bytes = self._allowed_bytes(share)
        self._model: MemoryModel | None = None

    def in_windows_that_fit(self, size_px: Size, work: Callable[[Size], Result]) -> Result:
        """What `work` gives for windows of a size that fits into memory, smaller ones if it turns out not to.

        Args:
            size_px: (height, width) of the image.
            work: takes (height, width) of the windows.

        Raises:
            DoesNotFit: the image is too large even in the smallest windows.
        """
        return in_smaller_windows(size_px, self.window(size_px), work, self._free)

    def window(self, size_px: Size) -> Size:
        """Size of the windows in which an image of this size is labelled.

        Raises:
            DoesNotFit: not even the smallest would do.
        """
        pixels, budget = size_px[0] * size_px[1], self._budget_bytes
        if not self._on_gpu:
            budget -= pixels * IMAGE_BYTES_PER_PIXEL
        if pixels * FAR_TOO_MANY_BYTES_PER_PIXEL * max(1.0, *self._config.scales) ** 2 <= budget:
            return size_px
        if self._model is None:
            self._model = measure(self._peak_on_gpu if self._on_gpu else self._counted_peak)
        return window_for(size_px, self._model, budget)

    def _allowed_bytes(self, share: float) -> float:
        """What a pass may take beside the model."""
        if self._config.max_memory_gb is not None:
            return self._config.max_memory_gb * 1e9
        if not self._on_gpu:
            return share * CPU_SHARE * available_bytes()
        free, total = torch.cuda.mem_get_info(self._net.device)
        return gpu_budget(free, total, torch.cuda.memory_reserved(self._net.device), share)

    def _counted_peak(self, size_px: Size) -> float:
        """What a pass over an image of this size takes beside the model on a CPU, the same wherever it is asked.

        Not measured: resident memory is that of all threads, and keeps what earlier passes left.
        """
        shapes = InferenceNet(self._shapes, torch.device("meta"), self._net.dtype)
        with torch.inference_mode(), LiveBytes() as tensors:
            self._pass(shapes, torch.empty(*size_px, 3, dtype=torch.uint8, device="meta"))
        return tensors.peak * (WORK_SPACE if self._net.dtype == torch.float32 else WORK_SPACE_LOW_PRECISION)

    def _peak_on_gpu(self, size_px: Size) -> float:
        return in_smaller_windows(size_px, size_px, self._measured_peak, self._free)

    @torch.inference_mode()
    def _measured_peak(self, size_px: Size) -> float:
        """What a pass over an image of this size takes beside the model on a GPU, by its allocator."""
        device = self._net.device
        image = np.random.default_rng(0).integers(0, 256, (*size_px, 3), np.uint8)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        self._pass(self._net, torch.from_numpy(image))
        return torch.cuda.max_memory_allocated(device) - before

    def _pass(self, net: InferenceNet, image: Tensor) -> None:
        for _ in net.logit_blocks(image, self._config.scales, self._config.fusion, self._config.flip):
            pass

    def _free(self) -> None:
        """Gives back the memory of a pass that failed."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()


def gpu_budget(free: int, total: int, own: int, share: float) -> float:
    """Bytes that a pass of one teacher may take beside the model.

    A share of the whole GPU less what this process holds, because others may not have taken theirs yet; never more
    than is free now.

    Args:
        free, total: of the GPU. own: what this process has reserved of it. share: of this teacher, 0..1.
    """
    return max(0.0, GPU_SHARE * min(share * total - own, free))
