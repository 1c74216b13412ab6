"""Position-sensitive axial attention (arXiv 2003.07853, section 3.2).

    y_o = sum over p of softmax_p(q_o.k_p + q_o.r^q_{p-o} + k_p.r^k_{p-o}) (v_p + r^v_{p-o})

along the rows or the columns of an image, for every head on its own. Three batch norms belong to the layer: of the
projected channels, of each term of the logits per head, and of the two parts of the result per channel. There is no
1 / sqrt(depth): the second norm takes its place. `tests/labelers/plain_axial.py` has the equation as it stands here;
this form gives the same without a tensor of all logits, in training and after it.

Shapes: N images, C channels, B lines (all rows, or all columns, of the images), L pixels of a line.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.line_attention import Lines, Retrieved, Tables
from hmsa_label.labelers.layers.line_blocks import extended
from hmsa_label.labelers.layers.line_gradients import attend_with_gradients
from hmsa_label.labelers.layers.logit_norm import logit_scales

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
            lines = self.to_lines(projected.float() if projected.dtype.itemsize < 4 else projected)
            tables = self.tables(len(lines.query))
            scales = logit_scales(self.bn_similarity, lines, tables, self.reach)
            retrieved = attend_with_gradients(lines, scales, tables, self.reach)
            return self.from_lines(self.merge(retrieved), x)

    @property
    def reach(self) -> int | None:
        """Pixels to each side that a pixel looks at; None for all."""
        return None if self.settings.span is None else self.settings.span // 2

    def to_lines(self, projected: Tensor) -> Lines:
        """[N, 2 * width, H, W] -> pixels of a line first, then the lines of all images, then heads."""
        order = (2, 0, 3, 1) if self.axis == "height" else (3, 0, 2, 1)
        pixels = projected.permute(order).flatten(1, 2)
        parts = pixels.split([self.width // 2, self.width // 2, self.width], dim=2)
        return Lines(*(part.unflatten(2, (self.settings.heads, -1)) for part in parts))

    def tables(self, length: int) -> Tables:
        """The tables at the offsets of a line."""
        tables = (self.query_table, self.key_table, self.value_table)
        return Tables(*(None if table is None else extended(table, length) for table in tables))

    def merge(self, retrieved: Retrieved) -> Tensor:
        """[L, B, width]: content and position part of each channel, normalized and added."""
        parts = [part.flatten(2) for part in retrieved if part is not None]
        normed: Tensor = self.bn_output(torch.cat(parts, dim=2)[None].permute(0, 3, 1, 2))
        return normed.permute(0, 2, 3, 1)[0].unflatten(2, (-1, self.width)).sum(2)

    def from_lines(self, lines: Tensor, like: Tensor) -> Tensor:
        """[L, B, C] -> [N, C, H, W] for the N, H and W of another tensor."""
        order = (1, 3, 0, 2) if self.axis == "height" else (1, 3, 2, 0)
        return lines.unflatten(1, (like.shape[0], -1)).permute(order)
