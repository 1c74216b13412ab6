"""A stand-in for a teacher, for tests and benchmarks of the engine alone: a plug-in as anybody may write one.

    fake()                    labels at once
    fake(ms=200)              takes 0.2 s per image, most of it asleep, as if a device were at work
    fake(seed=3)              another teacher: other labels, another digest
    fake(kill="1,2,3")        ends its process when the first pixel of an image is RGB (1, 2, 3)
    fake(hang="4,5,6")        never comes back from such an image
    fake(nan="7,8,9")         gives NaN for such an image; nan="all" for every one
    fake(start="fail")        cannot be loaded; "crash" ends its process while loading, "hang" never ends
    fake(instances=True)      tells instances apart: rectangles over the rest, and some pixels of nothing
    fake(views=3)             gives the probabilities of all classes, taken from three views that often disagree

Labels are a pure function of pixels and seed.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmsa_label.labelers.base import PANOPTIC, PROBABILITIES, TOP_CLASS, Instance, Panoptic, TopClass
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import TeacherConfig

PLACE = "tests.fake_teacher:FakeTeacher"
RECTANGLES = 6  # drawn over each other; those that are covered are no instances


def fake(**options: Any) -> TeacherConfig:
    """The config of a fake teacher."""
    return TeacherConfig(weights=None, teacher=PLACE, options=options, device="cpu")


def fake_arguments(**options: Any) -> list[str]:
    """`fake` on the command line, in place of `--weights FILE`; `tests` must be importable there."""
    arguments = ["--weights", "none", "--teacher", PLACE, "--device", "cpu"]
    return [*arguments, "--teacher-options", json.dumps(options)] if options else arguments


class FakeTeacher:
    """See the module; `seed`, `instances` and `views` alone decide the labels."""

    classes = CITYSCAPES
    takes_semantics = True  # of stuff; its rectangles stay where they are

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
        instances: bool = False,
        views: int = 1,
        semantics: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._semantics = semantics
        self.gives = PANOPTIC if instances else TOP_CLASS if views == 1 else PROBABILITIES
        self.num_views = views
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
        told = {name: options[name] for name in ("instances", "views") if options.get(name)}
        return {"options": {"seed": options.get("seed", 0), **told}}

    def predict(self, images: Tensor) -> Tensor | TopClass | Panoptic:
        done_at = time.monotonic() + self._seconds * len(images)
        pixels = images.numpy().astype(np.uint16)
        red, green, blue = (pixels[..., channel] for channel in range(3))
        top1 = ((red // 13 + green // 7 + blue // 3 + self._seed) % self.classes.num_classes).astype(np.uint8)
        confidence = ((red * 5 + green * 3 + blue) % 256).astype(np.float32) / np.float32(255)
        for image, sure in zip(images, confidence, strict=True):
            self._misbehave(",".join(str(int(value)) for value in image[0, 0]), sure)
        time.sleep(max(0.0, done_at - time.monotonic()))
        flat = TopClass(torch.from_numpy(top1), torch.from_numpy(confidence))
        if self.num_views > 1:
            return self._probabilities(pixels, flat)
        return flat if self.gives == TOP_CLASS else self._with_instances(images, flat)

    def predict_views(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Views that see the class of the prediction, or the next one where the first channel of a pixel says so."""
        probabilities = self.predict(images)
        top1 = probabilities.argmax(1)
        other = (top1 + 1) % self.classes.num_classes
        return probabilities, [
            torch.where(images[..., 0] % (view + 2) == 0, other, top1) for view in range(self.num_views)
        ]

    def _probabilities(self, pixels: np.ndarray, flat: TopClass) -> Tensor:
        """[N, K, H, W]: at least a half for the class, of the rest a part for another one, as the colors say."""
        best = 0.5 + flat.confidence / 2
        second = (1 - best) * torch.from_numpy((1 + pixels[..., 1] % 4).astype(np.float32)) / 5
        count = self.classes.num_classes
        found = ((1 - best - second) / (count - 2))[:, None].repeat(1, count, 1, 1)
        other = (flat.top1.long() + 1 + torch.from_numpy((pixels[..., 2] % 5).astype(np.int64))) % count
        found.scatter_(1, other[:, None], second[:, None])
        return found.scatter_(1, flat.top1.long()[:, None], best[:, None])

    def _with_instances(self, images: Tensor, flat: TopClass) -> Panoptic:
        """Stuff and void of the pixels' colors, and rectangles of things that a digest of the whole image places."""
        stuff, void = min(self.classes.things), images[..., 0] < 16
        if self._semantics is not None:
            sure, top1 = self._semantics(images)[:, :stuff].max(1)
            flat = TopClass(top1.to(torch.uint8), sure)
        top1 = torch.where(void, self.classes.ignore_index, flat.top1 % stuff)
        confidence = torch.where(void & ~flat.confidence.isnan(), 0.0, flat.confidence.clamp(max=0.95))
        instance, lists = torch.zeros(top1.shape, dtype=torch.int32), []
        for index, image in enumerate(images):
            digest = hashlib.sha256(image.numpy().tobytes() + bytes([self._seed])).digest()
            draws = np.random.default_rng(list(digest))
            drawn = np.zeros(image.shape[:2], np.int64)
            for number in range(1, RECTANGLES + 1):
                y, x = (int(draws.integers(0, length)) for length in drawn.shape)
                height, width = draws.integers(1, 1 + np.array(drawn.shape) // 2)
                drawn[y : y + height, x : x + width] = number
            lists.append([])
            for number, drawing in enumerate(np.unique(drawn[drawn > 0]), 1):
                inside = torch.from_numpy(drawn == drawing)
                train_id = int(draws.choice(self.classes.things))
                top1[index][inside], instance[index][inside] = train_id, number
                confidence[index][inside] = confidence[index][inside].clamp(min=0.05)
                rows, columns = np.nonzero(inside.numpy())
                x, y = int(columns.min()), int(rows.min())
                box = x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y
                sure = float(confidence[index][inside].double().mean())
                lists[-1].append(Instance(train_id, float(draws.random()), sure, len(rows), box))
        return Panoptic(top1.to(torch.uint8), confidence, instance, lists)

    def _misbehave(self, first: str, confidence: np.ndarray) -> None:
        if self._nan in (first, "all"):
            confidence[:] = np.nan
        if first == self._kill:
            os._exit(42)
        while first == self._hang:
            time.sleep(60)
