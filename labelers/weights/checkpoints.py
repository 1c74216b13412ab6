"""Weights on disk: our safetensors files, and the published `.pth` layout by a two-way key table.

Loading is strict.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.weights.published import read_state_dict

# ours -> published, in front of the rest of the key; the first match wins
_PREFIXES = (
    ("trunk.", "backbone."),
    ("head.pixel_features.0.", "ocr.conv3x3_ocr.0."),
    ("head.pixel_features.1.", "ocr.conv3x3_ocr.1.0."),
    ("head.aux_head.0.0.", "ocr.aux_head.0."),
    ("head.aux_head.0.1.", "ocr.aux_head.1.0."),
    ("head.aux_head.1.", "ocr.aux_head.2."),
    ("head.query.0.0.", "ocr.ocr_distri_head.object_context_block.f_pixel.0."),
    ("head.query.0.1.", "ocr.ocr_distri_head.object_context_block.f_pixel.1.0."),
    ("head.query.1.0.", "ocr.ocr_distri_head.object_context_block.f_pixel.2."),
    ("head.query.1.1.", "ocr.ocr_distri_head.object_context_block.f_pixel.3.0."),
    ("head.key.0.0.", "ocr.ocr_distri_head.object_context_block.f_object.0."),
    ("head.key.0.1.", "ocr.ocr_distri_head.object_context_block.f_object.1.0."),
    ("head.key.1.0.", "ocr.ocr_distri_head.object_context_block.f_object.2."),
    ("head.key.1.1.", "ocr.ocr_distri_head.object_context_block.f_object.3.0."),
    ("head.value.0.", "ocr.ocr_distri_head.object_context_block.f_down.0."),
    ("head.value.1.", "ocr.ocr_distri_head.object_context_block.f_down.1.0."),
    ("head.expand.0.", "ocr.ocr_distri_head.object_context_block.f_up.0."),
    ("head.expand.1.", "ocr.ocr_distri_head.object_context_block.f_up.1.0."),
    ("head.merge.0.", "ocr.ocr_distri_head.conv_bn_dropout.0."),
    ("head.merge.1.", "ocr.ocr_distri_head.conv_bn_dropout.1.0."),
    ("head.class_head.", "ocr.cls_head."),
    ("attention.layers.0.0.", "scale_attn.conv0."),
    ("attention.layers.0.1.", "scale_attn.bn0."),
    ("attention.layers.1.0.", "scale_attn.conv1."),
    ("attention.layers.1.1.", "scale_attn.bn1."),
    ("attention.layers.2.", "scale_attn.conv2."),
    # DeepLabV3+ and its explicit attention, with and without batch norm
    ("head.aspp.branches.", "aspp.features."),
    ("head.aspp.image_pool.", "aspp.img_conv."),
    ("head.reduce_fine.", "bot_fine."),
    ("head.reduce_aspp.", "bot_aspp."),
    ("head.layers.0.0.", "final.0."),
    ("head.layers.0.1.", "final.1."),
    ("head.layers.1.0.", "final.3."),
    ("head.layers.1.1.", "final.4."),
    ("head.layers.2.", "final.6."),
    ("attention.mix.0.0.", "scale_attn.0."),
    ("attention.mix.0.1.", "scale_attn.1."),
    ("attention.mix.1.0.", "scale_attn.3."),
    ("attention.mix.1.1.", "scale_attn.4."),
    ("attention.mix.1.", "scale_attn.2."),
    ("attention.mix.2.", "scale_attn.6."),
)

# what an ImageNet classifier has after its trunk: HRNet's own head, ResNet's last layer
_CLASSIFIER = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.", "fc.")


MAX_REASON = 200


class WeightsMismatch(ValueError):
    """A checkpoint does not fit the network; the message names the keys."""


def to_published_key(key: str) -> str:
    """The published checkpoint's name (without `module.`) of one of our keys; unknown names come back unchanged."""
    for ours, published in _PREFIXES:
        if key.startswith(ours):
            return published + key[len(ours) :]
    return key


def from_published_key(key: str) -> str:
    """Our state-dict key for a published name, with or without `module.`; unknown names come back unchanged."""
    key = re.sub(r"^module\.", "", key)
    for ours, published in _PREFIXES:
        if key.startswith(published):
            return ours + key[len(published) :]
    return key


