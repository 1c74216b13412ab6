"""Position-sensitive axial attention (arXiv 2003.07853, section 3.2), the equation written out.

    y_o = sum over p of softmax_p(q_o.k_p + q_o.r^q_{p-o} + k_p.r^k_{p-o}) (v_p + r^v_{p-o})

along the rows or the columns of an image, for every head on its own. Three batch norms belong to the layer: of the
projected channels, of each term of the logits per head, and of the two parts of the result per channel. There is no
1 / sqrt(depth): the second norm takes its place.

Shapes: N images, C channels, B lines (all rows, or all columns, of the images), L pixels of a line, h heads, d depth of
a head, t terms of the logits.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Axis = Literal["height", "width"]
POSITIONS = ("query", "key", "value")


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What the axial layers of a network share.

    Attributes:
        heads: parts of the channels that attend on their own.
        span: pixels that a pixel looks at, itself in the middle, odd; near a border those inside the image. None looks
            at the whole line.
        table_len: rows of each table of relative positions, odd; the middle row is offset 0. Offsets beyond the table
            share its end rows, so a layer takes lines of any length.
        positions: which position terms there are, of `query`, `key` and `value`; () is attention by content alone.
    """

    heads: int = 8
    span: int | None = None
    table_len: int = 509
    positions: tuple[str, ...] = POSITIONS

    def __post_init__(self) -> None:
        if self.span is not None and (self.span < 1 or self.span % 2 == 0):
            raise ValueError(f"span must be an odd number of pixels, or None for the whole line; got {self.span}")
        if self.table_len < 1 or self.table_len % 2 == 0:
            raise ValueError(f"table_len must be an odd number of rows; got {self.table_len}")
        if unknown := set(self.positions) - set(POSITIONS):
            raise ValueError(f"positions are of {', '.join(POSITIONS)}; got {sorted(unknown)[0]!r}")


class AxialAttention(nn.Module):
    """Attention along one axis: [N, in_channels, H, W] -> [N, width, H, W] for any H and W.

    The projected channels are all queries, then all keys, then all values, each by head; a query and a key are half as
    deep as a value. `bn_similarity` has one channel per term and head, in the order content, query, key; `bn_output`
    has the content of each output channel and then its position part. Row r of a table is the offset
    key - query = r - table_len // 2.

    Raises:
        ValueError: width is no multiple of twice the heads.
    """

    def __init__(
        self, in_channels: int, width: int, axis: Axis, settings: AttentionSettings = AttentionSettings()
    ) -> None:
        super().__init__()
        heads, positions = settings.heads, settings.positions
        if width % (2 * heads):
            raise ValueError(f"{heads} heads need a width that {2 * heads} divides; got {width}")
        self.axis, self.settings, self.width = axis, settings, width
        self.key_depth, self.value_depth = width // (2 * heads), width // heads
        num_terms = 1 + ("query" in positions) + ("key" in positions)
        self.qkv = nn.Conv2d(in_channels, 2 * width, 1, bias=False)
        self.bn_qkv = nn.BatchNorm2d(2 * width)
        self.bn_similarity = nn.BatchNorm2d(num_terms * heads)
        self.bn_output = nn.BatchNorm2d(2 * width if "value" in positions else width)
        self.query_table = self._table("query", self.key_depth)
        self.key_table = self._table("key", self.key_depth)
        self.value_table = self._table("value", self.value_depth)
        nn.init.normal_(self.qkv.weight, std=in_channels**-0.5)

    def _table(self, name: str, depth: int) -> nn.Parameter | None:
        if name not in self.settings.positions:
            return None
        return nn.Parameter(self.value_depth**-0.5 * torch.randn(self.settings.table_len, depth))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, width, H, W]; logits and softmax are float32 under autocast, too."""
        projected = self.bn_qkv(self.qkv(x))
        with torch.autocast(x.device.type, enabled=False):
            query, key, value = self.split_heads(self.to_lines(projected.float()))
            weights = self.logits(self.similarity(query, key)).softmax(-1)
            lines = self.merge(self.retrieve(weights, value))
        return self.from_lines(lines, x)

    def to_lines(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [B, C, L]: its columns for the height, its rows for the width."""
        order = (0, 3, 1, 2) if self.axis == "height" else (0, 2, 1, 3)
        return x.permute(order).flatten(0, 1)

    def from_lines(self, lines: Tensor, like: Tensor) -> Tensor:
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
        if window is None:
            return self._sum_of_terms(self.bn_similarity(similarity))
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

    def merge(self, retrieved: Tensor) -> Tensor:
        """[B, width, L]: content and position part of each channel, normalized and added."""
        return self.bn_output(retrieved.unsqueeze(-1)).squeeze(-1).unflatten(1, (-1, self.width)).sum(1)
