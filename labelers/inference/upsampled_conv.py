"""A convolution over feature maps of several resolutions, brought to one size and concatenated, without doing either.

Convolution and bilinear upsampling are both linear and act on different axes, so they may change places: every tap
of the kernel is applied at the low resolution (1/4 to 1/64 of the pixels), and its result is upsampled, shifted by the
tap and summed. The sums over taps and pixels of one axis are one product with a banded matrix.
Of the 387 GMAC of a pass of the published network at 512x1024, this saves 99.

Shape suffixes: h, w the size of branch 0; k, l rows and columns of a lower branch; t, s taps along y and x; O channels.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmsa_label.labelers.layers.resampling import Entries, Resampler, resize_entries

# A block of columns of a few rows stays in a CPU's cache between its two products; a GPU wants fewer, larger ones.
_COLUMNS_PX_CPU, _COLUMNS_PX_GPU = 32, 128


@lru_cache(maxsize=128)
def _tap_resamplers(
    size_px: int, new_size_px: int, taps: int, dtype: torch.dtype, device: torch.device
) -> tuple[Resampler, ...]:
    """One resampler per tap: upsampling followed by a shift of tap - taps // 2 px, zeros coming in."""
    entries = resize_entries(size_px, new_size_px)
    return tuple(Resampler(entries.shifted(tap - taps // 2), dtype, device) for tap in range(taps))


@lru_cache(maxsize=128)
def _interleaved(size_px: int, new_size_px: int, taps: int, dtype: torch.dtype, device: torch.device) -> Resampler:
    """[w, l * s]: the resamplers of all taps with their columns interleaved."""
    entries = resize_entries(size_px, new_size_px)
    parts = [entries.shifted(tap - taps // 2) for tap in range(taps)]
    columns = torch.cat([part.columns * taps + tap for tap, part in enumerate(parts)], 1)
    return Resampler(Entries(columns, torch.cat([part.weights for part in parts], 1)), dtype, device)


class UpsampledConv:
    """Convolution 1x1 or 3x3 of stride 1 over branches whose channels are concatenated at the size of branch 0.

    Args:
        conv: with the channels of all branches as input; its weights are copied.
        widths: channels of each branch.
    """

    def __init__(self, conv: nn.Conv2d, widths: Sequence[int]) -> None:
        assert conv.bias is not None, "batch norms are folded before"
        parts = conv.weight.detach().split(list(widths), dim=1)
        self.taps = int(conv.kernel_size[0])
        self.out_channels = conv.out_channels
        self.direct = parts[0].contiguous(memory_format=torch.channels_last)
        self.bias = conv.bias.detach()
        # [c, s, O] for each tap t along y, of each lower branch
        self.lower = [[part[:, :, t].permute(1, 2, 0).flatten(1) for t in range(self.taps)] for part in parts[1:]]

    def rows(self, branches: Sequence[Tensor], start: int, stop: int) -> Tensor:
        """[stop - start, w, O] rows of the result for branches [1, C, h, w], [1, C, k, l], ...; ends excluded."""
        height, width = branches[0].shape[-2:]
        out = self._direct_rows(branches[0], start, stop).flatten(1)
        for branch, weights in zip(branches[1:], self.lower, strict=True):
            low_height, low_width = branch.shape[-2:]
            along_y = _tap_resamplers(low_height, height, self.taps, out.dtype, out.device)
            along_x = _interleaved(low_width, width, self.taps, out.dtype, out.device)
            for resampler, weight in zip(along_y, weights, strict=True):
                self._add_lower(out, resampler.band(start, stop), along_x, branch, weight)
        return out.view(stop - start, width, self.out_channels)

    def _direct_rows(self, branch: Tensor, start: int, stop: int) -> Tensor:
        """[R, w, O] the part of branch 0, with bias."""
        margin, height = self.taps // 2, branch.shape[2]
        above, below = max(start - margin, 0), min(stop + margin, height)
        slab = branch[:, :, above:below]
        missing = (above - (start - margin), stop + margin - below)
        if any(missing):
            slab = F.pad(slab, (0, 0, *missing))
        out = F.conv2d(slab, self.direct, self.bias, padding=(0, margin))
        return out.permute(0, 2, 3, 1)[0].contiguous()

    def _add_lower(
        self, out: Tensor, along_y: tuple[Tensor, int, int], along_x: Resampler, branch: Tensor, weight: Tensor
    ) -> None:
        """Adds one lower branch's part for one tap along y to `out` [R, w * O], a block of columns at a time."""
        matrix, first, last = along_y
        low_kpc = branch[0, :, first:last].permute(1, 2, 0)
        tapped = (low_kpc @ weight).unflatten(2, (self.taps, -1)).flatten(1, 2)  # [k, l * s, O]
        columns_px = _COLUMNS_PX_CPU if out.device.type == "cpu" else _COLUMNS_PX_GPU
        for start, stop in along_x.blocks(columns_px):
            block, left, right = along_x.band(start, stop)
            wide = torch.bmm(block.expand(last - first, -1, -1), tapped[:, left:right])  # [k, columns, O]
            out[:, start * self.out_channels : stop * self.out_channels].addmm_(matrix, wide.flatten(1))
