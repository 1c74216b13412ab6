"""What a checkpoint of ours must say of itself, checked before anything is built from it."""

from typing import Any

from hmsa_label.labelers.hmsa.models import MODELS
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint

# what a training writes of each kind of label, as far as it is used again: name -> type
_DRAWN: dict[str, Any] = {"data": str, "split": str, "labels": str, "images": int, "keys": list, "keys_sha256": str}
_AUTO: dict[str, Any] = {"store": str, "version": int, "digest": str, "teacher_sha256": str | None}
_PARTS = {"trained_on": _DRAWN, "coarse_labels": _DRAWN, "auto_labels": _AUTO}


def read_checkpoint(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, info) of a checkpoint of ours whose info can be relied on: the fields below exist and have their types.

    `model` is a known network, `multi_scale` a bool, `classes` a class table; `trained_on` is there, and it,
    `coarse_labels` and `auto_labels` are None (or missing) or what a training writes.

    Raises:
        ValueError: no such file, or naming the field, what was expected and what the file says.
    """
    tensors, info = decode_checkpoint(data)
    model = info.get("model")
    if not isinstance(model, str) or model not in MODELS:
        raise _wrong("model", f"one of {', '.join(sorted(MODELS))}", info)
    if not isinstance(info.get("multi_scale"), bool):
        raise _wrong("multi_scale", "true or false", info)
    if "trained_on" not in info:
        raise _wrong("trained_on", "what it was trained on, or null", info)
    ClassTable.from_dict(info.get("classes"))
    for name, fields in _PARTS.items():
        _check_part(name, info.get(name), fields)
    return tensors, info


def _check_part(name: str, part: object, fields: dict[str, Any]) -> None:
    if part is None:
        return
    if not isinstance(part, dict):
        raise _wrong(name, "an object or null", {name: part})
    for field, kind in fields.items():
        if field not in part or not isinstance(part[field], kind):
            expected = getattr(kind, "__name__", str(kind))
            raise _wrong(f"{name}.{field}", expected, {f"{name}.{field}": part.get(field)})


def _wrong(name: str, expected: str, info: dict[str, Any]) -> ValueError:
    found = f"says {info[name]!r:.80}" if info.get(name) is not None else "has none"
    return ValueError(f"its metadata {found} for {name}; expected {expected}: was the file written by hmsa-label?")
