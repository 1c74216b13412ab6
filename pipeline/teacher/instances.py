"""The instances that a teacher tells of a batch of images, as the store and its readers take them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hmsa_label.labelers.base import Instance, Panoptic, Part
from hmsa_label.stores.format.instances import StoredInstance, exact

U16 = NDArray[np.uint16]


class InstanceMaps:
    """Gathers the parts of a batch of N images of one size."""

    def __init__(self, count: int, size_px: tuple[int, int]) -> None:
        """Nothing yet.

        Args:
            size_px: (height, width).
        """
        self._maps = np.zeros((count, *size_px), np.uint16)
        self._lists: list[tuple[StoredInstance, ...]] = [()] * count

    def take(self, part: Part) -> None:
        """A part of whole images."""
        assert isinstance(part.values, Panoptic)
        self._maps[part.images] = part.values.instance.to(torch.int32).cpu().numpy()
        self._lists[part.images] = [_stored(listed) for listed in part.values.instances]

    def of(self, index: int) -> tuple[U16, tuple[StoredInstance, ...]]:
        """(map [H, W] uint16, the instances) of one image."""
        return self._maps[index], self._lists[index]


def _stored(instances: Sequence[Instance]) -> tuple[StoredInstance, ...]:
    """Instances as stores hold them; sums in half precision may give scores a little above 1."""
    return exact(
        one._replace(center_score=min(one.center_score, 1.0), confidence=min(one.confidence, 1.0)) for one in instances
    )
