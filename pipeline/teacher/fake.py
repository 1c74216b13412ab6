"""A stand-in for a teacher, for tests and benchmarks of the engine alone; never a default, needs no torch.

It is asked for by a URI in place of the weights: `fake:` followed by the time that one image takes, then options:

    fake:                   labels at once
    fake:200ms              takes 0.2 s per image, most of it asleep, as if a device were at work
    fake:1ms?seed=3         another teacher: other labels, another digest
    fake:?kill=1,2,3        ends its process when the first pixel of an image is RGB (1, 2, 3)
    fake:?hang=4,5,6        never comes back from such an image
    fake:?nan=7,8,9         gives NaN logits for such an image; `nan=all` for every one
    fake:?start=fail        cannot be loaded; `start=crash` ends its process while loading, `start=hang` never ends

Labels are a pure function of pixels and seed.
"""

import hashlib
import os
import re
import time
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.records import U8, LabelledImage
from hmsa_label.pipeline.teacher.device_errors import NonFiniteLogits
from hmsa_label.stores.format.evidence import code_of

PREFIX = "fake:"
_OPTIONS = ("seed", "kill", "hang", "nan", "start")


def is_fake(weights: str) -> bool:
    """Whether these weights ask for the fake teacher."""
    return weights.startswith(PREFIX)


def fake_sha256(weights: str) -> str:
    """What stands for the digest of a weights file: equal for URIs that give equal labels."""
    _, options = _parse(weights)
    return hashlib.sha256(f"fake teacher {int(options.get('seed', 0))}".encode()).hexdigest()


class FakeTeacher:
    """Same interface as `Teacher`: labels images of one size, from one thread."""

    def __init__(self, config: TeacherConfig) -> None:
        """Reads the URI.

        Raises:
            ValueError: if the URI is not understood, or asks for a failing start.
        """
        from hmsa_label.labelers.taxonomy import CITYSCAPES

        self._seconds, self._options = _parse(config.weights)
        if self._options.get("start") == "fail":
            raise ValueError(f"the teacher {config.weights} was asked not to start")
        if self._options.get("start") == "crash":
            os._exit(41)
        while self._options.get("start") == "hang":
            time.sleep(60)
        self._seed = int(self._options.get("seed", 0))
        self.classes = CITYSCAPES
        self.info: dict[str, Any] = {
            "model": "fake",
            "weights": config.weights,
            "weights_sha256": fake_sha256(config.weights),
            "trained_on": None,
            "scales": sorted(config.scales),
            "flip": config.flip,
            "fusion": config.fusion,
            "precision": "fp32",
            "device": "cpu",
        }

    def label(
        self, images: list[U8], thresholds: NDArray[np.float32], threshold: float, keep_evidence: bool
    ) -> list[LabelledImage]:
        """Labels and evidence of [H, W, 3] uint8 RGB images.

        Args:
            thresholds: [K] float32, the stored thresholds in ascending order.
            threshold: pixels below it become ignore_index.
        """
        done_at = time.monotonic() + self._seconds * len(images)
        for image in images:
            self._misbehave(image)
        labelled = [self._label(image, thresholds, threshold, keep_evidence) for image in images]
        time.sleep(max(0.0, done_at - time.monotonic()))
        return labelled

    def _label(
        self, image: U8, thresholds: NDArray[np.float32], threshold: float, keep_evidence: bool
    ) -> LabelledImage:
        red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
        top1 = ((red // 13 + green // 7 + blue // 3 + self._seed) % self.classes.num_classes).astype(np.uint8)
        confidence = ((red * 5 + green * 3 + blue) % 256).astype(np.float32) / np.float32(255)
        label = np.where(confidence >= np.float32(threshold), top1, np.uint8(self.classes.ignore_index))
        code = code_of(confidence, tuple(float(t) for t in thresholds))
        return LabelledImage(
            arrays={"label": label, **({"top1": top1, "code": code} if keep_evidence else {})},
            mean_confidence=float(confidence.mean(dtype=np.float64)),
        )

    def _misbehave(self, image: U8) -> None:
        first = ",".join(str(value) for value in image[0, 0])
        if self._options.get("nan") in (first, "all"):
            raise NonFiniteLogits("NaN or infinite logits in fp32; this teacher was asked for them")
        if first == self._options.get("kill"):
            os._exit(42)
        while first == self._options.get("hang"):
            time.sleep(60)


def _parse(weights: str) -> tuple[float, dict[str, str]]:
    """Seconds per image and options of a fake teacher's URI."""
    duration, _, query = weights.removeprefix(PREFIX).partition("?")
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)ms)?", duration)
    options = dict(parse_qsl(query, keep_blank_values=True))
    if match is None or not set(options) <= set(_OPTIONS) or "" in options.values():
        known = ", ".join(_OPTIONS)
        raise ValueError(f"{weights!r} is no fake teacher: expected fake:200ms, with options {known}, such as ?seed=1")
    return float(match[1] or 0) / 1000, options
