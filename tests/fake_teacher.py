"""A stand-in for a teacher, for tests and benchmarks of the engine alone: a plug-in as anybody may write one.

    fake()                    labels at once
    fake(ms=200)              takes 0.2 s per image, most of it asleep, as if a device were at work
    fake(seed=3)              another teacher: other labels, another digest
    fake(kill="1,2,3")        ends its process when the first pixel of an image is RGB (1, 2, 3)
    fake(hang="4,5,6")        never comes back from such an image
    fake(nan="7,8,9")         gives NaN for such an image; nan="all" for every one
    fake(start="fail")        cannot be loaded; "crash" ends its process while loading, "hang" never ends

Labels are a pure function of pixels and seed.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmsa_label.labelers.base import TopClass
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import TeacherConfig

PLACE = "tests.fake_teacher:FakeTeacher"


def fake(**options: Any) -> TeacherConfig:
    """The config of a fake teacher."""
    return TeacherConfig(weights=None, teacher=PLACE, options=options, device="cpu")


def fake_arguments(**options: Any) -> list[str]:
    """`fake` on the command line, in place of `--weights FILE`; `tests` must be importable there."""
    arguments = ["--weights", "none", "--teacher", PLACE, "--device", "cpu"]
    return [*arguments, "--teacher-options", json.dumps(options)] if options else arguments


class FakeTeacher:
    """See the module; `seed` alone decides the labels."""

    classes = CITYSCAPES
    gives = "top1"

    def __init__(
        self,
        weights: None,
        device: torch.device,
        ms: float = 0,
        seed: int = 0,
        kill: str | None = None,
        hang: str | None = None,
        nan: str | None = None,
        start: str | None = None,
    ) -> None:
        if start == "fail":
            raise ValueError("it was asked not to start")
        if start == "crash":
            os._exit(41)
        while start == "hang":
            time.sleep(60)
        self._seconds, self._seed = ms / 1000, seed
        self._kill, self._hang, self._nan = kill, hang, nan

    @staticmethod
    def identity(options: Mapping[str, Any]) -> dict[str, Any]:
        return {"options": {"seed": options.get("seed", 0)}}

    def predict(self, images: Tensor) -> TopClass:
        done_at = time.monotonic() + self._seconds * len(images)
        pixels = images.numpy().astype(np.uint16)
        red, green, blue = (pixels[..., channel] for channel in range(3))
        top1 = ((red // 13 + green // 7 + blue // 3 + self._seed) % self.classes.num_classes).astype(np.uint8)
        confidence = ((red * 5 + green * 3 + blue) % 256).astype(np.float32) / np.float32(255)
        for image, sure in zip(images, confidence, strict=True):
            self._misbehave(",".join(str(int(value)) for value in image[0, 0]), sure)
        time.sleep(max(0.0, done_at - time.monotonic()))
        return TopClass(torch.from_numpy(top1), torch.from_numpy(confidence))

    def _misbehave(self, first: str, confidence: np.ndarray) -> None:
        if self._nan in (first, "all"):
            confidence[:] = np.nan
        if first == self._kill:
            os._exit(42)
        while first == self._hang:
            time.sleep(60)
