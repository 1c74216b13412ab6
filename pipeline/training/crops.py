"""Training crops as a pure function of (seed, kind and number of the draw), so that any step can be repeated."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.labelers.taxonomy import IGNORE_INDEX, ClassTable
from hmsa_label.pipeline.data.sampler import Draw, MixedBatchSampler
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.training.augment import augment
from hmsa_label.pipeline.training.class_tiles import ClassTiles, find_classes
from hmsa_label.pipeline.training.config import AugmentConfig, TrainConfig
from hmsa_label.pipeline.training.distributed import Processes

FULL_WEIGHT = 255
LabelMap = NDArray[Any]  # [H, W] uint8 trainIds, or int32 panoptic map


class LabelSet(Protocol):
    """Images with labels: `datasets.FineLabelDataset` or `AutoLabelDataset`.

    Attributes:
        keys: names of the images. digest: hex sha256 that changes when any label does.
    """

    keys: list[str]
    classes: ClassTable

    @property
    def digest(self) -> str: ...

    def pair(self, index: int) -> tuple[U8, U8]: ...

    def panoptic_pair(self, index: int) -> tuple[U8, NDArray[np.int32]]: ...

    def label(self, index: int) -> U8: ...

    def weights(self, index: int) -> NDArray[np.float32] | None: ...


@dataclass
class CropSampler:
    """Batches of crops for one process, for `DataLoader(..., batch_sampler=...)`.

    The crops of a step are those that `mixed`, which knows of no processes, draws. They are dealt out over all forward
    passes of all processes, fine and other images evenly; `passes` batches of each step are this process's.
    """

    mixed: MixedBatchSampler
    passes: int
    rank: int = 0
    world: int = 1

    def __len__(self) -> int:
        return len(self.mixed) * self.passes

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.mixed.start, self.mixed.num_batches):
            draws = self.mixed.draws(step)
            first, parts = self.rank * self.passes, self.world * self.passes
            yield from (draws[part::parts] for part in range(first, first + self.passes))


def dealt_out(mixed: MixedBatchSampler, config: TrainConfig, processes: Processes) -> CropSampler:
    """This process's part of the batches.

    Raises:
        ValueError: the batch size cannot be dealt out evenly.
    """
    world = processes.world
    if config.batch_size % (world * config.accumulate):
        raise ValueError(
            f"--batch-size {config.batch_size} must be a multiple of {world} processes x {config.accumulate} passes "
            "(--accumulate)"
        )
    return CropSampler(mixed, config.accumulate, processes.rank, world)


@dataclass
class TrainingCrops(Dataset[tuple[Tensor, ...]]):
    """Item: (image [h, w, 3] uint8, trainIds or panoptic map [h, w] int64, seed of its dropout, int64) of a crop.

    Its weights [h, w] float32 come last where they are wanted. All is a function of (seed, draw).

    A share of `augment.class_uniform` of the crops is drawn by class instead: from the same label set, so that the mix
    stays exact, around a pixel of the class.

    Attributes:
        sets: the fine labels, and those mixed with them if there are any.
        tiles: of each set, where the classes are; None where crops are not drawn by class.
        weighted: pixels have weights. panoptic: labels are panoptic maps.
    """

    sets: list[LabelSet]
    tiles: list[ClassTiles | None]
    augment: AugmentConfig
    seed: int
    weighted: bool = False
    panoptic: bool = False

    def __getitem__(self, draw: Draw) -> tuple[Tensor, ...]:
        rng = np.random.default_rng((self.seed, draw.kind, draw.number))
        labels, tiles = self.sets[draw.kind], self.tiles[draw.kind]
        index = draw.position - sum(len(before.keys) for before in self.sets[: draw.kind])
        place = tiles.draw(rng) if tiles is not None and rng.random() < self.augment.class_uniform else None
        if place is not None:
            index = place.image
        image, label = self._pair(labels, index)
        center = tiles.pixel(train_ids_of(label), place, rng) if tiles is not None and place is not None else None
        void = void_of(label)
        if not self.weighted:
            image, label = augment(image, label, self.augment, rng, center, void=void)
            return torch.from_numpy(image), torch.from_numpy(label.astype(np.int64)), dropout_seed(self.seed, draw)
        maps = np.dstack([label, _weight_map(labels.weights(index), label)])
        image, maps = augment(image, maps, self.augment, rng, center, void=(void, FULL_WEIGHT))
        weights = maps[..., 1].astype(np.float32) / FULL_WEIGHT
        label = maps[..., 0].astype(np.int64)
        return (
            torch.from_numpy(image),
            torch.from_numpy(label),
            dropout_seed(self.seed, draw),
            torch.from_numpy(weights),
        )

    def _pair(self, labels: LabelSet, index: int) -> tuple[U8, LabelMap]:
        return labels.panoptic_pair(index) if self.panoptic else labels.pair(index)


def dropout_seed(seed: int, draw: Draw) -> Tensor:
    """Seed of what is left out for an image, such as dropout, int64."""
    # A stream beside that of the augmentation, which has no fourth number.
    return torch.tensor(np.random.default_rng((seed, draw.kind, draw.number, 1)).integers(2**62))


def train_ids_of(label: LabelMap) -> U8:
    """[H, W] uint8 trainIds of a label map of either kind; 255 where it is void."""
    return label if label.dtype == np.uint8 else (label // DIVISOR).astype(np.uint8)


def void_of(label: LabelMap) -> int:
    """What a pixel without label has in a label map of its kind."""
    return IGNORE_INDEX if label.dtype == np.uint8 else VOID


def _weight_map(weights: NDArray[np.float32] | None, label: LabelMap) -> U8:
    """Weights in 255ths; all of them full if there are none."""
    if weights is None:
        return np.full(label.shape, FULL_WEIGHT, np.uint8)
    return np.round(weights * FULL_WEIGHT).astype(np.uint8)


def tiles_of(
    labels: LabelSet, tile_px: tuple[int, int], cached: Callable[[str, Callable[[], bytes]], bytes]
) -> ClassTiles:
    """Where the classes of a label set are, from the cache if it was looked for before.

    Args:
        cached: (name of a file, function that makes its content) -> its content. The name carries the digest of the
            labels and the tile size, so that it can never be stale.
    """

    def find() -> bytes:
        return find_classes(labels.label, len(labels.keys), labels.classes.num_classes, tile_px).to_bytes()

    key = hashlib.sha256(f"{labels.digest} {tile_px}".encode()).hexdigest()[:16]
    return ClassTiles.from_bytes(cached(f"class_tiles-{key}.npz", find))


def keys_digest(keys: list[str]) -> str:
    """sha256 over the sorted keys of a list of images, one per line."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
