"""Hierarchical multi-scale attention labeler (arXiv 2005.10821): trunk, head and attention shared by all scales."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmsa_label.labelers.heads.ocr import HeadOutput
from hmsa_label.labelers.layers import resize
from hmsa_label.labelers.scale_chain import fuse_chain, fuse_pair, scaled_size

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class ScalePrediction(NamedTuple):
    """What one scale predicts, at the size of its scaled image.

    Attributes:
        logits: [N, K, H, W].
        aux_logits: [N, K, H, W], None when they were not asked for.
        attention: [N, 1, H, W] in 0..1, None when it was not asked for or the network has no attention head.
    """

    logits: Tensor
    aux_logits: Tensor | None
    attention: Tensor | None


class TwoScalePrediction(NamedTuple):
    """Prediction of the two-scale training graph, every tensor at the size of the input.

    Attributes:
        logits, aux_logits: [N, K, H, W] fused over both scales.
        logits_low, logits_one: [N, K, H, W] of the low scale and of scale 1.0 alone.
    """

    logits: Tensor
    aux_logits: Tensor
    logits_low: Tensor
    logits_one: Tensor


class SegmentationNet(nn.Module):
    """Trunk, head and, for multi-scale networks, attention head.

    Args:
        trunk: module with `out_channels`; [N, 3, H, W] -> [N, out_channels, h, w].
        head: module with `out_channels`; trunk features -> HeadOutput.
        attention: head features [N, C, h, w] -> [N, 1, h, w] in 0..1; None for a single-scale network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, head: nn.Module, attention: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.head, self.attention = trunk, head, attention
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float32, ImageNet mean and standard deviation."""
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def forward(self, x: Tensor, *, aux: bool = False, attention: bool = False) -> ScalePrediction:
        """Prediction for one scaled, normalised image batch; only what is asked for is computed at full size.

        Logits and attention are upsampled before any fusion, as in the released code.
        """
        output: HeadOutput = self.head(self.trunk(x))
        size_px = x.shape[-2:]
        attention_map = None
        if attention:
            if self.attention is None:
                raise ValueError("this network has no attention head; use fusion 'single' or 'average'")
            attention_map = resize(self.attention(output.features), size_px)
        aux_logits = resize(output.aux_logits, size_px) if aux and output.aux_logits is not None else None
        return ScalePrediction(resize(output.logits, size_px), aux_logits, attention_map)

    def forward_two_scales(self, x: Tensor, low_scale: float = 0.5) -> TwoScalePrediction:
        """Two-scale training graph (section 3.2): low scale first, then 1.0, fused by the low scale's attention.

        Args:
            x: [N, 3, H, W] normalised batch.
            low_scale: factor below 1.
        """
        size_px = x.shape[-2:]
        low = self(resize(x, scaled_size(x.shape[2], x.shape[3], low_scale)), aux=True, attention=True)
        one = self(x, aux=True)
        return TwoScalePrediction(
            fuse_pair(one.logits, low.logits, low.attention),
            fuse_pair(one.aux_logits, low.aux_logits, low.attention),
            resize(low.logits, size_px),
            one.logits,
        )

    def predict_chain(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W] fused over `scales` from high to low; equals one pass for scales (1.0,)."""

        def predictions() -> Iterator[tuple[float, Tensor, Tensor | None]]:
            for index, scale in enumerate(sorted(scales, reverse=True)):
                scaled = resize(x, scaled_size(x.shape[2], x.shape[3], scale))
                prediction = self(scaled, attention=index > 0)
                yield scale, prediction.logits, prediction.attention

        return fuse_chain(predictions())

    def predict_average(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W] averaged over `scales`: the baseline without attention (table 1 of the paper)."""
        height, width = x.shape[-2:]
        total: Tensor | None = None
        for scale in scales:
            logits = self(resize(x, (round(height * scale), round(width * scale)))).logits
            logits = resize(logits, (height, width))
            total = logits if total is None else total + logits
        if total is None:
            raise ValueError("averaging needs at least one scale")
        return total / len(scales)


def predict(net: SegmentationNet, x: Tensor, scales: Sequence[float], fusion: str, flip: bool) -> Tensor:
    """Fused logits [N, K, H, W] float32 of a normalised batch [N, 3, H, W].

    With `flip`, the whole fused result of the mirrored image is mirrored back and the logits are averaged.

    Args:
        fusion: `hierarchical`, `average`, or `single` (exactly one scale).

    Raises:
        ValueError: unknown fusion, or scales that it cannot use.
    """
    if fusion == "hierarchical":
        run = net.predict_chain
    elif fusion == "average" or (fusion == "single" and len(scales) == 1):
        run = net.predict_average
    else:
        raise ValueError(f"fusion {fusion!r} over scales {tuple(scales)} is not known")
    logits = run(x, scales).float()
    if flip:
        logits = (logits + run(x.flip(3), scales).float().flip(3)) / 2
    return logits
