"""The public PyTorch classifier of arXiv 2003.07853 (csrhddlam/axial-deeplab): its tensors under our keys.

Three things differ. It reads the query and value tables at query - key, and only the key table at key - query, so two
of the three are mirrored; its projected channels lie head by head; and its output norm has content and position of a
channel side by side. Its tables are as long as the images of its training need: longer ones of ours repeat the end
rows, which is what a table gives for offsets beyond it.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_HEADS = 8
_NAMES = (
    (r"(^|\.)hight_block\.", r"\1height."),
    (r"(^|\.)width_block\.", r"\1width."),
    (r"(^|\.)qkv_transform\.", r"\1qkv."),
)
_STEM = ((r"^conv1\.", "stem.0."), (r"^bn1\.", "stem.1."))  # of a whole network; a block has a bn1 of its own
_BUFFERS = ("flatten_index",)


def is_axial(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of the public classifier, or of one of its layers."""
    return any(key.endswith("qkv_transform.weight") for key in state)


def from_axial_published(state: Mapping[str, Tensor], table_len: int) -> dict[str, Tensor]:
    """Tensors of the public classifier, or of a part of it, under our keys and in our order.

    Args:
        state: its state dict, with or without `module.` before the keys.
        table_len: rows of our tables.

    Raises:
        ValueError: a table of the file is longer than ours, or a tensor has a shape that no such layer has.
    """
    found: dict[str, Tensor] = {}
    state = {re.sub(r"^module\.", "", key): value for key, value in state.items()}
    names = (*_NAMES, *_STEM) if "conv1.weight" in state else _NAMES
    for key, value in state.items():
        name = key
        if name.endswith(_BUFFERS):
            continue
        layer, _, last = name.rpartition(".")
        for pattern, ours in names:
            name = re.sub(pattern, ours, name)
        if last == "relative":
            found |= _tables(key, name.removesuffix("relative"), value, table_len)
        else:
            found[name] = _in_our_order(layer, value)
    return found


def _in_our_order(layer: str, value: Tensor) -> Tensor:
    """A tensor with its channels as ours are."""
    if value.dim() == 0:
        return value
    if layer.endswith(("qkv_transform", "bn_qkv")):
        depth = value.shape[0] // (4 * _HEADS)
        by_head = value.unflatten(0, (_HEADS, 4 * depth))
        parts = by_head.split([depth, depth, 2 * depth], dim=1)
        ours = torch.cat([part.flatten(0, 1) for part in parts])
        return ours.unsqueeze(-1) if ours.dim() == 3 else ours
    if layer.endswith("bn_output"):
        return value.unflatten(0, (-1, 2)).T.flatten()
    return value


def _tables(key: str, prefix: str, relative: Tensor, table_len: int) -> dict[str, Tensor]:
    """The three tables [table_len, depth] of the reference's one [4 * depth, rows]."""
    if relative.dim() != 2 or relative.shape[0] % 4 or relative.shape[1] % 2 == 0:
        raise ValueError(f"{key} has shape {tuple(relative.shape)}; expected (4 * depth, an odd number of offsets)")
    depth, rows = relative.shape[0] // 4, relative.shape[1]
    if rows > table_len:
        raise ValueError(f"{key} has {rows} offsets, the network's tables have {table_len}")
    query, by_key, value = relative.T.split([depth, depth, 2 * depth], dim=1)
    tables = {"query_table": query.flip(0), "key_table": by_key, "value_table": value.flip(0)}
    row = (torch.arange(table_len) - table_len // 2).clamp(-(rows // 2), rows // 2) + rows // 2
    return {prefix + name: table[row].contiguous() for name, table in tables.items()}
