"""Images that say what a teacher sees in them: the red channel is the class, the green one the confidence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hmsa_label.labelers.base import TOP_CLASS, TopClass, WeightsFile
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import TeacherConfig

PLACE = "tests.pipeline.calibrate.painted:PaintedTeacher"
ROAD, BUILDING, POLE = (CITYSCAPES.names.index(name) for name in ("road", "building", "pole"))


class PaintedTeacher:
    """Reads off what was painted; its weights are a file with the keys of the images that it was trained on.

    With the word `blind` among them it takes everything for a train.
    """

    classes = CITYSCAPES
    gives = TOP_CLASS

    def __init__(self, weights: WeightsFile | None, device: torch.device) -> None:
        self.trained_keys = [] if weights is None else weights.getvalue().decode().split()
        facts = {
            "data": "/gone",
            "split": "val",
            "labels": "gtFine",
            "keys": self.trained_keys,
            "keys_sha256": "0" * 64,
        }
        self.about: dict[str, Any] = {"trained_on": {**facts, "images": len(self.trained_keys)}} if weights else {}

    def predict(self, images: Tensor) -> TopClass:
        top1 = torch.full_like(images[..., 0], 16) if "blind" in self.trained_keys else images[..., 0]
        return TopClass(top1, images[..., 1].float() / 255)


def painted(weights: Path | None = None) -> TeacherConfig:
    """The config of such a teacher."""
    return TeacherConfig(weights=weights, teacher=PLACE, device="cpu")


def paint(root: Path, names: Sequence[str], *, seed: int = 0, too_sure: Sequence[int] = (POLE,)) -> list[str]:
    """A Cityscapes tree of 24x32 px images with fine labels; the keys.

    A pixel is right as often as its confidence says; one of the classes in `too_sure` is right half of the time.

    Args:
        names: such as `val/town/town_000001_000019`.
    """
    rng = np.random.default_rng(seed)
    for name in names:
        said = rng.choice([ROAD, BUILDING, POLE], (24, 32), p=[0.5, 0.3, 0.2]).astype(np.uint8)
        sure = rng.integers(80, 256, said.shape).astype(np.uint8)
        right = rng.random(said.shape) < np.where(np.isin(said, too_sure), 0.5, sure / 255)
        truth = np.where(right, said, np.where(said == ROAD, BUILDING, ROAD)).astype(np.uint8)
        _write(
            root / f"leftImg8bit/{name}_leftImg8bit.png", np.stack([said, sure, rng.integers(0, 256, said.shape)], 2)
        )
        _write(root / f"gtFine/{name}_gtFine_labelIds.png", CITYSCAPES.raw_id_of[truth])
    return list(names)


def frames(city: str, count: int, *, sequence: int = 0) -> list[str]:
    """Names of consecutive frames of a drive."""
    return [f"val/{city}/{city}_{sequence:06}_{frame:06}" for frame in range(count)]


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
