"""What a checkpoint of ours must say of itself, checked before anything is built from it."""

from collections.abc import Collection
from typing import Any

from hmsa_label.labelers.model_registry import find_model, model_places
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.training import IMAGE, labels_of, wrong_field
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.labelers.weights.file_kinds import TORCH, kind_of

# what a training writes of each kind of label, as far as it is used again: name -> type
_DRAWN: dict[str, Any] = {"data": str, "split": str, "labels": str, "images": int, "keys": list, "keys_sha256": str}
_AUTO: dict[str, Any] = {"store": str, "version": int, "digest": str, "teacher_sha256": str | None}
_PARTS = {"trained_on": _DRAWN, "coarse_labels": _DRAWN, "auto_labels": _AUTO}


def read_checkpoint(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, info) of a checkpoint of ours whose info can be relied on: the fields below exist and have their types.

    `model` is a known model, which finds there what it needs; `classes` is a class table; `trained_on` is there, and
    it, `coarse_labels` and `auto_labels` are None (or missing) or what a training writes.

    Raises:
        ValueError: no such file, or naming the field, what was expected and what the file says.
    """
    tensors, info = decode_checkpoint(data)
    _check_model(info)
    if "trained_on" not in info:
        raise wrong_field(info, "trained_on", "what it was trained on, or null")
    ClassTable.from_dict(info.get("classes"))
    for name, fields in _PARTS.items():
        _check_part(name, info.get(name), fields)
    return tensors, info


def recorded_info(data: bytes) -> dict[str, Any]:
    """The info of a weights file, as `read_checkpoint` gives it; `trained_on` None alone for a published one.

    Raises:
        ValueError: as `read_checkpoint`.
    """
    return {"trained_on": None} if kind_of(data) == TORCH else read_checkpoint(data)[1]


def refuse_other_model(model: str, expected: Collection[str]) -> None:
    """Holds that a checkpoint's model is one of those that its reader knows.

    Raises:
        ValueError: naming the teacher that reads it, if one of this package does.
    """
    if model in expected:
        return
    labeler = getattr(find_model(model), "labeler", None) if model in model_places() else None
    if labeler is not None:
        raise ValueError(f"it holds the model {model}, which is read by the teacher {labeler}; add --teacher {labeler}")
    raise ValueError(f"it holds the model {model}; expected one of {', '.join(sorted(expected))}")


def _check_model(info: dict[str, Any]) -> None:
    """Holds that a checkpoint names its model and says of it what that model wants said.

    A model that is not installed, `module:Class`, is not asked: importing a module because a file names it would run
    whatever the file likes.
    """
    name, known = info.get("model"), model_places()
    if isinstance(name, str) and name in known:
        model = find_model(name)
        if labels_of(model) == IMAGE:
            raise ValueError(
                f"it holds the trunk {name} with a layer for classes of whole images, which labels no pixels; a "
                "training starts from it with --init-weights"
            )
        model.check(info)
    elif not isinstance(name, str) or name.count(":") != 1:
        raise wrong_field(info, "model", f"one of {', '.join(sorted(known))}")


def _check_part(name: str, part: object, fields: dict[str, Any]) -> None:
    if part is None:
        return
    if not isinstance(part, dict):
        raise wrong_field({name: part}, name, "an object or null")
    for field, kind in fields.items():
        if field not in part or not isinstance(part[field], kind):
            expected = getattr(kind, "__name__", str(kind))
            raise wrong_field({f"{name}.{field}": part.get(field)}, f"{name}.{field}", expected)
