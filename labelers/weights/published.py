"""Reads `.pth` files: torch.save's pickles, of which only tensors, containers and plain numbers are let in.

The published files were written under numpy 1 and hold a score beside the tensors, a numpy scalar under the module
names of that time. What stands in for numpy here builds Python numbers and nothing else, whatever the file asks for.
"""

import io
import re
import struct
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# numpy's code of a number -> its struct format
_FORMATS = {
    "b1": "?", "f2": "e", "f4": "f", "f8": "d",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip
# numpy 1 and numpy 2 call the same function by different names
_SCALAR_NAMES = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")


class _NumberType:
    """Stands in for `numpy.dtype`: the code and the byte order of a plain number."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in _FORMATS:
            raise ValueError(f"a numpy value of type {str(code)[:20]!r}, which is no plain number")
        self.format = "<" + _FORMATS[code]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.format = (">" if state[1] == ">" else "<") + self.format[1:]


def _number(kind: object, data: object) -> float | int | bool:
    """Stands in for numpy's `scalar`."""
    if not isinstance(kind, _NumberType) or not isinstance(data, bytes) or len(data) != struct.calcsize(kind.format):
        raise ValueError("a numpy scalar that is no plain number")
    value: float | int | bool = struct.unpack(kind.format, data)[0]
    return value


def read_state_dict(data: bytes) -> dict[str, Tensor]:
    """The tensors of a torch.save file by the names that it gives them.

    The file holds a dict with `state_dict` beside optimizer state and numbers, or the state dict itself.

    Raises:
        ValueError: the file is damaged, needs arbitrary pickle, or holds no state dict of ordinary tensors.
    """
    allowed: list[Any] = [(_NumberType, "numpy.dtype"), *((_number, name) for name in _SCALAR_NAMES)]
    with torch.serialization.safe_globals(allowed):
        try:
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(_reason(error)) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__} where a state dict of tensors was expected")
    if not state:
        raise ValueError("it holds an empty state dict")
    for key, value in state.items():
        _check_entry(key, value)
    return dict(state)


def _check_entry(key: object, value: object) -> None:
    if not isinstance(key, str) or not isinstance(value, Tensor):
        raise ValueError(
            f"it holds no state dict of tensors: under {str(key)[:80]!r} lies a {type(value).__name__}; "
            "save the network's state_dict()"
        )
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise ValueError(f"the tensor {key!r} is sparse, quantized or without values; save ordinary dense tensors")


def _reason(error: Exception) -> str:
    """What torch's loader stumbled over, without its advice to switch the safety off."""
    text = str(error)
    if wanted := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"torch's safe loader refuses it: it wants {wanted.group(1)}, which is neither a tensor nor a number; "
            "save the state dict alone, where the file is trusted"
        )
    if isinstance(error, EOFError) or "EOF" in text:
        return "it is cut short: its end is missing; download or copy it again"
    if "magic number" in text or "persistent_load" in text:
        return "it is a pickle that torch.save did not write"
    detail = text.rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return f"torch's safe loader refuses it: {' '.join(detail.splitlines()[0].split())[:200]}; is the file damaged?"
