"""Everything a training reads: fine labels, labels mixed with them, and the images it is validated on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.datasets import AutoLabelDataset, FineLabelDataset
from hmsa_label.pipeline.data.label_checks import refuse_without_instances
from hmsa_label.pipeline.data.panoptic_labels import read_panoptic
from hmsa_label.pipeline.data.sampler import MixedBatchSampler
from hmsa_label.pipeline.data.scores import labeled_images, read_pair
from hmsa_label.pipeline.records import U8
from hmsa_label.pipeline.training.config import AutoLabels, CoarseLabels, TrainConfig
from hmsa_label.pipeline.training.crops import CropSampler, LabelMap, LabelSet, TrainingCrops, dealt_out, tiles_of
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.lineage import (
    describe_training,
    held_out_images,
    leaked_images,
    open_auto_labels,
    refuse_leak,
)
from hmsa_label.pipeline.training.step_total import Counts, count_instances, count_labels
from hmsa_label.stores.images.source import ImageRef, ImageSource

Cache = Callable[[str, Callable[[], bytes]], bytes]


@dataclass(frozen=True, kw_only=True)
class TrainingSets:
    """The label sets of a training and what is drawn from them.

    Attributes:
        fine: labels drawn by hand. second: auto labels of a store, or coarse polygons; None without a mix.
        val_refs: images to validate on, which may be none.
        panoptic: labels are panoptic maps.
        leaked: keys held out for scoring that are trained on all the same.
    """

    config: TrainConfig
    processes: Processes
    source: ImageSource
    fine: FineLabelDataset
    second: AutoLabelDataset | FineLabelDataset | None
    val_refs: list[ImageRef]
    leaked: list[str] = field(default_factory=list)
    panoptic: bool = False

    @property
    def classes(self) -> ClassTable:
        return self.fine.classes

    @property
    def auto(self) -> AutoLabelDataset | None:
        """The second labels, if they are those of a store."""
        return self.second if isinstance(self.second, AutoLabelDataset) else None

    @property
    def label_version(self) -> int | None:
        """The version of the store that is trained on."""
        return self.auto.store.version if self.auto else None

    def val_pair(self, number: int) -> tuple[U8, LabelMap]:
        """(image [H, W, 3] uint8 RGB, trainIds or panoptic map) of an image to validate on."""
        return (read_panoptic if self.panoptic else read_pair)(self.source, self.val_refs[number], self.classes)

    @property
    def notes(self) -> Sequence[str]:
        """What is to be known of the data before the first step, a line each."""
        if self.auto is None or not self.auto.left_out:
            return ()
        first, count = self.auto.left_out[0], f"{len(self.auto.left_out)} of {len(self.auto.store)}"
        return [f"{count} auto-labeled images have no labeled pixel and are left out, such as {first}"]

    @cached_property
    def about(self) -> dict[str, Any]:
        """What a checkpoint says of its training."""
        return describe_training(self.config, self.fine, self.second, self.leaked, panoptic=self.panoptic)

    def counts(self, labels: Tensor) -> Counts:
        """What the labels of a pass [N, h, w] add to the total of their step."""
        return (count_instances if self.panoptic else count_labels)(labels, self.classes)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the fine images at their share of a batch; over the others if they have none."""
        share = self.config.share_of_second
        images, share = (len(self.fine), 1 - share) if share < 1 or self.second is None else (len(self.second), 1.0)
        return max(1, math.ceil(images / (self.config.batch_size * share)))

    def sampler(self, start: int, total_steps: int) -> CropSampler:
        """This process's batches from step `start` on.

        Raises:
            ValueError: the batch size cannot be dealt out evenly.
        """
        config = self.config
        mixed = MixedBatchSampler(
            len(self.fine),
            len(self.second) if self.second is not None else 0,
            config.batch_size,
            total_steps,
            mix=config.share_of_second,
            seed=config.seed,
            start=start,
            fine_tail=round(config.fine_tail * total_steps) if self.second is not None else 0,
        )
        return dealt_out(mixed, config, self.processes)

    def crops(self, cached: Cache) -> TrainingCrops:
        """The crops that the batches name; where the classes are is looked for once and then `cached`."""
        config = self.config
        sets: list[LabelSet] = [self.fine] if self.second is None else [self.fine, self.second]
        tiles = (
            [tiles_of(labels, config.augment.crop_px, cached) for labels in sets]
            if config.augment.class_uniform
            else []
        )
        weighted = isinstance(config.second, AutoLabels) and config.second.confidence_weight
        return TrainingCrops(
            sets, [found if found.tiles else None for found in tiles] or [None] * len(sets), config.augment,
            config.seed, weighted, self.panoptic,
        )  # fmt: skip


def open_training_sets(
    config: TrainConfig, processes: Processes, label_version: int | None = None, *, panoptic: bool = False
) -> TrainingSets:
    """Opens all that a training reads, and refuses one that would be scored on what it has seen.

    Args:
        label_version: version of the store that an interrupted training was begun with.
        panoptic: the model learns from panoptic maps.

    Raises:
        ValueError: no labeled images, labels of other classes, images both trained on and held out for scoring, or
            labels that tell no instances although panoptic maps are needed.
    """
    fine = _fine(config, config.data.split, config.labels, config.data.limit)
    second: AutoLabelDataset | FineLabelDataset | None = None
    if isinstance(config.second, CoarseLabels) and config.second.split:
        second = _fine(config, config.second.split, config.second.labels, config.second.limit)
    elif isinstance(config.second, AutoLabels):
        second = open_auto_labels(config, config.second, fine.classes, label_version)
    val_refs = labeled_images(fine.source, config.val_split, config.labels) if config.val_split else []
    auto, coarse = (second, None) if isinstance(second, AutoLabelDataset) else (None, second)
    trained = [*fine.refs, *(coarse.refs if coarse else [])]
    held_out = held_out_images(fine.source, config.val_split, besides=fine.keys)
    leaked = leaked_images(fine.source, held_out, trained, auto)
    if not (isinstance(config.second, AutoLabels) and config.second.allow_leak):
        refuse_leak(leaked)
    sets = TrainingSets(
        config=config, processes=processes, source=fine.source, fine=fine, second=second, val_refs=val_refs,
        leaked=leaked, panoptic=panoptic,
    )  # fmt: skip
    if panoptic:
        _refuse_without_instances(sets)
    return sets


def _refuse_without_instances(sets: TrainingSets) -> None:
    """Raises ValueError if labels of a training tell no instances; the message names what was looked for."""
    for labels in (sets.fine, sets.second):
        if isinstance(labels, FineLabelDataset):
            refuse_without_instances(labels.source, labels.refs, labels.classes)
        elif labels is not None and (missing := sorted(set(labels.keys) - labels.store.keys_with_instances())):
            raise ValueError(
                f"{len(missing)} of {len(labels)} images of version {labels.store.version} of {labels.store.uri} have "
                f"labels without instances (such as {missing[0]}), which a panoptic model learns from; label them with "
                "a panoptic teacher, or train a semantic model"
            )
    refuse_without_instances(sets.source, sets.val_refs, sets.classes)


def _fine(config: TrainConfig, split: str, labels: str, limit: int | None = None) -> FineLabelDataset:
    data = config.data
    return FineLabelDataset(
        data.root, dataset=data.dataset, split=split, labels=labels, limit=limit, storage_options=data.storage_options
    )
