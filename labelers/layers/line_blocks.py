"""How attention along lines is cut: a few lines, and of these a block of queries with the keys that they see.

Queries are taken in reverse order. The offset between the r-th query from the end and the j-th key grows by one with r
and with j, so the rows of a table that a block needs are a view of it with overlapping strides: no row is gathered.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Queries of a block, and its logits. On a CPU these stay in the second-level cache; a GPU wants few, large launches.
_QUERIES_CPU, _LOGITS_CPU = 32, 2**18
_QUERIES_GPU, _LOGITS_GPU = 128, 2**25
_MIN_ROWS = 32  # lines times heads: fewer make poor matrix products


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Some queries of a line of L pixels and the keys that they see.

    Attributes:
        queries: of the reversed line. keys: of the line.
        row: of the extended table, where the first query and the first key meet; the next query is one row further, and
            so is the next key.
        outside: [n, 1, J] bool, the pairs beyond the span; None if there are none.
    """

    queries: slice
    keys: slice
    row: int
    outside: Tensor | None

    def rows(self, table: Tensor) -> Tensor:
        """[n, J, d] view of an extended table [2 L - 1, d]: the row of each query and key."""
        return self._view(table, self.queries, self.keys)

    def rows_by_key(self, table: Tensor) -> Tensor:
        """[J, n, d], the same by key and query."""
        return self._view(table, self.keys, self.queries)

    def _view(self, table: Tensor, first: slice, second: slice) -> Tensor:
        depth = table.shape[1]
        size = (first.stop - first.start, second.stop - second.start, depth)
        return table.as_strided(size, (depth, depth, 1), table.storage_offset() + self.row * depth)

    def places(self, device: torch.device) -> Tensor:
        """[n, J] int64 rows of the extended table, as `rows` takes them."""
        queries, keys = self.queries, self.keys
        across = torch.arange(keys.stop - keys.start, device=device)
        return torch.arange(queries.stop - queries.start, device=device)[:, None] + across + self.row


def blocks(length: int, reach: int | None, device: torch.device) -> list[Block]:
    """Blocks that hold every query of a line once.

    Args:
        reach: pixels to each side that a query sees; None for all.
    """
    step = _QUERIES_GPU if device.type == "cuda" else _QUERIES_CPU
    cuts = [slice(start, min(start + step, length)) for start in range(0, length, step)]
    # all blocks of a pass without content take the same memory at most
    return [_block(queries, length, reach, device) for queries in cuts[: 1 if device.type == "meta" else None]]


def _block(queries: slice, length: int, reach: int | None, device: torch.device) -> Block:
    if reach is None or reach >= length - 1:
        return Block(queries=queries, keys=slice(0, length), row=queries.start, outside=None)
    keys = slice(max(0, length - queries.stop - reach), min(length, length - queries.start + reach))
    block = Block(queries=queries, keys=keys, row=queries.start + keys.start, outside=None)
    offsets = block.places(device) - (length - 1)
    outside = offsets.abs() > reach
    return Block(queries=queries, keys=keys, row=block.row, outside=outside[:, None])


def line_groups(like: Tensor, heads: int, reach: int | None) -> Iterator[slice]:
    """Slices of the lines of [L, B, ...] that are worked on together; they follow from its size alone."""
    length, lines = like.shape[:2]
    is_gpu = like.device.type == "cuda"
    queries, logits = (_QUERIES_GPU, _LOGITS_GPU) if is_gpu else (_QUERIES_CPU, _LOGITS_CPU)
    keys = length if reach is None else min(length, queries + 2 * reach)
    step = max(1, max(_MIN_ROWS, logits // (min(queries, length) * keys)) // heads)
    for start in range(0, lines, step):
        yield slice(start, min(start + step, lines))
        if like.device.type == "meta":
            return


def extended(table: Tensor, length: int) -> Tensor:
    """[2 L - 1, d]: row L - 1 + offset of a table [T, d] whose middle row is offset 0 and whose end rows repeat."""
    reach = len(table) // 2
    offsets = torch.arange(1 - length, length, device=table.device)
    return table[offsets.clamp(-reach, reach) + reach]


def num_pairs(length: int, reach: int | None) -> int:
    """Pairs of a query and a key that it sees, on one line."""
    reach = length - 1 if reach is None else min(reach, length - 1)
    return length * (2 * reach + 1) - reach * (reach + 1)
