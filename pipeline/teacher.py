"""One teacher on one device: images in, hard labels and evidence out. Weights come from disk or any URL."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmsa_label.labelers import SegmentationNet, build_labeler
from hmsa_label.labelers.checkpoints import decode_checkpoint, load_strict, read_published
from hmsa_label.labelers.explanation import explain
from hmsa_label.labelers.inference import InferenceNet
from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.devices import describe_device, dtype_of, resolve_device, resolve_precision
from hmsa_label.pipeline.records import U8, Explanation, LabelledImage, ScalePart
from hmsa_label.pipeline.threshold import evidence_of
from hmsa_label.stores.evidence import label_at, level_of
from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes

PUBLISHED_MODEL = "hrnet_w48_ocr"


def read_network(data: bytes, source: str) -> tuple[SegmentationNet, ClassTable, dict[str, Any]]:
    """(network, class table, info) of a checkpoint's bytes; info names the model and what it was trained on.

    Args:
        data: a safetensors checkpoint of ours, or a published HRNet-OCR `.pth` file.
        source: name of the file for messages.

    Raises:
        ValueError: neither, or the tensors do not fit the network that the file claims to hold.
    """
    if not data:
        raise ValueError(f"the weights file {source} is empty")
    try:
        if source.endswith(".safetensors"):
            state, info = decode_checkpoint(data)
            classes = ClassTable.from_dict(info["classes"])
            net = build_labeler(info["model"], classes.num_classes, multi_scale=info["multi_scale"])
        else:
            state, info = read_published(io.BytesIO(data)), {"model": PUBLISHED_MODEL, "trained_on": None}
            classes = _published_classes(state)
            net = build_labeler(PUBLISHED_MODEL, classes.num_classes, multi_scale="attention.layers.2.weight" in state)
        load_strict(net, state)
    except ValueError as error:
        raise ValueError(f"cannot use the weights {source}: {error}") from error
    return net, classes, info


def _published_classes(state: dict[str, Tensor]) -> ClassTable:
    head = state.get("head.class_head.weight")
    if head is None:
        raise ValueError("the state dict has no class head (ocr.cls_head.weight); is it an HRNet-OCR checkpoint?")
    if head.shape[0] == CITYSCAPES.num_classes:
        return CITYSCAPES
    names = tuple(f"class {index}" for index in range(head.shape[0]))
    grey = tuple((index, index, index) for index in range(head.shape[0]))
    return ClassTable(f"published-{head.shape[0]}", names, grey, tuple(range(head.shape[0])))


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


class Teacher:
    """Labels images of one size at a time; not thread-safe, to be called from one thread.

    Attributes:
        classes: the class table that labels refer to.
        info: JSON-able provenance: model, weights, their sha256, what they were trained on, scales, flip, fusion,
            precision as resolved, device.
    """

    def __init__(self, config: TeacherConfig) -> None:
        """Loads the weights on the device.

        Raises:
            FileNotFoundError: there is no such weights file.
            ValueError: the weights, scales, device or precision cannot be used.
        """
        self.device = resolve_device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.config = replace(config, scales=tuple(sorted(config.scales)))
        if self.device.type == "cpu":
            torch.set_num_threads(config.cpu_threads)
        data = read_weights(config.weights)
        net, self.classes, checkpoint = read_network(data, config.weights)
        check_fusion(net, self.config)
        if self.precision == "fp32" and self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # 10 bits of mantissa are not what fp32 says
        self.net = InferenceNet(net, self.device, dtype_of(self.precision))
        self.info: dict[str, Any] = {
            "model": checkpoint["model"],
            "weights": public_uri(config.weights),
            "weights_sha256": hashlib.sha256(data).hexdigest(),
            "trained_on": checkpoint["trained_on"],
            "scales": list(self.config.scales),
            "flip": config.flip,
            "fusion": config.fusion,
            "precision": self.precision,
            "device": describe_device(self.device),
        }

    @torch.inference_mode()
    def logits(self, images: list[U8]) -> Tensor:
        """Fused logits [N, K, H, W] float32 on the teacher's device, for N images [H, W, 3] uint8 RGB of one size."""
        config = self.config
        return torch.stack([
            self.net.logits(torch.from_numpy(image), config.scales, config.fusion, config.flip) for image in images
        ])  # fmt: skip

    @torch.inference_mode()
    def top1(self, image: U8) -> U8:
        """Arg-max trainIds [H, W] uint8 of an image [H, W, 3] uint8 RGB; its logits never exist as a whole."""
        blocks = [logits.argmax(0).to(torch.uint8) for _, _, logits in self._blocks(image)]
        return torch.cat(blocks).cpu().numpy()

    @torch.inference_mode()
    def explain(self, image: U8) -> Explanation:
        """How the prediction for an image [H, W, 3] uint8 RGB comes about; scales are shown without flip."""
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

    def _blocks(self, image: U8) -> Iterator[tuple[int, int, Tensor]]:
        config = self.config
        return self.net.logit_blocks(torch.from_numpy(image), config.scales, config.fusion, config.flip)

    @torch.inference_mode()
    def label(
        self, images: list[U8], thresholds: NDArray[np.float32], threshold: float, keep_evidence: bool
    ) -> list[LabelledImage]:
        """Hard labels and evidence of images [H, W, 3] uint8 RGB of one size.

        Args:
            thresholds: [T] float32 stored grid, ascending; holds `threshold`.
            threshold: pixels whose top softmax probability is below become ignore_index.
            keep_evidence: keep arg-max and code beside the labels.
        """
        level = level_of(threshold, [float(entry) for entry in thresholds])
        return [self._label(image, thresholds, level, keep_evidence) for image in images]

    def _label(self, image: U8, thresholds: NDArray[np.float32], level: int, keep_evidence: bool) -> LabelledImage:
        height, width = image.shape[:2]
        top1 = torch.empty((height, width), dtype=torch.uint8, device=self.device)
        code, confidence = torch.empty_like(top1), 0.0
        for start, stop, logits in self._blocks(image):
            top1[start:stop], code[start:stop], mean = evidence_of(logits[None], thresholds)
            confidence += float(mean) * (stop - start) / height
        classes, codes = top1.cpu().numpy(), code.cpu().numpy()
        return LabelledImage(
            label=label_at(classes, codes, level, self.classes.ignore_index),
            top1=classes if keep_evidence else None,
            code=codes if keep_evidence else None,
            mean_confidence=confidence,
        )


def load_start(net: SegmentationNet, data: bytes, source: str) -> None:
    """Start values for a training from a checkpoint of the same trunk, head and classes.

    A checkpoint without attention head starts two-scale training with a fresh one, as the published Cityscapes
    training does; one with attention starts single-scale training without it. Any other difference is an error.

    Raises:
        ValueError: naming the keys that do not fit.
    """
    trained, _, _ = read_network(data, source)
    fresh = {key: value for key, value in net.state_dict().items() if key.startswith("attention.")}
    kept = {key: value for key, value in trained.state_dict().items() if fresh or not key.startswith("attention.")}
    load_strict(net, {**fresh, **kept})


def read_weights(uri: str) -> bytes:
    """The bytes of a weights file at a path or URL.

    Raises:
        FileNotFoundError: there is none; the message says how to get one.
    """
    filesystem, path = open_filesystem(uri)
    try:
        return read_bytes(filesystem, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no weights file at {public_uri(uri)}; train one with 'hmsa-label train-teacher', or correct --weights"
        ) from error
