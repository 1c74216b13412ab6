"""Axial-DeepLab networks as models that can be trained: what `labelers.training.TrainableModel` asks for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hmsa_label.labelers.axial_deeplab.labeler.options import AxialDeepLabOptions
from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.axial_deeplab.start import load_start
from hmsa_label.labelers.axial_deeplab.training.objective import PanopticObjective
from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.axial_deeplab.training.validation import SCORE, PanopticScore
from hmsa_label.labelers.inference.axial import for_inference
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import PANOPTIC


class AxialDeepLabModel:
    """A network of `labelers.axial_deeplab.models`, trained on panoptic maps."""

    score = SCORE
    settings = PanopticLoss
    labeler = "axial_deeplab"
    labels = PANOPTIC

    def __init__(self, name: str) -> None:
        """The network called `name` there."""
        self.name = name

    def describe(self, settings: PanopticLoss) -> dict[str, Any]:
        """Nothing: name and classes make the network."""
        return {}

    def check(self, info: Mapping[str, Any]) -> None:
        """Nothing is described."""

    def build(self, num_classes: int, info: Mapping[str, Any]) -> AxialDeepLab:
        """The network with fresh weights; see `build_axial_deeplab`."""
        return build_axial_deeplab(self.name, num_classes)

    def load_start(
        self, net: nn.Module, data: bytes, source: str, *, classes: ClassTable, new_class_heads: bool
    ) -> None:
        """Start values from a checkpoint of the same network, or a trunk alone (`axial_deeplab.start`)."""
        assert isinstance(net, AxialDeepLab)
        load_start(net, data, source, classes=classes, new_class_heads=new_class_heads)

    def objective(
        self, net: nn.Module, settings: PanopticLoss, classes: ClassTable, dtype: torch.dtype
    ) -> PanopticObjective:
        """The loss of classes, centers and offsets."""
        assert isinstance(net, AxialDeepLab)
        return PanopticObjective(net, settings, classes.things, dtype)

    def validation(
        self, net: nn.Module, settings: PanopticLoss, classes: ClassTable, device: torch.device, dtype: torch.dtype
    ) -> PanopticScore:
        """Panoptic quality at the scales that `settings` name, without mirror images."""
        assert isinstance(net, AxialDeepLab)
        options = AxialDeepLabOptions(**self.labeler_options(net, settings))
        return PanopticScore(for_inference(net, device, dtype), options, classes)

    def labeler_options(self, net: nn.Module, settings: PanopticLoss) -> dict[str, Any]:
        """Scales, and how instances are found, as in validation."""
        return {
            "scales": settings.val_scales,
            "stuff_area": settings.stuff_area_px,
            "center_kernel": settings.center_kernel_px,
        }
