"""Inference with nothing computed that the result does not need; the same labels as `hmsa.predict`.

What differs from the reference order of operations: batch norms are folded, the OCR head never sees concatenated
branches, the highest scale has no attention, auxiliary logits stay small, and all resizes and the fusion run over
blocks of rows (`fused_rows`).
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hmsa_label.labelers.heads.explicit_attention import ExplicitAttentionHead
from hmsa_label.labelers.heads.ocr import HeadOutput, OCRHead
from hmsa_label.labelers.hmsa.net import SegmentationNet
from hmsa_label.labelers.hmsa.scale_chain import scaled_size
from hmsa_label.labelers.inference.folding import fold
from hmsa_label.labelers.inference.fused_rows import (
    ChainRows,
    FusedLogits,
    PooledRows,
    Rows,
    ScaleMaps,
    WeightedRows,
)
from hmsa_label.labelers.inference.image_conv import as_alone
from hmsa_label.labelers.inference.ocr_rows import OCRRows
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.trunks.hrnet import HRNet
from hmsa_label.labelers.trunks.resnet import TwoLevels

# Pixels of several images that go through the trunk together on a CPU, by the bytes of a value. The maps of more do not
# stay in its cache, and a small network is then slower than image by image (benchmarks/batch_throughput.py).
_TRUNK_PIXELS_CPU = {4: 2**16, 2: 2**18}


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
        if device.type == "cpu":
            as_alone(self.net)
        head, trunk = self.net.head, self.net.trunk
        streams = isinstance(head, OCRHead) and isinstance(trunk, HRNet)
        self.ocr_rows = OCRRows(head, trunk.widths) if streams else None  # type: ignore[arg-type]

    def normalize(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float32."""
        return (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def fused_rows(self, x: Tensor, scales: Sequence[float], fusion: str) -> Sequence[Rows]:
        """Rows of the logits of each of N normalized images [N, 3, H, W], fused over `scales`.

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
            by_scale = [
                self._maps(x, scale, scaled_size(height, width, scale), attention=index > 0)
                for index, scale in enumerate(descending)
            ]
            return [ChainRows(levels) for levels in zip(*by_scale, strict=True)]
        by_scale = [self._maps(x, scale, (round(height * scale), round(width * scale))) for scale in scales]
        return [PooledRows(levels, (height, width), fusion) for levels in zip(*by_scale, strict=True)]

    def fused(self, images: Tensor, scales: Sequence[float], fusion: str, flip: bool) -> list[FusedLogits]:
        """Fused logits of each of N images [N, H, W, 3] uint8 RGB, which go through the trunk together.

        With `flip`, the fused logits of the mirrored image are mirrored back and averaged in. On a CPU an image gets
        the same numbers in any batch; on a GPU cuDNN may choose other kernels for other batches.
        """
        x = self.normalize(images)
        height, width = x.shape[-2:]
        straight = self.fused_rows(x, scales, fusion)
        mirrored = self.fused_rows(x.flip(3), scales, fusion) if flip else [None] * len(x)
        pairs = zip(straight, mirrored, strict=True)
        return [FusedLogits(size_px=(height, width), straight=rows, mirrored=other) for rows, other in pairs]

    def logit_blocks(
        self, image: Tensor, scales: Sequence[float], fusion: str, flip: bool, *, finite: bool = False
    ) -> Iterator[tuple[int, int, Tensor]]:
        """(first row, last row excluded, logits [K, R, W] float32) of consecutive blocks of one image, see `fused`.

        Args:
            image: [H, W, 3] uint8 RGB.
            finite: refuse logits that are not.

        Raises:
            FloatingPointError: before the first block, if the network gives NaN or infinite logits or attention.
        """
        (logits,) = self.fused(image[None], scales, fusion, flip)
        yield from logits.blocks(finite=finite)

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

    def _maps(self, x: Tensor, scale: float, size_px: tuple[int, int], attention: bool = False) -> list[ScaleMaps]:
        """What one scale predicts for each image; features live no longer than their image's turn."""

        def maps(output: tuple[Tensor, Tensor]) -> ScaleMaps:
            logits, features = output
            weights = None
            if attention:
                assert self.net.attention is not None
                weights = self.net.attention(features)[0].float()
            return ScaleMaps(scale=scale, size_px=size_px, logits=logits, attention=weights)

        return list(map(maps, self._outputs(x, size_px)))

    def _outputs(self, x: Tensor, size_px: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
        """([K, h, w] float32 logits, [1, C, h, w] features) of each image at one scale.

        The trunk sees images together. The head, whose maps are the widest, sees them one by one: its work is done in
        chunks that fill the device already.
        """
        for together in x.split(self._images_at_once(size_px)):
            features = self._trunk(resize(together, size_px))
            while features:
                yield self._head(features.pop(0))

    def most_at_once(self, size_px: tuple[int, int], scales: Sequence[float]) -> int:
        """How many images of this size go through the trunk together at the lowest scale; more gain nothing."""
        return self._images_at_once(scaled_size(*size_px, min(scales)))

    def _images_at_once(self, size_px: tuple[int, int]) -> int:
        """How many images go through the trunk together at one scale."""
        if self.device.type == "cuda":
            return sys.maxsize
        return max(1, _TRUNK_PIXELS_CPU[self.dtype.itemsize] // (size_px[0] * size_px[1]))

    def _trunk(self, x: Tensor) -> list[Any]:
        """What the head takes, for each image of a batch at one scale."""
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        if self.ocr_rows is not None:
            assert isinstance(self.net.trunk, HRNet)
            return list(zip(*(branch.split(1) for branch in self.net.trunk.branches(x)), strict=True))
        features = self.net.trunk(x)
        if isinstance(features, TwoLevels):
            return [TwoLevels(*levels) for levels in zip(*(level.split(1) for level in features), strict=True)]
        return list(features.split(1))

    def _head(self, features: Any) -> tuple[Tensor, Tensor]:
        """([K, h, w] float32 logits, [1, C, h, w] features) of one image."""
        if self.ocr_rows is not None:
            logits, pixels = self.ocr_rows(features)
            return logits[0], pixels
        output: HeadOutput = self.net.head(features)
        return output.logits[0].float(), output.features

    def _weighted(self, x: Tensor) -> list[WeightedRows]:
        attention = self.net.attention
        assert isinstance(attention, ExplicitAttentionHead)
        size_px = (int(x.shape[2]), int(x.shape[3]))
        sizes = {scale: scaled_size(*size_px, scale) for scale in attention.scales}
        by_scale = [list(self._outputs(x, sizes[scale])) for scale in attention.scales]
        rows = []
        for outputs in zip(*by_scale, strict=True):
            levels, features = [], {}
            for scale, (logits, seen) in zip(attention.scales, outputs, strict=True):
                levels.append(ScaleMaps(scale=scale, size_px=sizes[scale], logits=logits))
                features[scale] = seen
            rows.append(WeightedRows(levels, attention(features)[0].float(), size_px))
        return rows