def load_strict(
    net: torch.nn.Module, state: Mapping[str, Tensor], spell: Callable[[str], str] = lambda key: key
) -> None:
    """Copies `state` into `net`.

    Counts of batches may be missing: older files have none, and a batch norm with a momentum does not use them. A
    network on the meta device is given copies on the CPU: nothing need be drawn at random to be overwritten.

    Args:
        spell: how a key is called in the file that the tensors come from; messages use it.

    Raises:
        WeightsMismatch: naming missing, unexpected and wrongly shaped keys, and values that no network can use; the
            network is then unchanged.
    """
    own = net.state_dict()
    counts = [key for key in own if key.endswith("num_batches_tracked")]
    state = {**dict.fromkeys(counts, torch.zeros((), dtype=torch.int64)), **state}
    missing = sorted(map(spell, own.keys() - state.keys()))
    unexpected = sorted(map(spell, state.keys() - own.keys()))
    shapes = [
        f"{spell(key)} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("with another shape", shapes))
        if keys
    ]
    if problems:
        raise WeightsMismatch(f"the weights do not fit the network: {'; '.join(problems)}")
    for key, value in own.items():
        if value.is_floating_point():
            _check_values(spell(key), state[key], value.dtype)
    if not next(iter(own.values())).is_meta:
        net.load_state_dict(dict(state))
        return
    copies = {key: state[key].to(value.dtype, copy=True).contiguous() for key, value in own.items()}
    net.load_state_dict(copies, assign=True)


def _check_values(name: str, value: Tensor, expected: torch.dtype) -> None:
    if not value.is_floating_point():
        raise WeightsMismatch(f"{name} holds {value.dtype} numbers; expected {expected}")
    if not value.to(expected).isfinite().all():
        raise WeightsMismatch(
            f"{name} holds NaN or infinite values; every label would be wrong. Train or copy it again"
        )


def encode_checkpoint(net: torch.nn.Module, info: Mapping[str, Any]) -> bytes:
    """A safetensors file with the network's tensors and `info` (JSON-able) as its metadata."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    return save_safetensors(tensors, {"format": "pt", "hmsa_label": json.dumps(info, sort_keys=True)})


def decode_checkpoint(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, info) of a file written by `encode_checkpoint`.

    Raises:
        ValueError: not such a file.
    """
    try:
        tensors = load_safetensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except Exception as error:
        reason = " ".join(str(error).split())  # the library repeats the header's own texts, however long they are
        raise ValueError(f"it is not a safetensors checkpoint of hmsa-label ({reason[:MAX_REASON]})") from error
    metadata = header.get("__metadata__") or {}
    if "hmsa_label" not in metadata:
        raise ValueError(
            "it is not a safetensors checkpoint of hmsa-label: its metadata has no hmsa_label, which a training writes "
            f"(it has {', '.join(sorted(metadata)[:3]) or 'nothing'})"
        )
    try:
        info = json.loads(metadata["hmsa_label"])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata hmsa_label is no JSON ({error})") from error
    if not isinstance(info, dict):
        raise ValueError(f"its metadata hmsa_label is a JSON {type(info).__name__}; expected an object")
    return tensors, info


def from_imagenet(net: SegmentationNet, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an ImageNet classifier under the keys of `net`'s trunk; its classification head is left out.

    Knows the published HRNet files (with or without `model.` before each key) and torchvision's ResNet-50.
    """
    resnet = any(key.startswith("trunk.layer0.") for key in net.state_dict())
    found = {}
    for key, value in state.items():
        name = re.sub(r"^(module\.|model\.|backbone\.)*", "", key)
        if resnet:
            name = re.sub(r"^bn1\.", "layer0.1.", re.sub(r"^conv1\.", "layer0.0.", name))
        if not name.startswith(_CLASSIFIER):
            found[f"trunk.{name}"] = value
    return found


def read_published(data: bytes) -> dict[str, Tensor]:
    """Tensors of a published `.pth` file under our keys; see `published.read_state_dict`.

    Raises:
        ValueError: the file cannot be read, or names one of our keys twice.
    """
    found: dict[str, Tensor] = {}
    for key, value in read_state_dict(data).items():
        name = from_published_key(key)
        if name in found:
            raise ValueError(f"it holds {key!r} twice, with and without 'module.' or under both of its names")
        found[name] = value
    return found
