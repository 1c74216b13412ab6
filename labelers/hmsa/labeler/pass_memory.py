"""The memory of one teacher: how much its passes may take, how much one takes, and the windows that follow."""

import gc
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from hmsa_label.labelers.base import Place
from hmsa_label.labelers.hmsa.labeler.options import HmsaOptions
from hmsa_label.labelers.hmsa.labeler.windows import MemoryModel, Size, in_smaller_windows, measure, window_for
from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.inference.batches import in_smaller_batches
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.labelers.inference.net import InferenceNet

# Of the whole image on a CPU: its pixels, label, origin, two masks, and all kinds of evidence. Windows must not depend
# on which kinds are asked for, because labels depend on the windows.
IMAGE_BYTES_PER_PIXEL = 12
# Times the tensors of a pass on a CPU: what convolutions and matrix products take for themselves. In bfloat16 they
# bring whole maps into forms of their own (benchmarks/memory_budget.py).
WORK_SPACE, WORK_SPACE_LOW_PRECISION = 1.2, 2.4
# No network here takes more for a pixel at scale 1, by far; passes over images that fit even so need no measuring.
FAR_TOO_MANY_BYTES_PER_PIXEL = 4096

Result = TypeVar("Result")


class PassMemory:
    """Finds windows that fit, and smaller ones where they did not; to be used in the teacher's thread."""

    def __init__(self, net: InferenceNet, built_from: SegmentationNet, options: HmsaOptions, place: Place) -> None:
        """Looks at the memory that is free now.

        Args:
            built_from: what `net` is a folded copy of; becomes a network of shapes without weights.
        """
        self._net, self._options = net, options
        self._on_gpu = net.device.type == "cuda"
        self._shapes: SegmentationNet = built_from.to("meta")
        self._budget_bytes = place.allowed_bytes()
        self._model: MemoryModel | None = None

    def in_batches_that_fit(self, size_px: Size, count: int, work: Callable[[int, Size], Result]) -> Result:
        """What `work` gives for as many images together as fit into memory, down to one and to windows of one.

        Args:
            size_px: (height, width) of the images. count: how many there are.
            work: takes how many images go through the network together, and (height, width) of the windows.

        Raises:
            DoesNotFit: one image is too large even in the smallest windows.
        """
        return in_smaller_batches(
            self.images_at_once(size_px, count),
            lambda images: work(images, size_px),
            lambda: self.in_windows_that_fit(size_px, lambda window_px: work(1, window_px)),
            self._free,
        )

    def images_at_once(self, size_px: Size, count: int) -> int:
        """How many of `count` images of this size go through the network together; 1 where one has to be cut.

        On a CPU no more than its cache holds the maps of at the lowest scale: others would only take memory.

        Raises:
            DoesNotFit: not even the smallest windows of one image would do.
        """
        if self.window(size_px) != size_px:
            return 1
        count = min(count, self._net.most_at_once(size_px, self._options.scales))
        return next((images for images in range(count, 1, -1) if self._fits((images * size_px[0], size_px[1]))), 1)

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
        """Size of the windows in which an image of this size is labeled.

        Raises:
            DoesNotFit: not even the smallest would do.
        """
        return size_px if self._fits(size_px) else window_for(size_px, self._measured(), self._left_bytes(size_px))

    def _fits(self, size_px: Size) -> bool:
        """Whether a pass over an image of this size fits; a batch takes what one image of all its pixels takes."""
        pixels, left = size_px[0] * size_px[1], self._left_bytes(size_px)
        if pixels * FAR_TOO_MANY_BYTES_PER_PIXEL * max(1.0, *self._options.scales) ** 2 <= left:
            return True
        return self._measured().peak_bytes(size_px) <= left

    def _left_bytes(self, size_px: Size) -> float:
        """What is left for a pass beside the images themselves."""
        return self._budget_bytes - (0 if self._on_gpu else size_px[0] * size_px[1] * IMAGE_BYTES_PER_PIXEL)

    def _measured(self) -> MemoryModel:
        if self._model is None:
            self._model = measure(self._peak_on_gpu if self._on_gpu else self._counted_peak)
        return self._model

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
        """A pass with its views, whether they will be asked for or not; see `IMAGE_BYTES_PER_PIXEL`."""
        look = self._options
        (fused,) = net.fused(image[None], look.scales, look.fusion, look.flip)
        for start, stop, _ in fused.blocks():
            if look.num_views > 1:
                fused.views(start, stop)

    def _free(self) -> None:
        """Gives back the memory of a pass that failed."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
