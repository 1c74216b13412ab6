"""Weights files: which network they hold, and how a training starts from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hmsa_label.labelers.hmsa.models import MODELS, build_labeler
from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable, class_difference
from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint, refuse_other_model
from hmsa_label.labelers.weights.checkpoints import from_imagenet, load_strict, read_published, to_published_key
from hmsa_label.labelers.weights.file_kinds import SAFETENSORS, TORCH, kind_of

PUBLISHED_MODEL = "hrnet_w48_ocr"
_MOST_CLASSES = 253  # see ClassTable
CLASS_HEADS = ("head.class_head.", "head.aux_head.1.", "head.layers.2.")


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Puts a weights file's name before what is wrong with it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"cannot use the weights {source}: {error}") from error


def read_network(data: bytes, source: str) -> tuple[SegmentationNet, ClassTable, dict[str, Any]]:
    """(network, class table, info) of a checkpoint's bytes; info names the model and what it was trained on.

    Args:
        data: a safetensors checkpoint of ours, or a published HRNet-OCR `.pth` file.
        source: name of the file for messages.

    Raises:
        ValueError: neither, or the tensors do not fit the network that the file claims to hold.
    """
    with naming(source):
        return _read_own(data) if kind_by_name(data, source) == SAFETENSORS else _read_published(data)


def kind_by_name(data: bytes, source: str) -> str:
    """`safetensors` or `torch.save`, as the bytes and, where it says something, the name of a file agree."""
    if not data:
        raise ValueError("the file is empty")
    kind = kind_of(data)
    wrong = {".safetensors": TORCH, ".pth": SAFETENSORS, ".pt": SAFETENSORS}
    for ending, other in wrong.items():
        if kind == other and source.endswith(ending):
            right = ".pth" if kind == TORCH else ".safetensors"
            raise ValueError(f"it is a {kind} file, whatever its name says; rename it to end in {right}")
    return kind


def _read_own(data: bytes) -> tuple[SegmentationNet, ClassTable, dict[str, Any]]:
    state, info = read_checkpoint(data)
    classes = ClassTable.from_dict(info["classes"])
    refuse_other_model(info["model"], MODELS)
    with torch.device("meta"):
        net = build_labeler(info["model"], classes.num_classes, multi_scale=info["multi_scale"])
    load_strict(net, state)
    return net, classes, info


def _read_published(data: bytes) -> tuple[SegmentationNet, ClassTable, dict[str, Any]]:
    state = read_published(data)
    classes = _published_classes(state)
    with torch.device("meta"):
        net = build_labeler(PUBLISHED_MODEL, classes.num_classes, multi_scale="attention.layers.2.weight" in state)
    load_strict(net, state, to_published_key)
    return net, classes, {"model": PUBLISHED_MODEL, "trained_on": None}


def _published_classes(state: dict[str, Tensor]) -> ClassTable:
    head = state.get("head.class_head.weight")
    if head is None:
        raise ValueError("the state dict has no class head (ocr.cls_head.weight); is it an HRNet-OCR checkpoint?")
    if head.dim() != 4 or not 0 < head.shape[0] <= _MOST_CLASSES:
        shape = tuple(head.shape)
        raise ValueError(f"ocr.cls_head.weight has shape {shape}; expected (K, 512, 1, 1), K from 1 to {_MOST_CLASSES}")
    if head.shape[0] == CITYSCAPES.num_classes:
        return CITYSCAPES
    names = tuple(f"class {index}" for index in range(head.shape[0]))
    gray = tuple((index, index, index) for index in range(head.shape[0]))
    return ClassTable(_unnamed(head.shape[0]), names, gray, tuple(range(head.shape[0])))


def load_start(
    net: SegmentationNet, data: bytes, source: str, *, classes: ClassTable | None = None, new_class_heads: bool = False
) -> None:
    """Start values for a training from a checkpoint of the same trunk and head, or from an ImageNet trunk alone.

    A checkpoint without attention head starts two-scale training with a fresh one, as the published Cityscapes
    training does; one with attention starts single-scale training without it. An ImageNet classifier fills the trunk
    and nothing else. Any other difference is an error.

    Args:
        classes: those of the training; a checkpoint that names others does not fit, though they are as many.
        new_class_heads: the class heads stay fresh, so that the checkpoint may know other classes.

    Raises:
        ValueError: naming the keys that do not fit.
    """
    fresh = net.state_dict()
    imagenet = _imagenet_trunk(net, data, source)
    if imagenet is not None:
        kept = {key: value for key, value in fresh.items() if not key.startswith("trunk.")}
        _load(net, {**kept, **imagenet}, source)
        return
    trained, known, _ = read_network(data, source)
    state = trained.state_dict()
    start = {key: value for key, value in state.items() if net.attention is not None or not _is_attention(key)}
    if net.attention is not None and trained.attention is None:
        start |= {key: value for key, value in fresh.items() if _is_attention(key)}
    if new_class_heads:
        start |= {key: value for key, value in fresh.items() if key.startswith(CLASS_HEADS)}
    else:
        _check_classes(known, classes, _num_classes(fresh), source)
    _load(net, start, source)


def _check_classes(known: ClassTable, classes: ClassTable | None, num_classes: int, source: str) -> None:
    way_out = "--new-class-heads starts the class heads afresh"
    if known.num_classes != num_classes:
        raise ValueError(f"{source} knows {known.num_classes} classes, the training has {num_classes}; {way_out}")
    if classes is None or known.name == _unnamed(num_classes):
        return
    if difference := class_difference(known, classes):
        raise ValueError(f"cannot start from {source}: {difference}; {way_out}")


def _unnamed(num_classes: int) -> str:
    """Name of the class table of a published file, which tells no names of its classes."""
    return f"published-{num_classes}"


def _is_attention(key: str) -> bool:
    return key.startswith("attention.")


def _num_classes(state: dict[str, Tensor]) -> int:
    return next(value.shape[0] for key, value in state.items() if key.startswith(CLASS_HEADS))


def _load(net: SegmentationNet, state: dict[str, Tensor], source: str) -> None:
    try:
        load_strict(net, state)
    except ValueError as error:
        raise ValueError(f"cannot start from {source}: {error}") from error


def _imagenet_trunk(net: SegmentationNet, data: bytes, source: str) -> dict[str, Tensor] | None:
    """The trunk's tensors if the file holds an ImageNet classifier, which knows no class head of ours."""
    with naming(source):
        if kind_by_name(data, source) == SAFETENSORS:
            return None
        state = read_published(data)
    if any(key.startswith(("head.", "attention.")) for key in state):
        return None
    return from_imagenet(net, {key.removeprefix("trunk."): value for key, value in state.items()})
