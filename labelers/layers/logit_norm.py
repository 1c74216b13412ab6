"""The batch norm of the logits' terms, from sums over all pairs that no logit is kept for.

A sum over pairs of pixels is one of products of small matrices:

    sum_ij q_i.k_j = (sum_i q_i).(sum_j k_j)             sum_ij (q_i.k_j)^2 = <sum_i q_i q_i^T, sum_j k_j k_j^T>
    sum_ij q_i.r_{j-i} = sum_i q_i.(sum_j r_{j-i})       and its squares likewise, from the products r r^T

Under a span the content term has no such form; its squares are then added up a block of logits at a time. Mean and bias
of the norm are the same for every key of a query and cancel in the softmax: what is left of it is a scale per head and
term. Shapes as in `line_attention`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hmsa_label.labelers.layers.line_attention import Lines, Tables
from hmsa_label.labelers.layers.line_blocks import blocks, line_groups, num_pairs
from hmsa_label.labelers.layers.synced_batch_norm import batch_moments


def logit_scales(norm: nn.Module, lines: Lines, tables: Tables, reach: int | None) -> Tensor:
    """[t, h] what each term of the logits is multiplied with, in the order content, query, key.

    In training the statistics are those of the pairs inside the span of all lines (and of all processes for a norm that
    joins them), and the running ones follow.

    Args:
        norm: over t * h channels.
    """
    heads = lines.query.shape[2]
    if not norm.training:
        return folded_scales(norm, heads)
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    _, variance = batch_moments(norm, *logit_sums(lines, tables, reach))
    return _scales(norm, variance, heads)


def folded_scales(norm: nn.Module, heads: int) -> Tensor:
    """[t, h] scales of a norm in inference mode."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_var is not None, "built with running statistics"
    return _scales(norm, norm.running_var, heads)


def _scales(norm: nn.modules.batchnorm._BatchNorm, variance: Tensor, heads: int) -> Tensor:
    scales = norm.weight * torch.rsqrt(variance + norm.eps)
    # a bias without a gradient would stop a training by several processes
    return (scales + 0 * norm.bias).to(norm.weight.dtype).view(-1, heads)


def logit_sums(lines: Lines, tables: Tables, reach: int | None) -> tuple[Tensor, Tensor, float]:
    """(sums [t * h] of the terms, sums of their squares, number of pairs) over the pairs inside the span, float64."""
    length, num_lines = lines.query.shape[:2]
    reach = length - 1 if reach is None else min(reach, length - 1)
    met, seen = slice(length - 1 - reach, length + reach), _seen(lines.query, reach)
    sums = [_content_sums(lines, reach)]
    if tables.query is not None:
        sums.append(_table_sums(lines.query, tables.query[met], seen))
    if tables.key is not None:
        sums.append(_table_sums(lines.key, tables.key[met], seen.flip(1)))
    total, squares = torch.cat(sums, dim=1)
    return total, squares, float(num_lines * num_pairs(length, reach))


def _seen(x: Tensor, reach: int) -> Tensor:
    """[L, 2 reach + 1]: 1 where a query has a key at an offset from -reach to reach, else 0."""
    keys = torch.arange(len(x), device=x.device)[:, None] + torch.arange(-reach, reach + 1, device=x.device)
    return ((keys >= 0) & (keys < len(x))).to(x.dtype)


def _table_sums(x: Tensor, table: Tensor, seen: Tensor) -> Tensor:
    """[2, h] sums of x_i.r over the rows r that pixel i meets, and of the squares.

    Args:
        x: [L, B, h, d]. table: [m, d]. seen: [L, m], 1 where they meet.
    """
    products = table[:, :, None] * table[:, None]
    rows, squares = seen @ table, (seen @ products.flatten(1)).unflatten(1, products.shape[1:])
    gram = x.permute(0, 2, 3, 1) @ x.transpose(1, 2)  # [L, h, d, d]
    of_rows = (x.sum(1) * rows[:, None]).sum((0, 2), dtype=torch.float64)
    return torch.stack([of_rows, (gram * squares[:, None]).sum((0, 2, 3), dtype=torch.float64)])


def _content_sums(lines: Lines, reach: int) -> Tensor:
    """[2, h] sums of q_i.k_j, and of the squares."""
    query, key = lines.query, lines.key
    if reach < len(query) - 1:
        sums: Tensor = _SpanSums.apply(query, key, reach)
        return sums
    of_rows = (query.sum(0) * key.sum(0)).sum((0, 2), dtype=torch.float64)
    grams = [x.permute(1, 2, 3, 0) @ x.permute(1, 2, 0, 3) for x in (query, key)]  # [B, h, d, d]
    return torch.stack([of_rows, (grams[0] * grams[1]).sum((0, 2, 3), dtype=torch.float64)])


class _SpanSums(torch.autograd.Function):
    """[2, h] sums of q_i.k_j over the pairs inside the span, and of the squares, a block at a time both ways."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        query, key, reach = inputs
        ctx.save_for_backward(query, key)
        ctx.reach = reach
        total = query.new_zeros(2, query.shape[2], dtype=torch.float64)
        for part in line_groups(query, query.shape[2], reach):
            reverse, keys = _by_head(query[:, part].flip(0)), _by_head(key[:, part])
            for block in blocks(len(query), reach, query.device):
                pairs = _pairs(reverse[:, :, block.queries], keys[:, :, block.keys], block.outside)
                total[0] += pairs.sum((0, 2, 3), dtype=torch.float64)
                total[1] += pairs.square_().sum((0, 2, 3), dtype=torch.float64)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key = ctx.saved_tensors
        of_sums, of_squares = gradients[0].to(query.dtype)[:, None, :, None, None]
        of_query, of_key = torch.empty_like(query), torch.empty_like(key)
        for part in line_groups(query, query.shape[2], ctx.reach):
            reverse, keys = _by_head(query[:, part].flip(0)), _by_head(key[:, part])
            reverse_gradient, key_gradient = torch.zeros_like(reverse), torch.zeros_like(keys)
            for block in blocks(len(query), ctx.reach, query.device):
                some_queries, some_keys = reverse[:, :, block.queries], keys[:, :, block.keys]
                pairs = _pairs(some_queries, some_keys, block.outside).mul_(2 * of_squares[0]).add_(of_sums[0])
                if block.outside is not None:
                    pairs.masked_fill_(block.outside[:, 0], 0)
                reverse_gradient[:, :, block.queries] = pairs @ some_keys
                key_gradient[:, :, block.keys] += pairs.mT @ some_queries
            of_query[:, part], of_key[:, part] = (
                reverse_gradient.permute(2, 0, 1, 3).flip(0),
                key_gradient.permute(2, 0, 1, 3),
            )
        return of_query, of_key, None


def _by_head(x: Tensor) -> Tensor:
    """[L, B, h, d] -> [B, h, L, d]."""
    return x.permute(1, 2, 0, 3).contiguous()


def _pairs(query: Tensor, key: Tensor, outside: Tensor | None) -> Tensor:
    """[B, h, n, J] products of queries and keys, 0 beyond the span."""
    pairs = query @ key.mT
    return pairs if outside is None else pairs.masked_fill_(outside[:, 0], 0)
