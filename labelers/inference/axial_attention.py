"""Axial attention for inference: its norms folded, a few lines at a time, in the layout that the convolutions have.

Of the norm of the logits a scale per head and term is left. The norm of what is retrieved goes into the projection of
the values and into a scale per channel of the position part; its shift goes into the projection's bias, as the weights
of a query sum to 1. Lines of the width are rows of the image as they are; those of the height are copied a few at a
time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hmsa_label.labelers.layers.axial_attention import AxialAttention, Axis
from hmsa_label.labelers.layers.line_attention import Lines, Tables, attend
from hmsa_label.labelers.layers.line_blocks import extended, line_groups
from hmsa_label.labelers.layers.logit_norm import folded_scales

# (projected images, scales, tables, scale of the position part, axis, reach) -> [N, width, H, W]
AttentionKernel = Callable[[Lines, Tensor, Tables, Tensor | None, Axis, int | None], Tensor]


class FoldedAttention(nn.Module):
    """What an `AxialAttention` gives in inference mode: [N, C, H, W] -> [N, width, H, W], channels last.

    The projection has the dtype and the device that the module is brought to; the scales and tables stay in float32.

    Args:
        kernel: what computes attention in one launch, see `axial_kernel`; None for plain torch.

    Attributes:
        scales: [t, h] of the terms of the logits.
        tables: of query, key and value, [T, depth] or None.
        position_scale: [h, e] of the position part.
    """

    def __init__(self, layer: AxialAttention, kernel: AttentionKernel | None = None) -> None:
        super().__init__()
        self.kernel = kernel
        self.axis, self.heads, self.reach, self.out_channels = (
            layer.axis,
            layer.settings.heads,
            layer.reach,
            layer.width,
        )
        weight, bias = _folded_projection(layer)
        content, position, shift = _folded_output(layer)
        half = layer.width // 2
        weight[2 * half :] *= content[:, None]
        bias[2 * half :] = bias[2 * half :] * content + shift
        self.query, self.key = _conv(weight[:half], bias[:half]), _conv(weight[half : 2 * half], bias[half : 2 * half])
        self.value = _conv(weight[2 * half :], bias[2 * half :])
        self.scales = folded_scales(layer.bn_similarity, self.heads).detach().float()
        self.position_scale = None if position is None else position.view(self.heads, -1).float()
        tables = (layer.query_table, layer.key_table, layer.value_table)
        self.tables = Tables(*(None if table is None else table.detach().float() for table in tables))

    def _apply(self, fn: Any, recurse: bool = True) -> "FoldedAttention":
        """Takes the constants to the device of the weights, but not to their dtype."""
        super()._apply(fn, recurse)
        device = self.query.weight.device
        self.scales = self.scales.to(device)
        self.position_scale = None if self.position_scale is None else self.position_scale.to(device)
        self.tables = Tables(*(None if table is None else table.to(device) for table in self.tables))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, width, H, W]; each image by itself, where no kernel takes them together."""
        if self.kernel is not None:
            parts = (conv(x).contiguous(memory_format=torch.channels_last) for conv in self._projections())
            return self.kernel(Lines(*parts), self.scales, self.tables, self.position_scale, self.axis, self.reach)
        size = (len(x), self.out_channels, *x.shape[2:])
        result = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        length = x.shape[2] if self.axis == "height" else x.shape[3]
        tables = Tables(*(None if table is None else extended(table, length) for table in self.tables))
        for image, place in zip(self._by_line(x), self._by_line(result), strict=True):
            for part in line_groups(image, self.heads, self.reach):
                place[:, part] = self._attend(image[:, part].contiguous(), tables)
        return result

    def _projections(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        return self.query, self.key, self.value

    def _by_line(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, L, B, C], a view."""
        return x.permute((0, 2, 3, 1) if self.axis == "height" else (0, 3, 2, 1))

    def _attend(self, pixels: Tensor, tables: Tables) -> Tensor:
        """[L, B, C] -> [L, B, width] of a few lines."""
        x = pixels[None].permute(0, 3, 1, 2)
        parts = (conv(x).float().permute(0, 2, 3, 1)[0] for conv in self._projections())
        lines = Lines(*(part.unflatten(2, (self.heads, -1)) for part in parts))
        content, position = attend(lines, self.scales, tables, self.reach)
        if position is not None and self.position_scale is not None:
            content.addcmul_(position, self.position_scale)
        return content.flatten(2)


def _folded_projection(layer: AxialAttention) -> tuple[Tensor, Tensor]:
    """Weight [2 * width, C] and bias [2 * width] of the projection with its norm; new tensors."""
    scale, shift = _scale_and_shift(layer.bn_qkv)
    return layer.qkv.weight.detach().flatten(1) * scale[:, None], shift


def _folded_output(layer: AxialAttention) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scales [width] of the content and of the position part, and the shift [width] of their sum."""
    scale, shift = _scale_and_shift(layer.bn_output)
    if layer.value_table is None:
        return scale, None, shift
    content, position = scale.chunk(2)
    return content, position, shift.view(2, -1).sum(0)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_var is not None, "built with running statistics"
    assert norm.running_mean is not None, "built with running statistics"
    scale = norm.weight.detach() * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight[..., None, None].clone()), nn.Parameter(bias.clone())
    return conv
