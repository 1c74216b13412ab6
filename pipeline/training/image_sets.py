"""What the training of a trunk reads: images in one folder per class, and their random crops."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.pipeline.config import to_dict
from hmsa_label.pipeline.data.class_folders import ClassFolders, open_class_folders
from hmsa_label.pipeline.data.sampler import Draw, MixedBatchSampler
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.software import git_state, package_version
from hmsa_label.pipeline.training.config import AugmentConfig, TrainConfig
from hmsa_label.pipeline.training.crops import CropSampler, dealt_out, dropout_seed, keys_digest
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.image_augment import center_crop, random_crop
from hmsa_label.pipeline.training.lineage import SHOWN, file_digests
from hmsa_label.pipeline.training.step_total import Counts
from hmsa_label.stores.files import public_uri

Cache = Callable[[str, Callable[[], bytes]], bytes]


@dataclass
class ImageCrops(Dataset[tuple[Tensor, ...]]):
    """Item: (image [h, w, 3] uint8, number of its class, int64, seed of what is left out for it, int64).

    All is a function of (seed, draw).
    """

    images: ClassFolders
    augment: AugmentConfig
    seed: int

    def __getitem__(self, draw: Draw) -> tuple[Tensor, ...]:
        rng = np.random.default_rng((self.seed, draw.kind, draw.number))
        image, label = self.images.pair(draw.position)
        crop = random_crop(image, self.augment.crop_px, rng)
        if self.augment.flip and rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        return torch.from_numpy(crop), torch.tensor(label), dropout_seed(self.seed, draw)


@dataclass(frozen=True, kw_only=True)
class ImageSets:
    """Images to train and to validate on; has what `sets.TrainingSets` has.

    Attributes:
        val_refs: numbers of the images to validate on, which may be none.
    """

    config: TrainConfig
    processes: Processes
    images: ClassFolders
    val: ClassFolders | None
    label_version: None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> ImageClasses:
        return self.images.classes

    @property
    def val_refs(self) -> range:
        return range(0 if self.val is None else len(self.val))

    def val_pair(self, index: int) -> tuple[U8, int]:
        """(middle of the image [h, w, 3] uint8 RGB, number of its class) of an image to validate on."""
        assert self.val is not None
        image, label = self.val.pair(index)
        return center_crop(image, self.config.augment.crop_px), label

    def counts(self, labels: Tensor) -> Counts:
        """What the labels of a pass [N] add to the total of their step: whole images have no pixels to count."""
        return np.zeros(3, np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the images."""
        return max(1, math.ceil(len(self.images) / self.config.batch_size))

    def sampler(self, start: int, total_steps: int) -> CropSampler:
        """This process's batches from step `start` on."""
        config = self.config
        mixed = MixedBatchSampler(
            len(self.images), 0, config.batch_size, total_steps, mix=0.0, seed=config.seed, start=start
        )
        return dealt_out(mixed, config, self.processes)

    def crops(self, cached: Cache) -> ImageCrops:
        """The crops that the batches name; nothing is looked for, so nothing is cached."""
        return ImageCrops(self.images, self.config.augment, self.config.seed)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What a checkpoint says of its training."""
        data = self.config.data
        trained_on = {
            "data": public_uri(data.root),
            "split": data.split,
            "labels": "folders",
            "images": len(self.images),
            "keys_sha256": keys_digest(self.images.keys),
        }
        return {
            "classes": self.classes.to_dict(),
            "config": to_dict(self.config),
            "hmsa_label": package_version(),
            "code": git_state(),
            "trained_on": trained_on,
        }


def open_image_sets(config: TrainConfig, processes: Processes) -> ImageSets:
    """Lists the images of a training.

    Raises:
        ValueError: no classes, classes to validate on that nothing is trained on, or images in both parts.
    """
    data = config.data
    images = open_class_folders(data.root, data.split, limit=data.limit, storage_options=data.storage_options)
    val = None
    if config.val_split:
        val = open_class_folders(
            data.root, config.val_split, classes=images.classes, storage_options=data.storage_options
        )
        _refuse_images_in_both(images, val)
    return ImageSets(config=config, processes=processes, images=images, val=val)


def _refuse_images_in_both(images: ClassFolders, val: ClassFolders) -> None:
    """Raises ValueError if images of the same name and content are trained and validated on."""
    common = set(images.keys) & set(val.keys)
    digests = [file_digests(part.source, [ref for ref in part.refs if ref.key in common]) for part in (images, val)]
    if both := sorted(key for key in common if digests[0][key] == digests[1][key]):
        raise ValueError(
            f"{len(both)} images of {val.source.root} are trained on, too ({', '.join(both[:SHOWN])}), so scores on "
            "them would mean nothing; validate on others (--val-split, empty for none)"
        )
