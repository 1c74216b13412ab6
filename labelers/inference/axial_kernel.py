"""Axial attention as one Triton kernel: queries, keys and values are read once, nothing but the result is written.

A program takes a block of queries of one head on one line, and the blocks of keys that they see one after the other,
with a running softmax. Products with a table are taken for the 2 BLOCK rows that a block of queries and a block of keys
can meet at, and moved to their pairs inside the program. Logits and softmax are float32; products take their inputs in
the precision of the projection; in float32 each is three of TF32, which keep all but the last bits.

Only a CUDA device runs it; with `TRITON_INTERPRET=1` a CPU does, for tests, in float32 and float16.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hmsa_label.labelers.layers.axial_attention import Axis
from hmsa_label.labelers.layers.line_attention import Lines, Tables

_LEAST_DEPTH = 16  # of a matrix unit
_BLOCK = 32  # queries and keys of a block: at the deepest heads its tables take 100 KB of shared memory


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]  # the types are Triton's
    query,
    key,
    value,
    result,
    query_table,
    key_table,
    value_table,
    scales,
    position_scale,
    length,
    lines,
    reach,
    table_reach,
    image_step,
    line_step,
    pixel_step,
    value_image_step,
    value_line_step,
    value_pixel_step,
    HEADS: tl.constexpr,
    DEPTH: tl.constexpr,
    VALUE_DEPTH: tl.constexpr,
    D: tl.constexpr,
    E: tl.constexpr,
    BLOCK: tl.constexpr,
    QUERY_TERM: tl.constexpr,
    KEY_TERM: tl.constexpr,
    POSITIONS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    image, line = (tl.program_id(0) // lines).to(tl.int64), (tl.program_id(0) % lines).to(tl.int64)
    head, first = tl.program_id(1) % HEADS, tl.program_id(1) // HEADS * BLOCK
    start = image * image_step + line * line_step + head * DEPTH
    value_start = image * value_image_step + line * value_line_step + head * VALUE_DEPTH
    d, e, along, both = tl.arange(0, D), tl.arange(0, E), tl.arange(0, BLOCK), tl.arange(0, 2 * BLOCK)
    has_d, has_e = d[None, :] < DEPTH, e[None, :] < VALUE_DEPTH
    i = first + along
    in_line = i[:, None] < length
    q = tl.load(query + start + i[:, None].to(tl.int64) * pixel_step + d[None, :], mask=in_line & has_d, other=0.0)
    content_scale = tl.load(scales + head)
    query_scale = tl.load(scales + HEADS + head) if QUERY_TERM else 0.0
    key_scale = tl.load(scales + (1 + QUERY_TERM) * HEADS + head) if KEY_TERM else 0.0
    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    content = tl.zeros((BLOCK, E), tl.float32)
    position = tl.zeros((BLOCK, E), tl.float32)
    # the pair (i, j) of a block of queries and one of keys meets at row j - i + BLOCK - 1 of the 2 BLOCK
    by_query = along[None, :] - along[:, None] + BLOCK - 1
    by_key = along[:, None] - along[None, :] + BLOCK - 1
    from_rows = both[None, :] + along[:, None] - (BLOCK - 1)
    begin = tl.maximum(first - reach, 0) // BLOCK * BLOCK
    for j0 in range(begin, tl.minimum(first + BLOCK + reach, length), BLOCK):
        j = j0 + along
        key_in_line = j[:, None] < length
        k = tl.load(
            key + start + j[:, None].to(tl.int64) * pixel_step + d[None, :], mask=key_in_line & has_d, other=0.0
        )
        offset = both + j0 - first - (BLOCK - 1)
        row = tl.minimum(tl.maximum(offset, -table_reach), table_reach) + table_reach
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * content_scale
        if QUERY_TERM:
            r = tl.load(query_table + row[:, None] * DEPTH + d[None, :], mask=has_d, other=0.0).to(q.dtype)
            logits += tl.gather(tl.dot(q, tl.trans(r), input_precision=PRECISION), by_query, 1) * query_scale
        if KEY_TERM:
            r = tl.load(key_table + row[:, None] * DEPTH + d[None, :], mask=has_d, other=0.0).to(q.dtype)
            logits += tl.trans(tl.gather(tl.dot(k, tl.trans(r), input_precision=PRECISION), by_key, 1)) * key_scale
        distance = tl.abs(j[None, :] - i[:, None])
        # a query beyond the line sees something, too: its row is not stored, but must not divide by zero
        seen = (j[None, :] < length) & ((distance <= reach) | (i[:, None] >= length))
        logits = tl.where(seen, logits, float("-inf"))
        now_highest = tl.maximum(highest, tl.max(logits, 1))
        ground = tl.where(now_highest == float("-inf"), 0.0, now_highest)
        weights = tl.exp(logits - ground[:, None])
        fade = tl.exp(highest - ground)
        total = total * fade + tl.sum(weights, 1)
        highest = now_highest
        place = value + value_start + j[:, None].to(tl.int64) * value_pixel_step + e[None, :]
        v = tl.load(place, mask=key_in_line & has_e, other=0.0)
        content = content * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        if POSITIONS:
            r = tl.load(value_table + row[:, None] * VALUE_DEPTH + e[None, :], mask=has_e, other=0.0).to(v.dtype)
            inside = (from_rows >= 0) & (from_rows < BLOCK)
            at_rows = tl.gather(weights, tl.minimum(tl.maximum(from_rows, 0), BLOCK - 1), 1)
            at_rows = tl.where(inside, at_rows, 0.0).to(v.dtype)
            position = position * fade[:, None] + tl.dot(at_rows, r, input_precision=PRECISION)
    if POSITIONS:
        content += position * tl.load(position_scale + head * VALUE_DEPTH + e[None, :], mask=has_e, other=0.0)
    content = content / total[:, None]
    place = result + value_start + i[:, None].to(tl.int64) * value_pixel_step + e[None, :]
    tl.store(place, content.to(result.dtype.element_ty), mask=in_line & has_e)


def attend_images(
    projected: Lines, scales: Tensor, tables: Tables, position_scale: Tensor | None, axis: Axis, reach: int | None
) -> Tensor:
    """[N, width, H, W] channels last: content and scaled position part of every image.

    Args:
        projected: queries and keys [N, width / 2, H, W], values [N, width, H, W], channels last.
        scales: [t, h] float32. tables: [T, depth] float32, not extended. position_scale: [h, e] float32.
    """
    query, value = projected.query, projected.value
    heads, num_lines = scales.shape[1], value.shape[3] if axis == "height" else value.shape[2]
    length = value.shape[2] if axis == "height" else value.shape[3]
    depth, value_depth = query.shape[1] // heads, value.shape[1] // heads
    result = torch.empty_like(value)
    named: dict[str, Any] = {
        "HEADS": heads,
        "DEPTH": depth,
        "VALUE_DEPTH": value_depth,
        "D": max(_LEAST_DEPTH, triton.next_power_of_2(depth)),
        "E": max(_LEAST_DEPTH, triton.next_power_of_2(value_depth)),
        "BLOCK": _BLOCK,
        "QUERY_TERM": tables.query is not None,
        "KEY_TERM": tables.key is not None,
        "POSITIONS": tables.value is not None,
        "PRECISION": "tf32x3" if value.dtype == torch.float32 else "ieee",
        "num_stages": 1,  # more would hold the tables of several blocks
    }
    given = [table for table in tables if table is not None]
    table_reach = len(given[0]) // 2 if given else 0
    pointers = [scales if table is None else table for table in tables]
    _attend[(value.shape[0] * num_lines, heads * triton.cdiv(length, _BLOCK))](
        *(query, projected.key, value, result, *pointers, scales, scales if position_scale is None else position_scale),
        *(length, num_lines, length if reach is None else reach, table_reach),
        *(*_steps(query, axis), *_steps(value, axis)),
        **named,
    )
    return result


def _steps(x: Tensor, axis: Axis) -> tuple[int, int, int]:
    """Values between images, lines and pixels of a line."""
    image, channel, row, column = x.stride()
    assert channel == 1, "channels are last"
    return (image, column, row) if axis == "height" else (image, row, column)
