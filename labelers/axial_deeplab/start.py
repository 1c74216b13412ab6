"""Start values of trainings: a whole network, or a trunk alone that was trained on classes of whole images."""

from collections.abc import Mapping

from torch import Tensor, nn

from hmsa_label.labelers.axial_deeplab.models import CLASSIFIERS
from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab, TrunkClassifier
from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.labelers.taxonomy import ClassTable, class_difference
from hmsa_label.labelers.trunks.axial_block import AxialBlock
from hmsa_label.labelers.weights.axial_published import from_axial_published, is_axial
from hmsa_label.labelers.weights.checkpoint_info import read_checkpoint
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint, load_strict
from hmsa_label.labelers.weights.file_kinds import SAFETENSORS, kind_of
from hmsa_label.labelers.weights.published import read_state_dict

CLASS_HEADS = ("head.semantic_head.1.",)
_CLASSIFIER = "classifier."
_WAY_OUT = "--new-class-heads starts the class heads afresh"


def load_start(net: AxialDeepLab, data: bytes, source: str, *, classes: ClassTable, new_class_heads: bool) -> None:
    """Start values for a panoptic training from a checkpoint of the same network, or from a trunk alone.

    A trunk, of `train-trunk` or the released PyTorch ImageNet classifier, fills the trunk and nothing else.

    Args:
        source: name of the file, for messages.
        classes: those of the training; a checkpoint that knows others does not fit.
        new_class_heads: the layer that gives the classes stays fresh, so that the checkpoint may know other classes.

    Raises:
        ValueError: naming the file and what does not fit; the network is then unchanged.
    """
    fresh = net.state_dict()
    try:
        trunk = _trunk_of(net, data)
        if trunk is not None:
            kept = {key: value for key, value in fresh.items() if not key.startswith("trunk.")}
            _load_trunk(net, {**kept, **_only("trunk.", trunk)}, data)
            return
        start, info = read_checkpoint(data)
        if new_class_heads:
            start |= {key: value for key, value in fresh.items() if key.startswith(CLASS_HEADS)}
        elif difference := class_difference(ClassTable.from_dict(info["classes"]), classes):
            raise ValueError(f"{difference}; {_WAY_OUT}")
        load_strict(net, start)
    except ValueError as error:
        raise ValueError(f"cannot start from {source}: {error}") from error


def load_classifier_start(
    net: TrunkClassifier, data: bytes, source: str, *, classes: ImageClasses, new_class_heads: bool
) -> None:
    """Start values for the training of a trunk; all else as `load_start`.

    The released classifier does not name its classes: it fits as many.
    """
    fresh = net.state_dict()
    try:
        start = _trunk_of(net, data)
        if start is None:
            raise ValueError(f"it holds a whole network; a trunk starts from one of {', '.join(sorted(CLASSIFIERS))}")
        if new_class_heads:
            start |= {key: value for key, value in fresh.items() if key.startswith(_CLASSIFIER)}
        else:
            _check_image_classes(data, start, classes)
        _load_trunk(net, start, data)
    except ValueError as error:
        raise ValueError(f"cannot start from {source}: {error}") from error


def _load_trunk(net: nn.Module, state: Mapping[str, Tensor], data: bytes) -> None:
    """As `load_strict`; if the tensors do not fit, says whose they are."""
    try:
        load_strict(net, state)
    except ValueError as error:
        name = "axial_resnet_26s"  # the only one that is released
        if kind_of(data) == SAFETENSORS:
            name = decode_checkpoint(data)[1]["model"]
        raise ValueError(f"it holds {name}, the trunk of {CLASSIFIERS[name]}: {error}") from error


def _check_image_classes(data: bytes, start: Mapping[str, Tensor], classes: ImageClasses) -> None:
    known = start[f"{_CLASSIFIER}bias"].shape[0] if f"{_CLASSIFIER}bias" in start else 0
    named = kind_of(data) == SAFETENSORS
    names = ImageClasses.from_dict(decode_checkpoint(data)[1].get("classes")).names if named else classes.names
    if known != classes.num_classes or names != classes.names:
        same = " of other names" if known == classes.num_classes else ""
        raise ValueError(f"it knows {known} classes, the training has {classes.num_classes}{same}; {_WAY_OUT}")


def _trunk_of(net: nn.Module, data: bytes) -> dict[str, Tensor] | None:
    """Tensors of a file that holds a trunk and its classifier, under our keys; None if it is another checkpoint."""
    if not data:
        raise ValueError("the file is empty")
    if kind_of(data) == SAFETENSORS:
        state, info = decode_checkpoint(data)
        return state if info.get("model") in CLASSIFIERS else None
    state = read_state_dict(data)
    if not is_axial(state):
        raise ValueError(
            "it is a torch.save file, and not of the released axial classifiers, which alone are read from such files"
        )
    return _named(from_axial_published(state, _table_len(net)))


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the released classifier under the keys of `TrunkClassifier`."""
    return {
        f"{_CLASSIFIER}{key[3:]}" if key.startswith("fc.") else f"trunk.{key}": value for key, value in state.items()
    }


def _only(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.startswith(prefix)}


def _table_len(net: nn.Module) -> int:
    lengths = {block.height.settings.table_len for block in net.modules() if isinstance(block, AxialBlock)}
    if not lengths:
        raise ValueError("it has axial attention, and the network that is trained has none")
    return max(lengths)
