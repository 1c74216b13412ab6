"""Settings of trainings that take seconds on one core."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.pipeline.config import DataConfig
from hmsa_label.pipeline.training.config import AugmentConfig, ModelConfig, TrainConfig


def tiny_training(data: Path, output: Path, *, crop_px: tuple[int, int] = (32, 32), **changes: Any) -> TrainConfig:
    """The smallest network on small crops, in float32 on one thread; all else as users get it, or as `changes` say.

    Settings of the loss, such as `low_scale`, go to `objective`.
    """
    loss = {name: changes.pop(name) for name in list(changes) if name in HmsaLoss.__dataclass_fields__}
    return replace(
        TrainConfig(
            data=DataConfig(root=str(data), split="train"),
            output=str(output),
            model=ModelConfig(name="hrnet_tiny_ocr"),
            augment=AugmentConfig(crop_px=crop_px, scale_range=(0.8, 1.25), colour_jitter=0.05),
            objective=HmsaLoss(**{"loss": "ce", **loss}),
            batch_size=2,
            device="cpu",
            precision="fp32",
            cpu_threads=1,
        ),
        **changes,
    )


def tiny_panoptic_training(data: Path, output: Path, **changes: Any) -> TrainConfig:
    """The smallest panoptic network; all else as in `tiny_training`."""
    loss = PanopticLoss(center_sigma_px=4.0, small_area_px=256, stuff_area_px=64)
    model = ModelConfig(name="axial_deeplab_tiny")
    return tiny_training(
        data, output, **{"model": model, "objective": loss, "optimizer": "adam", "learning_rate": 1e-3, **changes}
    )


def tiny_panoptic_net() -> nn.Module:
    """The network of `tiny_panoptic_training`, with fresh weights."""
    return build_axial_deeplab("axial_deeplab_tiny", 19)


def freeze_norms(net: nn.Module) -> None:
    """Batch norms as in inference, whatever the network is set to: what they see in training depends on the pass."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.train = lambda mode=True, layer=layer: layer  # type: ignore[method-assign,misc]
