"""Axial attention with the equation written out: what the forms of the product are compared with.

Shapes: N images, C channels, B lines (all rows, or all columns, of the images), L pixels of a line, h heads, d depth of
a head, t terms of the logits.
"""

import torch
from torch import Tensor

from hmsa_label.labelers.layers.axial_attention import AxialAttention


class PlainAxialAttention(AxialAttention):
    """The layer with every logit, every gathered row and every retrieved part as a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, width, H, W]."""
        query, key, value = self.split_heads(self.plain_lines(self.bn_qkv(self.qkv(x))))
        weights = self.logits(self.similarity(query, key)).softmax(-1)
        lines = self.plain_merge(self.retrieve(weights, value))
        return self.plain_image(lines, x)

    def plain_lines(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [B, C, L]: its columns for the height, its rows for the width."""
        order = (0, 3, 1, 2) if self.axis == "height" else (0, 2, 1, 3)
        return x.permute(order).flatten(0, 1)

    def plain_image(self, lines: Tensor, like: Tensor) -> Tensor:
        """[B, C, L] -> [N, C, H, W] for the N, H and W of another tensor."""
        order = (0, 2, 3, 1) if self.axis == "height" else (0, 2, 1, 3)
        return lines.unflatten(0, (like.shape[0], -1)).permute(order)

    def split_heads(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 2 * width, L] -> queries and keys [B, h, d, L], values [B, h, 2 d, L]."""
        half = self.width // 2
        query, key, value = projected.split([half, half, self.width], dim=1)
        heads = self.settings.heads
        return query.unflatten(1, (heads, -1)), key.unflatten(1, (heads, -1)), value.unflatten(1, (heads, -1))

    def rows(self, length: int, device: torch.device) -> Tensor:
        """[L, L] int64: the table row of each query (first) and key."""
        reach = self.settings.table_len // 2
        place = torch.arange(length, device=device)
        return (place[None, :] - place[:, None]).clamp(-reach, reach) + reach

    def window(self, length: int, device: torch.device) -> Tensor | None:
        """[L, L] bool: the keys that each query looks at; None if those are all."""
        span = self.settings.span
        if span is None or length <= span // 2 + 1:
            return None
        place = torch.arange(length, device=device)
        return (place[None, :] - place[:, None]).abs() <= span // 2

    def similarity(self, query: Tensor, key: Tensor) -> Tensor:
        """[B, t * h, L, L] terms of the logits before their norm, for each query and key."""
        rows = self.rows(query.shape[-1], query.device)
        terms = [torch.einsum("bhdi,bhdj->bhij", query, key)]
        if self.query_table is not None:
            terms.append(torch.einsum("bhdi,ijd->bhij", query, self.query_table[rows]))
        if self.key_table is not None:
            terms.append(torch.einsum("bhdj,ijd->bhij", key, self.key_table[rows]))
        return torch.cat(terms, dim=1)

    def logits(self, similarity: Tensor) -> Tensor:
        """[B, h, L, L] sum of the normalized terms, minus infinity for keys outside the span.

        The statistics of the norm are of the pairs inside the span.
        """
        window = self.window(similarity.shape[-1], similarity.device)
        if window is None or not self.bn_similarity.training:
            logits = self._sum_of_terms(self.bn_similarity(similarity))
            return logits if window is None else logits.masked_fill(~window, float("-inf"))
        pairs = self._sum_of_terms(self.bn_similarity(similarity[:, :, window].unsqueeze(-1)))
        shape = (len(pairs), self.settings.heads, *similarity.shape[-2:])
        return pairs.new_full(shape, float("-inf")).masked_scatter(window, pairs)

    def _sum_of_terms(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.settings.heads)).sum(1)

    def retrieve(self, weights: Tensor, value: Tensor) -> Tensor:
        """[B, 2 * width, L]: the weighted sums of the values, then those of the value table; width without one."""
        parts = [torch.einsum("bhij,bhdj->bhdi", weights, value)]
        if self.value_table is not None:
            table = self.value_table[self.rows(value.shape[-1], value.device)]
            parts.append(torch.einsum("bhij,ijd->bhdi", weights, table))
        return torch.cat(parts, dim=1).flatten(1, 2)

    def plain_merge(self, retrieved: Tensor) -> Tensor:
        """[B, width, L]: content and position part of each channel, normalized and added."""
        return self.bn_output(retrieved.unsqueeze(-1)).squeeze(-1).unflatten(1, (-1, self.width)).sum(1)


def plain(layer: AxialAttention) -> PlainAxialAttention:
    """A layer of the same weights, statistics and mode that computes the equation as it is written."""
    twin = PlainAxialAttention(layer.qkv.in_channels, layer.width, layer.axis, layer.settings)
    twin.to(layer.qkv.weight.dtype).load_state_dict(layer.state_dict())
    return twin.train(layer.training)
