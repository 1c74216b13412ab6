"""Inference with nothing computed that the result does not need; the same labels as `hmsa.predict`.

What differs from the reference order of operations: batch norms are folded, the OCR head never sees concatenated
branches, the highest scale has no attention, auxiliary logits stay small, and all resizes and the fusion run over
blocks of rows (`fused_rows`).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hmsa_label.labelers.heads.explicit_attention import ExplicitAttentionHead
from hmsa_label.labelers.heads.ocr import HeadOutput, OCRHead
from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.hmsa.scale_chain import scaled_size
from hmsa_label.labelers.inference.folding import fold
from hmsa_label.labelers.inference.fused_rows import (
    ChainRows,
    PooledRows,
    Rows,
    ScaleMaps,
    WeightedRows,
    check_finite,
    row_blocks,
)
from hmsa_label.labelers.inference.ocr_rows import OCRRows
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.trunks.hrnet import HRNet

# Pixels whose logits exist at a time; each block waits for the device once.
_BLOCK_PIXELS_CPU, _BLOCK_PIXELS_GPU = 2**16, 2**20


class InferenceNet:
    """A folded copy of a network on one device and in one precision.

    Convolutions run in `dtype`; last layers, softmax, resizing and fusion always in float32.

    Args:
        net: with the weights to use; it is not changed.
        device: `meta` for one that computes shapes only.
        dtype: torch.float32, torch.bfloat16 or torch.float16.
    """

    def __init__(self, net: SegmentationNet, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.dtype, self.device = dtype, device
        self.mean, self.std = net.mean.to(device), net.std.to(device)
        folded: SegmentationNet = fold(net).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net = folded.to(dtype)
        head, trunk = self.net.head, self.net.trunk
        streams = isinstance(head, OCRHead) and isinstance(trunk, HRNet)
        self.ocr_rows = OCRRows(head, trunk.widths) if streams else None  # type: ignore[arg-type]

    def normalise(self, image: Tensor) -> Tensor:
        """[H, W, 3] uint8 RGB -> [1, 3, H, W] float32."""
        return (image.to(self.device).permute(2, 0, 1)[None].float() / 255 - self.mean) / self.std

    def fused_rows(self, x: Tensor, scales: Sequence[float], fusion: str) -> Rows:
        """Rows of the logits of one normalised image [1, 3, H, W], fused over `scales`.

        Args:
            fusion: as in `hmsa.predict`.

        Raises:
            ValueError: the network, the fusion and the scales do not go together.
        """
        self._check(scales, fusion)
        height, width = x.shape[-2:]
        if fusion == "explicit":
            return self._weighted(x)
        if fusion == "hierarchical":
            descending = sorted(scales, reverse=True)
            return ChainRows([
                self._maps(x, scale, scaled_size(height, width, scale), attention=index > 0)
                for index, scale in enumerate(descending)
            ])  # fmt: skip
        sizes = {scale: (round(height * scale), round(width * scale)) for scale in scales}
        return PooledRows([self._maps(x, scale, sizes[scale]) for scale in scales], (height, width), fusion)

    def logit_blocks(
        self, image: Tensor, scales: Sequence[float], fusion: str, flip: bool, *, finite: bool = False
    ) -> Iterator[tuple[int, int, Tensor]]:
        """(first row, last row excluded, logits [K, R, W] float32) of consecutive blocks of one image.

        With `flip`, the fused logits of the mirrored image are mirrored back and averaged in.

        Args:
            image: [H, W, 3] uint8 RGB.
            finite: refuse logits that are not.

        Raises:
            FloatingPointError: before the first block, if the network gives NaN or infinite logits or attention.
        """
        x = self.normalise(image)
        straight = self.fused_rows(x, scales, fusion)
        mirrored = self.fused_rows(x.flip(3), scales, fusion) if flip else None
        for rows in (straight, mirrored):
            if finite and rows is not None:
                check_finite(rows)
        height, width = x.shape[-2:]
        del x
        pixels = _BLOCK_PIXELS_GPU if self.device.type == "cuda" else _BLOCK_PIXELS_CPU
        for start, stop in row_blocks(height, width, pixels):
            logits = straight.rows(start, stop)
            if mirrored is not None:
                logits = logits.add_(mirrored.rows(start, stop).flip(2)).div_(2)
            yield start, stop, logits

    def logits(self, image: Tensor, scales: Sequence[float], fusion: str, flip: bool) -> Tensor:
        """All fused logits [K, H, W] float32 of an image [H, W, 3] uint8 RGB."""
        return torch.cat([block for _, _, block in self.logit_blocks(image, scales, fusion, flip)], dim=1)

    def top1(self, image: Tensor, scales: Sequence[float], fusion: str, flip: bool) -> Tensor:
        """Arg-max classes [H, W] uint8 of an image [H, W, 3] uint8 RGB; its logits never exist as a whole."""
        blocks = self.logit_blocks(image, scales, fusion, flip)
        return torch.cat([logits.argmax(0).to(torch.uint8) for _, _, logits in blocks])

    def _check(self, scales: Sequence[float], fusion: str) -> None:
        attention = self.net.attention
        if fusion in ("hierarchical", "explicit") and fusion != self.net.fusion and tuple(scales) != (1.0,):
            raise ValueError(
                f"fusion {fusion!r} needs a network trained with it; this one was built for {self.net.fusion!r}"
            )
        if fusion == "hierarchical" and 1.0 not in scales:
            raise ValueError(f"hierarchical fusion needs scale 1.0 among the scales; got {tuple(scales)}")
        trained = attention.scales if isinstance(attention, ExplicitAttentionHead) else ()
        if fusion == "explicit" and tuple(sorted(scales)) != trained:
            raise ValueError(f"explicit attention knows only the scales {trained}; got {tuple(scales)}")
        if not scales or (fusion == "single" and len(scales) != 1):
            raise ValueError(f"fusion {fusion!r} cannot use the scales {tuple(scales)}")

    def _maps(self, x: Tensor, scale: float, size_px: tuple[int, int], attention: bool = False) -> ScaleMaps:
        logits, features = self._head(x, size_px)
        weights = None
        if attention:
            assert self.net.attention is not None
            weights = self.net.attention(features)[0].float()
        return ScaleMaps(scale=scale, size_px=size_px, logits=logits, attention=weights)

    def _head(self, x: Tensor, size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """([K, h, w] float32 logits, [1, C, h, w] features) of the image at one scale."""
        scaled = resize(x, size_px).to(self.dtype).contiguous(memory_format=torch.channels_last)
        if self.ocr_rows is not None:
            assert isinstance(self.net.trunk, HRNet)
            logits, features = self.ocr_rows(self.net.trunk.branches(scaled))
            return logits[0], features
        output: HeadOutput = self.net.head(self.net.trunk(scaled))
        return output.logits[0].float(), output.features

    def _weighted(self, x: Tensor) -> WeightedRows:
        attention = self.net.attention
        assert isinstance(attention, ExplicitAttentionHead)
        size_px = (int(x.shape[2]), int(x.shape[3]))
        levels, features = [], {}
        for scale in attention.scales:
            scaled_px = scaled_size(*size_px, scale)
            logits, features[scale] = self._head(x, scaled_px)
            levels.append(ScaleMaps(scale=scale, size_px=scaled_px, logits=logits))
        return WeightedRows(levels, attention(features)[0].float(), size_px)
