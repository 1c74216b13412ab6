"""`line_attention.attend` with gradients: backward computes the weights anew, a block at a time.

Kept for it are the projected pixels and what was retrieved, both linear in the pixels of the image. Shapes as there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmsa_label.labelers.layers.line_attention import Group, Lines, Retrieved, Tables, attend, by_row
from hmsa_label.labelers.layers.line_blocks import Block, blocks, line_groups


def attend_with_gradients(lines: Lines, scales: Tensor, tables: Tables, reach: int | None) -> Retrieved:
    """As `attend`, for any number of lines, with gradients of lines, scales and tables."""
    content, position = _Attention.apply(*lines, scales, *tables, reach)
    return Retrieved(content, position if tables.value is not None else None)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        lines, scales, tables, reach = Lines(*inputs[:3]), inputs[3], Tables(*inputs[4:7]), inputs[7]
        content = torch.empty_like(lines.value, memory_format=torch.contiguous_format)
        position = torch.empty_like(content) if tables.value is not None else content.new_empty(0)
        for part in line_groups(content, content.shape[2], reach):
            found = attend(lines.group(part), scales, tables, reach)
            content[:, part] = found.content
            if found.position is not None:
                position[:, part] = found.position
        ctx.save_for_backward(*lines, scales, *tables, content, position)
        ctx.reach = reach
        return content, position

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, scales, *rest = ctx.saved_tensors
        lines, tables, outputs = Lines(query, key, value), Tables(*rest[:3]), rest[3:]
        total = _Total.of(lines, scales, tables)
        for part in line_groups(value, value.shape[2], ctx.reach):
            given, found = _of_lines(gradients, part), _of_lines(outputs, part)
            group = _GroupGradients(lines.group(part), scales, tables, given, found)
            for block in blocks(len(value), ctx.reach, value.device):
                group.add(block, total.tables)
            group.finish(total, part)
        return (*total.lines, total.scales, *total.tables, None)


def _of_lines(both: Sequence[Tensor], part: slice) -> Retrieved:
    """Some lines of what was retrieved, or of its gradients; an empty position part is none."""
    content, position = both
    return Retrieved(content[:, part], position[:, part] if position.numel() else None)


class _Total(NamedTuple):
    """Gradients of everything."""

    lines: Lines
    scales: Tensor
    tables: Tables

    @staticmethod
    def of(lines: Lines, scales: Tensor, tables: Tables) -> "_Total":
        filled = (torch.empty_like(part, memory_format=torch.contiguous_format) for part in lines)
        sums = (None if table is None else torch.zeros_like(table) for table in tables)
        return _Total(Lines(*filled), torch.zeros_like(scales), Tables(*sums))


class _GroupGradients:
    """Gradients of lines that are worked on together; those of the queries in reverse order, as the queries are."""

    def __init__(self, lines: Lines, scales: Tensor, tables: Tables, given: Retrieved, found: Retrieved) -> None:
        self.lines, self.scales, self.tables = lines, scales, tables
        self.group = Group(lines, scales, tables)
        self.content = by_row(given.content.flip(0))
        self.mean = (self.content * by_row(found.content.flip(0))).sum(-1)  # of the weights' gradients, per query
        self.position = None
        if given.position is not None and found.position is not None:
            self.position = by_row(given.position.flip(0))
            self.mean += (self.position * by_row(found.position.flip(0))).sum(-1)
        self.query, self.position_query = torch.zeros_like(self.group.query), torch.zeros_like(self.group.query)
        self.key, self.position_key = torch.zeros_like(self.group.key), torch.zeros_like(self.group.key)
        self.value = torch.zeros_like(self.group.value)

    def add(self, block: Block, tables: Tables) -> None:
        """Adds what a block's logits and weights say; `tables` are the sums over all blocks and lines."""
        group, queries, keys = self.group, block.queries, block.keys
        weights = group.weights(block)
        logits = self._of_weights(block, weights).sub_(self.mean[queries, :, None]).mul_(weights)
        by_line = logits.transpose(0, 1)  # [R, n, J]
        self.query[queries] = (by_line @ group.key[keys].transpose(0, 1)).transpose(0, 1)
        self.key[keys] += (by_line.mT @ group.query[queries].transpose(0, 1)).transpose(0, 1)
        self.value[keys] += (weights.transpose(0, 1).mT @ self.content[queries].transpose(0, 1)).transpose(0, 1)
        self._add_positions(block, logits, weights, tables)

    def _of_weights(self, block: Block, weights: Tensor) -> Tensor:
        """[n, R, J] gradient of the weights."""
        value = self.group.value[block.keys]
        if self.tables.value is None or self.position is None:
            gradient = torch.zeros_like(weights)
        else:
            gradient = self.position[block.queries] @ block.rows(self.tables.value).mT
        gradient.transpose(0, 1).baddbmm_(self.content[block.queries].transpose(0, 1), value.permute(1, 2, 0))
        return gradient

    def _add_positions(self, block: Block, logits: Tensor, weights: Tensor, tables: Tables) -> None:
        group, queries, keys = self.group, block.queries, block.keys
        places = block.places(logits.device)
        if self.tables.query is not None and group.position_query is not None:
            self.position_query[queries] = logits @ block.rows(self.tables.query)
            _add_rows(tables.query, places, logits.mT @ group.position_query[queries])
        if self.tables.key is not None and group.position_key is not None:
            by_key = logits.view(-1, logits.shape[-1]).t().contiguous().unflatten(1, logits.shape[:2])  # [J, n, R]
            self.position_key[keys] += by_key.mT @ block.rows_by_key(self.tables.key)
            _add_rows(tables.key, places.t(), by_key @ group.position_key[keys])
        if self.position is not None:
            _add_rows(tables.value, places, weights.mT @ self.position[queries])

    def finish(self, total: _Total, part: slice) -> None:
        """Writes the gradients of these lines, and adds those of the scales."""
        query, key, value = self.lines
        scale, scale_sum = iter(self.scales[:, :, None]), iter(total.scales)
        of_query, of_key = self.query.flip(0).view(query.shape), self.key.view(key.shape)
        next(scale_sum).add_((of_query * query).sum((0, 1, 3)))
        of_query = of_query * next(scale)
        if self.tables.query is not None:
            again = self.position_query.flip(0).view(query.shape)
            next(scale_sum).add_((again * query).sum((0, 1, 3)))
            of_query += again * next(scale)
        if self.tables.key is not None:
            again = self.position_key.view(key.shape)
            next(scale_sum).add_((again * key).sum((0, 1, 3)))
            of_key = of_key + again * next(scale)
        total.lines.query[:, part], total.lines.key[:, part] = of_query, of_key
        total.lines.value[:, part] = self.value.view(value.shape)


def _add_rows(total: Tensor | None, places: Tensor, rows: Tensor) -> None:
    """Adds rows [.., .., d] to a table's gradient where they belong."""
    assert total is not None, "a table that is used has a gradient"
    total.index_add_(0, places.flatten(), rows.flatten(0, 1))
