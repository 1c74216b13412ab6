"""Training crops as a pure function of (seed, sample number), so that any step can be repeated or resumed."""

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.augment import augment
from hmsa_label.pipeline.config import AugmentConfig
from hmsa_label.pipeline.decode import decode_labels
from hmsa_label.pipeline.evaluate import read_pair
from hmsa_label.stores.images import ImageRef, ImageSource


def keys_digest(refs: list[ImageRef]) -> str:
    """sha256 over the sorted keys of a list of images, one per line."""
    return hashlib.sha256("\n".join(sorted(ref.key for ref in refs)).encode()).hexdigest()


def images_with_class(source: ImageSource, refs: list[ImageRef], classes: ClassTable) -> dict[int, list[int]]:
    """trainId -> positions in `refs` whose labels hold at least one pixel of it; classes without any are left out."""

    def present(ref: ImageRef) -> list[int]:
        labels = classes.train_id_of[decode_labels(source.read(str(ref.labels)))]
        return [int(label) for label in np.unique(labels) if label < classes.num_classes]

    found: dict[int, list[int]] = defaultdict(list)
    with ThreadPoolExecutor(4) as pool:
        for position, labels in enumerate(pool.map(present, refs)):
            for label in labels:
                found[label].append(position)
    return dict(sorted(found.items()))


@dataclass
class TrainingCrops(Dataset[tuple[Tensor, Tensor]]):
    """Item g is the g-th sample of an endless stream: (image [h, w, 3] uint8, labels [h, w] int64).

    Every image is used once per pass over the data, in a shuffled order of its own for each pass. A share of
    `augment.class_uniform` of the samples is drawn by class instead: a class uniformly among those present, one of
    the images that hold it, and a crop around one of its pixels there.
    """

    source: ImageSource
    refs: list[ImageRef]
    classes: ClassTable
    augment: AugmentConfig
    seed: int
    by_class: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        wanted = self.augment.class_uniform > 0
        self.by_class = images_with_class(self.source, self.refs, self.classes) if wanted else {}

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        position, train_id = self._choose(index, rng)
        image, labels = read_pair(self.source, self.refs[position], self.classes)
        centre = None
        if train_id is not None:
            pixels = np.flatnonzero(labels == train_id)
            y, x = divmod(int(pixels[rng.integers(len(pixels))]), labels.shape[1])
            centre = (y, x)
        image, labels = augment(image, labels, self.augment, rng, centre)
        return torch.from_numpy(image), torch.from_numpy(labels.astype(np.int64))

    def _choose(self, index: int, rng: np.random.Generator) -> tuple[int, int | None]:
        if self.by_class and rng.random() < self.augment.class_uniform:
            train_id = list(self.by_class)[rng.integers(len(self.by_class))]
            positions = self.by_class[train_id]
            return positions[rng.integers(len(positions))], train_id
        epoch, place = divmod(index, len(self.refs))
        order = np.random.default_rng((self.seed, 2**32 + epoch)).permutation(len(self.refs))
        return int(order[place]), None
