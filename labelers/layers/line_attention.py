"""Attention along lines with relative positions, exact and without a tensor of (query, key, channel) or of all logits.

    content_i = sum_j w_ij v_j,   position_i = sum_j w_ij r^v_{j-i}
    w_ij = softmax_j(a q_i.k_j + b q_i.r^q_{j-i} + c k_j.r^k_{j-i})      a, b, c: one number per head

Products with a table go pixel by pixel, for all lines and heads of a group at once; products of pixels go line by line.
The key term comes out with the query innermost and is transposed once.

Shapes: L pixels of a line, B lines, h heads, R = B h rows, d depth of a query and a key, e of a value, t terms; n
queries and J keys of a block.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hmsa_label.labelers.layers.line_blocks import Block, blocks


class Tables(NamedTuple):
    """Extended tables [2 L - 1, depth] of relative positions, see `line_blocks.extended`; None for a term left out."""

    query: Tensor | None
    key: Tensor | None
    value: Tensor | None


class Lines(NamedTuple):
    """Projected pixels of some lines.

    Attributes:
        query, key: [L, B, h, d].
        value: [L, B, h, e].
    """

    query: Tensor
    key: Tensor
    value: Tensor

    def group(self, lines: slice) -> "Lines":
        """The same of some of the lines."""
        return Lines(*(part[:, lines] for part in self))


class Retrieved(NamedTuple):
    """[L, B, h, e] weighted sums of the values and of the value table's rows; the second is None without one."""

    content: Tensor
    position: Tensor | None


class Group:
    """Lines that are worked on together: [L, R, depth] each, queries in reverse order and scaled."""

    def __init__(self, lines: Lines, scales: Tensor, tables: Tables) -> None:
        self.tables = tables
        scale = iter(scales[:, :, None])
        reverse = lines.query.flip(0)
        self.query = by_row(reverse * next(scale))
        self.position_query = None if tables.query is None else by_row(reverse * next(scale))
        self.key, self.value = by_row(lines.key), by_row(lines.value)
        self.position_key = None if tables.key is None else by_row(lines.key * next(scale))

    def weights(self, block: Block) -> Tensor:
        """[n, R, J] float; each row sums to 1."""
        query, key = self.query[block.queries], self.key[block.keys]
        logits = self._key_term(block)
        if self.tables.query is not None and self.position_query is not None:
            logits.baddbmm_(self.position_query[block.queries], block.rows(self.tables.query).mT)
        logits.transpose(0, 1).baddbmm_(query.transpose(0, 1), key.permute(1, 2, 0))
        if block.outside is not None:
            logits.masked_fill_(block.outside, float("-inf"))
        return torch.softmax(logits, -1, out=logits)

    def _key_term(self, block: Block) -> Tensor:
        query, key = self.query[block.queries], self.key[block.keys]
        if self.tables.key is None or self.position_key is None:
            return query.new_zeros(len(query), query.shape[1], len(key))
        by_key = block.rows_by_key(self.tables.key) @ self.position_key[block.keys].mT  # [J, n, R]
        logits = query.new_empty(len(query), query.shape[1], len(key))
        # of two axes: torch moves these in tiles
        logits.view(-1, len(key)).copy_(by_key.view(len(key), -1).t())
        return logits

    def retrieve(self, block: Block, weights: Tensor, content: Tensor, position: Tensor | None) -> None:
        """Writes the block's part of [L, R, e] reversed results."""
        content[block.queries] = (weights.transpose(0, 1) @ self.value[block.keys].transpose(0, 1)).transpose(0, 1)
        if self.tables.value is not None and position is not None:
            torch.bmm(weights, block.rows(self.tables.value), out=position[block.queries])


def by_row(x: Tensor) -> Tensor:
    """[L, B, h, depth] -> [L, R, depth]."""
    return x.reshape(x.shape[0], -1, x.shape[-1])


def attend(lines: Lines, scales: Tensor, tables: Tables, reach: int | None) -> Retrieved:
    """What the heads of a few lines retrieve, without gradients.

    Args:
        scales: [t, h] of the terms that there are, in the order content, query, key.
        reach: pixels to each side that a query sees, those beyond a line's end left out; None for all.
    """
    group, value = Group(lines, scales, tables), lines.value
    content = torch.empty_like(value, memory_format=torch.contiguous_format)
    position = None if tables.value is None else torch.empty_like(content)
    flat = (by_row(content), None if position is None else by_row(position))
    for block in blocks(len(value), reach, value.device):
        group.retrieve(block, group.weights(block), *flat)
    return Retrieved(content.flip(0), None if position is None else position.flip(0))
