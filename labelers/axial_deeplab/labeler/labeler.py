"""Panoptic networks as a labeler: whole images at several sizes, then centers, grouping and merging."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hmsa_label.labelers.axial_deeplab.checkpoint import read_network
from hmsa_label.labelers.axial_deeplab.labeler.options import AxialDeepLabOptions, post_processing
from hmsa_label.labelers.axial_deeplab.labeler.passes import Passes, Semantics
from hmsa_label.labelers.axial_deeplab.labeler.room import Room
from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.base import PANOPTIC, LabelerBase, NotFinite, Panoptic, Part, Place, Result, View, WeightsFile
from hmsa_label.labelers.inference.batches import in_smaller_batches
from hmsa_label.labelers.panoptic.predict import predict


class AxialDeepLabLabeler(LabelerBase):
    """The panoptic networks of this package; see `LabelerBase` for the attributes.

    Attributes:
        takes_semantics: classes may come from another teacher, which knows them better; centers and offsets stay its
            own (`load`).
        num_views: one for each pass of the network (a scale, or its mirror image), before merging, and one for the
            other teacher.
    """

    gives = PANOPTIC
    precisions = ("fp32", "bf16", "fp16")
    checks_itself = True
    takes_semantics = True
    identity = staticmethod(AxialDeepLabOptions.identity)

    @classmethod
    def load(
        cls, weights: WeightsFile | None, place: Place, semantics: Semantics | None = None, **options: Any
    ) -> "AxialDeepLabLabeler":
        """The labeler of a checkpoint of ours.

        Args:
            semantics: gives the probabilities [N, K, H, W] float32 of the same classes for images [N, H, W, 3] uint8
                RGB, in place of the network's own.

        Raises:
            ValueError: weights and options cannot be used.
        """
        if weights is None:
            raise ValueError("this teacher has no network without --weights")
        return cls(weights, place, AxialDeepLabOptions(**options), semantics)

    def __init__(
        self, weights: WeightsFile, place: Place, options: AxialDeepLabOptions, semantics: Semantics | None
    ) -> None:
        net, self.classes, checkpoint = read_network(weights.getvalue(), weights.name)
        self._options, self._place = options, place
        self._passes = Passes(net, place, options, semantics)
        self.num_views = self._passes.num_views
        self._room = Room(
            lambda: shapes_of(checkpoint["model"], self.classes.num_classes, place, options),
            largest_scale=max(options.scales),
            low_precision=place.precision != "fp32" and place.device.type == "cpu",
            # on a GPU another kernel may compute a batch, and round otherwise; on a CPU a batch saves nothing
            batches=place.device.type == "cuda",
            budget_bytes=place.allowed_bytes(),
        )
        drawn = (checkpoint.get(kind) or {} for kind in ("trained_on", "coarse_labels"))
        self.trained_keys = frozenset(key for part in drawn for key in part.get("keys", ()))
        self.about = {
            "model": checkpoint["model"],
            "trained_on": checkpoint["trained_on"],
            "val_split": (checkpoint.get("config") or {}).get("val_split"),
        }

    def in_parts(
        self, images: Tensor, work: Callable[[Iterator[Part], str | None], Result], views: bool = False
    ) -> Result:
        """See `LabelerBase`; images are never cut, for an instance may go through all of one.

        Raises:
            DoesNotFit: an image needs more memory than there is.
            NotFinite: the network gave NaN or infinite numbers for an image.
        """
        most = self._room.images_at_once((images.shape[1], images.shape[2]), len(images))
        return in_smaller_batches(
            most,
            lambda at_once: work(self._parts(images, at_once, views), f"batches of {at_once}"),
            lambda: work(self._parts(images, 1, views), None),
            self._free,
        )

    def explain(self, image: Tensor) -> list[View]:
        """The classes of each size alone, and where they come from another teacher those of both; none of one size."""
        return self._passes.views(image)

    def _parts(self, images: Tensor, at_once: int, views: bool) -> Iterator[Part]:
        rows, columns = slice(0, images.shape[1]), slice(0, images.shape[2])
        for start in range(0, len(images), at_once):
            batch = images[start : start + at_once]
            alone: list[Tensor] | None = [] if views else None
            yield Part(slice(start, start + len(batch)), rows, columns, self._labeled(batch, alone), alone or ())

    def _labeled(self, batch: Tensor, views: list[Tensor] | None) -> Panoptic:
        maps = self._passes.maps(batch, views)
        for name, values in zip(("classes", "centers", "offsets"), maps, strict=True):
            if not torch.isfinite(values).all():
                full = self._place.precision == "fp32"
                way_out = "its weights are no good for this image: train it again" if full else "use --precision fp32"
                raise NotFinite(f"the network gave NaN or infinite {name} in {self._place.precision}; {way_out}")
        settings = post_processing(self._options, (batch.shape[1], batch.shape[2]))
        return predict(*maps, self.classes.things, settings)

    def _free(self) -> None:
        """Gives back the memory of a pass that failed."""
        gc.collect()
        if self._place.device.type == "cuda":
            torch.cuda.empty_cache()


def shapes_of(model: str, num_classes: int, place: Place, options: AxialDeepLabOptions) -> Passes:
    """The passes of a network without weights, for counting what they take."""
    meta = torch.device("meta")
    with meta:
        net = build_axial_deeplab(model, num_classes)
    return Passes(net, replace(place, device=meta), options, None)
