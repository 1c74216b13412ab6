"""Checkpoints of panoptic networks."""

from typing import Any

import torch

from hmsa_label.labelers.axial_deeplab.models import MODELS, build_axial_deeplab
from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint, refuse_other_model
from hmsa_label.labelers.weights.checkpoints import load_strict
from hmsa_label.labelers.weights.file_kinds import SAFETENSORS
from hmsa_label.labelers.weights.networks import kind_by_name, naming


def read_network(data: bytes, source: str) -> tuple[AxialDeepLab, ClassTable, dict[str, Any]]:
    """(network, class table, info) of a checkpoint's bytes; info names the model and what it was trained on.

    Args:
        data: a safetensors checkpoint of ours.
        source: name of the file for messages.

    Raises:
        ValueError: it is none, or its tensors do not fit the network that it claims to hold.
    """
    with naming(source):
        if kind_by_name(data, source) != SAFETENSORS:
            raise ValueError("it is a torch.save file; this teacher reads checkpoints that hmsa-label trained")
        state, info = read_checkpoint(data)
        refuse_other_model(info["model"], MODELS)
        classes = ClassTable.from_dict(info["classes"])
        if not classes.things:
            raise ValueError(
                f"its class table {classes.name!r} names no things, so there are no instances to tell apart"
            )
        with torch.device("meta"):
            net = build_axial_deeplab(info["model"], classes.num_classes)
        load_strict(net, state)
    return net, classes, info
