"""The memory of one panoptic teacher: how many images go through it together, and which one does not fit at all.

An image is not cut into windows, as an instance may go through all of it.
"""

from collections.abc import Callable
from functools import lru_cache

import torch

from hmsa_label.labelers.axial_deeplab.labeler.passes import Passes
from hmsa_label.labelers.base import DoesNotFit
from hmsa_label.labelers.inference.live_bytes import LiveBytes

Size = tuple[int, int]  # (height, width) in px

# Of one image, beside the maps: merging on the device, then arg-max, code, label and instances.
AFTER_BYTES_PER_PIXEL = 200
# Times the tensors of a pass: what convolutions and matrix products take for themselves; more in bfloat16 on a CPU,
# where they bring whole maps into forms of their own (benchmarks/memory_budget.py).
WORK_SPACE, WORK_SPACE_LOW_PRECISION = 1.2, 2.4
# No network here takes more for a pixel of the largest scale, by far; an image that fits even so needs no counting.
FAR_TOO_MANY_BYTES_PER_PIXEL = 8192


class Room:
    """Tells what fits, from the size of images alone."""

    def __init__(
        self,
        shapes: Callable[[], Passes],
        *,
        largest_scale: float,
        low_precision: bool,
        batches: bool,
        budget_bytes: float,
    ) -> None:
        """Nothing is counted yet.

        Args:
            shapes: makes passes of the same network on the device `meta`.
            largest_scale: at which it looks.
            low_precision: it computes in less than float32.
            batches: several images may go through together.
            budget_bytes: what a pass may take beside the model.
        """
        self._budget, self._batches = budget_bytes, batches
        self._far_too_many = FAR_TOO_MANY_BYTES_PER_PIXEL * max(1.0, largest_scale) ** 2
        self._factor = WORK_SPACE_LOW_PRECISION if low_precision else WORK_SPACE
        self._shapes = lru_cache(1)(shapes)
        self.peak_bytes = lru_cache(256)(self._peak_bytes)

    def images_at_once(self, size_px: Size, count: int) -> int:
        """How many of `count` images of this size go through the network together.

        Raises:
            DoesNotFit: not even one would.
        """
        if not self._batches and size_px[0] * size_px[1] * self._far_too_many <= self._budget:
            return 1
        if (needed := self.peak_bytes(size_px)) > self._budget:
            raise DoesNotFit(
                f"an image of {size_px[0]} x {size_px[1]} px needs {_mib(needed)}, and {_mib(self._budget)} are "
                "allowed; it cannot be cut where instances are told apart: use fewer or smaller --scales, fewer "
                "workers, or raise --max-memory"
            )
        return min(count, int(self._budget // needed)) if self._batches else 1

    def _peak_bytes(self, size_px: Size) -> float:
        """Highest memory that labeling one image takes; counted with shapes alone, the same wherever it is asked."""
        image, views = torch.empty(1, *size_px, 3, dtype=torch.uint8, device="meta"), list[torch.Tensor]()
        with torch.inference_mode(), LiveBytes() as tensors:
            maps = self._shapes().maps(image, views)  # counted always: batches must not depend on what is asked for
        kept = sum(values.nbytes for values in (*maps, *views))
        after = kept + AFTER_BYTES_PER_PIXEL * size_px[0] * size_px[1]
        return max(tensors.peak * self._factor, after)


def _mib(num_bytes: float) -> str:
    return f"{max(0, num_bytes) / 2**20:.0f} MiB"
