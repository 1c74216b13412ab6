"""HMSA networks as models that can be trained: what `labelers.training.TrainableModel` asks for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hmsa_label.labelers.hmsa.models import build_labeler
from hmsa_label.labelers.hmsa.net import SegmentationNet, trained_scales
from hmsa_label.labelers.hmsa.training.objective import HmsaObjective
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.labelers.hmsa.training.validation import SCORE, MeanIoU
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.registry import DEFAULT_TEACHER
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import wrong_field
from hmsa_label.labelers.weights.networks import load_start


class HmsaModel:
    """A network of `labelers.hmsa.models`, trained at two scales or at one."""

    score = SCORE
    settings = HmsaLoss
    labeler = DEFAULT_TEACHER

    def __init__(self, name: str) -> None:
        """The network called `name` there."""
        self.name = name

    def describe(self, settings: HmsaLoss) -> dict[str, Any]:
        """`multi_scale`: whether the network has an attention head."""
        return {"multi_scale": settings.low_scale is not None}

    def check(self, info: Mapping[str, Any]) -> None:
        """Raises ValueError unless a checkpoint says whether it holds an attention head."""
        if not isinstance(info.get("multi_scale"), bool):
            raise wrong_field(info, "multi_scale", "true or false")

    def build(self, num_classes: int, info: Mapping[str, Any]) -> SegmentationNet:
        """The network with fresh weights; see `build_labeler`."""
        return build_labeler(self.name, num_classes, multi_scale=info["multi_scale"])

    def load_start(
        self, net: nn.Module, data: bytes, source: str, *, classes: ClassTable, new_class_heads: bool
    ) -> None:
        """Start values from a checkpoint of the same trunk and head, or from an ImageNet trunk (`weights.networks`)."""
        assert isinstance(net, SegmentationNet)
        load_start(net, data, source, classes=classes, new_class_heads=new_class_heads)

    def objective(self, net: nn.Module, settings: HmsaLoss, classes: ClassTable, dtype: torch.dtype) -> HmsaObjective:
        """The two-scale or single-scale loss, as `settings` say."""
        assert isinstance(net, SegmentationNet)
        return HmsaObjective(net, settings, dtype)

    def validation(
        self, net: nn.Module, settings: HmsaLoss, classes: ClassTable, device: torch.device, dtype: torch.dtype
    ) -> MeanIoU:
        """Mean IoU at the scales that are trained, without flip."""
        assert isinstance(net, SegmentationNet)
        scales = trained_scales(net, settings.low_scale)
        return MeanIoU(InferenceNet(net, device, dtype), scales, net.fusion, classes)

    def labeler_options(self, net: nn.Module, settings: HmsaLoss) -> dict[str, Any]:
        """Scales and fusion as in training."""
        assert isinstance(net, SegmentationNet)
        return {"scales": trained_scales(net, settings.low_scale), "fusion": net.fusion}
