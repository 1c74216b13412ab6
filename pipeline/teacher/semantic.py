"""One teacher on one device: images in, hard labels and evidence out. Weights come from disk or any URL."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers import SegmentationNet
from hmsa_label.labelers.inference.explanation import explain
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.inference.tiling import tiles
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.records import U8, Explanation, LabelledImage, ScalePart
from hmsa_label.pipeline.teacher.device_errors import NonFiniteLogits
from hmsa_label.pipeline.teacher.devices import (
    arithmetic,
    describe_device,
    dtype_of,
    resolve_device,
    resolve_precision,
    return_freed_memory,
)
from hmsa_label.pipeline.teacher.pass_memory import PassMemory
from hmsa_label.pipeline.teacher.threshold import evidence_of
from hmsa_label.pipeline.teacher.weights import read_network, read_weights
from hmsa_label.pipeline.teacher.windows import Size, describe
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.images.source import BadImage

P = ParamSpec("P")
R = TypeVar("R")


def check_fusion(net: SegmentationNet, config: TeacherConfig) -> None:
    """Holds that the network can do what is asked.

    Raises:
        ValueError: naming the options that would work.
    """
    if config.fusion not in ("hierarchical", "explicit") or config.fusion == net.fusion:
        return
    if config.fusion == "hierarchical" and config.scales == (1.0,):
        return
    way_out = {
        "single": "has no attention head; use --fusion average, or --scales 1.0",
        "explicit": "has explicit attention; use --fusion explicit",
        "hierarchical": "has hierarchical attention; use --fusion hierarchical",
    }
    raise ValueError(f"{config.weights} {way_out[net.fusion]}")


def trained_scales(net: SegmentationNet, checkpoint: dict[str, Any]) -> list[float] | None:
    """Scales that the network saw in its training, ascending; None if its file does not say."""
    if net.fusion == "explicit":
        return [float(scale) for scale in net.attention.scales]  # type: ignore[union-attr]
    if not isinstance(config := checkpoint.get("config"), dict):
        return None
    low = config.get("low_scale")
    if net.attention is None or low is None:
        return [1.0]
    return sorted({float(low), 1.0}) if isinstance(low, (int, float)) else None


def _with_own_arithmetic(method: Callable[Concatenate["Teacher", P], R]) -> Callable[Concatenate["Teacher", P], R]:
    """A method of a teacher that computes with its threads and precision, and leaves torch's settings as they were."""

    @wraps(method)
    def computing(teacher: "Teacher", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with arithmetic(teacher.device, teacher.precision, teacher.config.cpu_threads):
            return method(teacher, *args, **kwargs)

    return computing


class Teacher:
    """Labels images of one size at a time; not thread-safe, to be called from one thread.

    torch's settings for the whole process (threads, TF32, random numbers) are found as they were after every call.

    Attributes:
        classes: the class table that labels refer to.
        info: JSON-able provenance: model, weights, their sha256, what they were trained on and which split was held out
            for validation, scales, flip, fusion, precision as resolved, device.
        trained_on: keys of the images with labels drawn by hand that the weights were trained on, as far as recorded.
    """

    def __init__(self, config: TeacherConfig, memory_share: float = 1.0) -> None:
        """Loads the weights on the device.

        Args:
            memory_share: of the device's memory, 0..1, where several teachers use it.

        Raises:
            FileNotFoundError: there is no such weights file.
            ValueError: the weights, scales, device or precision cannot be used.
        """
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.config = replace(config, scales=tuple(sorted(config.scales)))
        if self.device.type == "cpu":
            return_freed_memory()
        data = read_weights(config.weights)
        net, self.classes, checkpoint = read_network(data, config.weights)
        check_fusion(net, self.config)
        self.net = InferenceNet(net, self.device, dtype_of(self.precision))
        self._room = PassMemory(self.net, net, self.config, memory_share)
        drawn = (checkpoint.get(kind) or {} for kind in ("trained_on", "coarse_labels"))
        self.trained_on = frozenset(key for part in drawn for key in part.get("keys", ()))
        self.info: dict[str, Any] = {
            "model": checkpoint["model"],
            "weights": public_uri(config.weights),
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            "trained_on": checkpoint["trained_on"],
            "trained_scales": trained_scales(net, checkpoint),
            "val_split": (checkpoint.get("config") or {}).get("val_split"),
            "scales": list(self.config.scales),
            "flip": config.flip,
            "fusion": config.fusion,
            "precision": self.precision,
            "device": describe_device(self.device, config.cpu_threads),
        }

    @_with_own_arithmetic
    @torch.inference_mode()
    def logits(self, images: list[U8]) -> Tensor:
        """Fused logits [N, K, H, W] float32 on the teacher's device, for N images [H, W, 3] uint8 RGB of one size."""
        for image in images:
            self._refuse_tiny(image)
        return torch.stack([torch.cat([block for _, _, block in self._blocks(image)], dim=1) for image in images])

    @_with_own_arithmetic
    @torch.inference_mode()
    def top1(self, image: U8) -> U8:
        """Arg-max trainIds [H, W] uint8 of an image [H, W, 3] uint8 RGB; its logits never exist as a whole."""

        def arg_max(window_px: Size) -> U8:
            top1 = torch.empty(image.shape[:2], dtype=torch.uint8, device=self.device)
            for place, logits in self._parts(image, window_px):
                top1[place] = logits.argmax(0).to(torch.uint8)
            return top1.cpu().numpy()

        return self._room.in_windows_that_fit(image.shape[:2], arg_max)

    @_with_own_arithmetic
    @torch.inference_mode()
    def explain(self, image: U8) -> Explanation:
        """How the prediction for an image [H, W, 3] uint8 RGB comes about; scales are shown without flip."""
        self._refuse_tiny(image)
        views = explain(self.net, torch.from_numpy(image), self.config.scales, self.config.fusion)
        confidence, top1 = self.logits([image])[0].softmax(0).max(0)
        return Explanation(
            scales=[
                ScalePart(scale=view.scale, top1=view.top1.cpu().numpy(), share=view.share.cpu().numpy())
                for view in views
            ],
            top1=top1.to(torch.uint8).cpu().numpy(),
            confidence=confidence.cpu().numpy(),
        )

    def _refuse_tiny(self, image: U8) -> None:
        """Raises BadImage for an image of which the smallest scale leaves nothing."""
        height, width = image.shape[:2]
        smallest = self.config.scales[0]
        if int(min(height, width) * smallest) < 1:
            least = math.ceil(1 / smallest)
            raise BadImage(
                f"the image has {height} x {width} px; the teacher's scale {smallest:g} needs {least} x {least} or more"
            )

    def _parts(self, image: U8, window_px: Size) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """(rows and columns, logits [K, R, C] float32) of parts that cover an image once."""
        self._refuse_tiny(image)
        for tile in tiles((image.shape[0], image.shape[1]), window_px):
            window = image[slice(*tile.rows), slice(*tile.columns)]
            (top, bottom), (left, right) = tile.kept_rows, tile.kept_columns
            for start, stop, logits in self._blocks(np.ascontiguousarray(window)):
                first, last = max(start + tile.rows[0], top), min(stop + tile.rows[0], bottom)
                if first < last:
                    kept = logits[:, first - tile.rows[0] - start : last - tile.rows[0] - start]
                    yield (
                        (slice(first, last), slice(left, right)),
                        kept[..., left - tile.columns[0] :][..., : right - left],
                    )

    def _blocks(self, image: U8) -> Iterator[tuple[int, int, Tensor]]:
        config, pixels = self.config, torch.from_numpy(image)
        try:
            yield from self.net.logit_blocks(pixels, config.scales, config.fusion, config.flip, finite=True)
        except FloatingPointError as error:
            full = self.precision == "fp32"
            way_out = "its weights are no good for this image: train it again" if full else "use --precision fp32"
            raise NonFiniteLogits(f"the network gave {error} in {self.precision}; {way_out}") from error

    @_with_own_arithmetic
    @torch.inference_mode()
    def label(
        self, images: list[U8], thresholds: NDArray[np.float32], threshold: float, keep_evidence: bool
    ) -> list[LabelledImage]:
        """Hard labels and evidence of images [H, W, 3] uint8 RGB of one size.

        Args:
            thresholds: [T] float32 stored grid, ascending; holds `threshold`.
            threshold: pixels whose top softmax probability is below become ignore_index.
            keep_evidence: keep arg-max and code beside the labels.

        Raises:
            DoesNotFit: an image needs more memory than there is, even in the smallest windows.
            NonFiniteLogits: the network gave NaN or infinite logits for an image.
        """
        level = level_of(threshold, [float(entry) for entry in thresholds])
        label = partial(self._label, thresholds, level, keep_evidence)
        return [self._room.in_windows_that_fit(image.shape[:2], partial(label, image)) for image in images]

    def _label(
        self, thresholds: NDArray[np.float32], level: int, keep_evidence: bool, image: U8, window_px: Size
    ) -> LabelledImage:
        height, width = image.shape[:2]
        top1 = torch.empty((height, width), dtype=torch.uint8, device=self.device)
        code, confidence = torch.empty_like(top1), 0.0
        for place, logits in self._parts(image, window_px):
            classes, codes, mean = evidence_of(logits[None], thresholds)
            top1[place], code[place] = classes[0], codes[0]
            confidence += float(mean) * classes.numel() / top1.numel()
        top, levels = top1.cpu().numpy(), code.cpu().numpy()
        label = label_at(top, levels, level, self.classes.ignore_index)
        return LabelledImage(
            arrays={"label": label, **({"top1": top, "code": levels} if keep_evidence else {})},
            mean_confidence=confidence,
            tiles=describe((height, width), window_px),
        )
