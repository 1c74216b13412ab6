"""Which images go into which batch: an exact share of auto-labeled ones, every image once before any comes twice.

A batch is a pure function of (seed, step, rank): nothing depends on loader workers, and training resumes at any step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

FINE, AUTO = 0, 1


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One image of a batch.

    Attributes:
        kind: FINE or AUTO. number: which draw of its kind this is, over all processes and steps.
        position: of the image, counted over both parts.
    """

    kind: int
    number: int
    position: int


class MixedBatchSampler:
    """Batches of positions in [fine images, then auto-labeled images], as `ConcatDataset([fine, auto])` counts them.

    Each batch of each rank holds `mix * batch_size` auto-labeled images; where that is no whole number, it is met
    over consecutive batches, never off by one image or more. For `DataLoader(..., batch_sampler=sampler)`.

    Args:
        num_fine, num_auto: sizes of the two parts; a part with a share above 0 needs at least one image.
        batch_size: images per batch of one rank.
        num_batches: batches in all; iteration ends there.
        mix: share of auto-labeled images, 0..1.
        seed: of the order of the images.
        rank, world: this process and the number of processes; their batches of a step hold different images.
        start: first step to yield, to resume.
        fine_tail: batches at the end that hold fine images alone, whatever the mix.

    Raises:
        ValueError: naming the argument that cannot be used.
    """

    def __init__(
        self,
        num_fine: int,
        num_auto: int,
        batch_size: int,
        num_batches: int,
        *,
        mix: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
        fine_tail: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if not 0.0 <= mix <= 1.0:
            raise ValueError(f"mix is the share of auto-labeled images, 0..1; got {mix}")
        mixed = num_batches - fine_tail
        if not 0 <= mixed <= num_batches:
            raise ValueError(f"fine_tail must lie in 0..{num_batches}, the number of batches; got {fine_tail}")
        if ((mix < 1 or fine_tail) and num_fine < 1) or (mix > 0 and num_auto < 1):
            raise ValueError(f"mix {mix} needs images of both kinds it draws; got {num_fine} fine, {num_auto} auto")
        if not 0 <= rank < world:
            raise ValueError(f"rank must lie in 0..{world - 1}; got {rank}")
        self.num_images = (num_fine, num_auto)
        self.batch_size, self.num_batches, self.start = batch_size, num_batches, start
        self.rank, self.world, self.seed = rank, world, seed
        self._auto_per_batch = Fraction(mix).limit_denominator(10_000) * batch_size
        self._mixed = mixed

    def __len__(self) -> int:
        return max(0, self.num_batches - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.num_batches):
            yield self.batch(step)

    def batch(self, step: int) -> list[int]:
        """The positions of one batch: fine images first, then auto-labeled ones."""
        return [draw.position for draw in self.draws(step)]

    def draws(self, step: int) -> list[Draw]:
        """One batch with the number of each draw, which tells the same image in two passes over the data apart.

        Where the mix is met in every batch, the draws of a step by all processes together are those that one process
        with as large a batch makes.
        """
        auto_before, auto_after = self._auto_until(step), self._auto_until(step + 1)
        fine_before = step * self.batch_size - auto_before
        num_auto = auto_after - auto_before
        return [
            *self._take(FINE, fine_before, self.batch_size - num_auto),
            *self._take(AUTO, auto_before, num_auto),
        ]

    def _auto_until(self, step: int) -> int:
        """Auto-labeled images of one rank in all batches before `step`."""
        return int(self._auto_per_batch * min(step, self._mixed))

    def _take(self, kind: int, before: int, count: int) -> list[Draw]:
        """This rank's `count` images of a kind, after every rank has had `before` of them."""
        first, size = self.world * before + self.rank * count, self.num_images[kind]
        start = 0 if kind == FINE else self.num_images[FINE]
        return [
            Draw(kind=kind, number=n, position=start + int(_order(self.seed, kind, n // size, size)[n % size]))
            for n in range(first, first + count)
        ]


@lru_cache(maxsize=4)
def _order(seed: int, kind: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The shuffled order of a part in one pass over it."""
    return np.random.default_rng((seed, kind, epoch)).permutation(size)
