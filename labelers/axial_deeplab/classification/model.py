"""Trunks with a classification layer as models that can be trained (`labelers.training.TrainableModel`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hmsa_label.labelers.axial_deeplab.classification.settings import TrunkLoss
from hmsa_label.labelers.axial_deeplab.models import build_classifier
from hmsa_label.labelers.axial_deeplab.net import TrunkClassifier
from hmsa_label.labelers.axial_deeplab.start import load_classifier_start
from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.labelers.layers.image_norm import training_pass
from hmsa_label.labelers.training import IMAGE, Score, StepTotal

SCORE = "top1"


class TrunkModel:
    """The trunk of a network of `labelers.axial_deeplab.models`, trained on classes of whole images."""

    score = SCORE
    settings = TrunkLoss
    labels = IMAGE
    labeler = ""  # it labels no pixels

    def __init__(self, name: str) -> None:
        """The classifier called `name` there."""
        self.name = name

    def describe(self, settings: TrunkLoss) -> dict[str, Any]:
        """Nothing: name and classes make the network."""
        return {}

    def check(self, info: Mapping[str, Any]) -> None:
        """Raises ValueError unless a checkpoint names the classes of images."""
        ImageClasses.from_dict(info.get("classes"))

    def build(self, num_classes: int, info: Mapping[str, Any]) -> TrunkClassifier:
        """The classifier with fresh weights; see `build_classifier`."""
        return build_classifier(self.name, num_classes)

    def load_start(
        self, net: nn.Module, data: bytes, source: str, *, classes: ImageClasses, new_class_heads: bool
    ) -> None:
        """Start values from a checkpoint of the same trunk, or from the released ImageNet weights."""
        assert isinstance(net, TrunkClassifier)
        load_classifier_start(net, data, source, classes=classes, new_class_heads=new_class_heads)

    def objective(
        self, net: nn.Module, settings: TrunkLoss, classes: ImageClasses, dtype: torch.dtype
    ) -> "TrunkObjective":
        """Cross-entropy with label smoothing."""
        assert isinstance(net, TrunkClassifier)
        return TrunkObjective(net, settings, dtype)

    def validation(
        self, net: nn.Module, settings: TrunkLoss, classes: ImageClasses, device: torch.device, dtype: torch.dtype
    ) -> "Top1":
        """Share of the images whose most likely class is theirs."""
        assert isinstance(net, TrunkClassifier)
        return Top1(net, device, dtype)

    def labeler_options(self, net: nn.Module, settings: TrunkLoss) -> dict[str, Any]:
        """None: it labels no pixels."""
        return {}


class TrunkObjective(nn.Module):
    """A classifier and its loss (`labelers.training.Objective`)."""

    def __init__(self, net: TrunkClassifier, settings: TrunkLoss, dtype: torch.dtype) -> None:
        """Forward passes are computed in `dtype`; the loss always in float32."""
        super().__init__()
        self.net, self.settings, self.dtype = net, settings, dtype

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        seeds: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        step: StepTotal | None = None,
    ) -> Tensor:
        """The loss, a scalar: the part that these images have in that of their step.

        Args:
            images: [N, H, W, 3] uint8 RGB.
            labels: [N] int64 classes.
            seeds: [N] int64, of the blocks that are left out for each image; None draws them from torch's generator.
            weights: None; whole images have no pixels to weigh.
            step: all that the step holds; None if it is these images.
        """
        with training_pass(self.net, images, seeds, self.dtype) as x:
            logits = self.net(x)
        total = F.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing, reduction="sum")
        return total / (len(images) if step is None else step.images)


class Top1:
    """Counts images that are right (`labelers.training.Validation`).

    Attributes:
        counts: [2] int64: images that are right, and all.
    """

    def __init__(self, net: TrunkClassifier, device: torch.device, dtype: torch.dtype) -> None:
        self.net, self.device, self.dtype = net, device, dtype
        self.counts: NDArray[np.int64] = np.zeros(2, np.int64)

    def add(self, image: NDArray[np.uint8], label: int) -> None:
        """Counts one image [H, W, 3] uint8 RGB of a class."""
        was_training = self.net.training
        x = self.net.eval().normalize(torch.from_numpy(image)[None].to(self.device))
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            found = int(self.net(x).argmax())
        self.net.train(was_training)
        self.counts += (found == label, 1)

    def score(self) -> Score:
        """Share of the images that are right."""
        return Score(name=SCORE, value=float(self.counts[0] / max(1, self.counts[1])), parts={})
