"""Hierarchical multi-scale attention labeler (arXiv 2005.10821): trunk, head and attention shared by all scales.

Also the baselines that the paper compares it with: explicit attention, average, maximum and a single scale.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmsa_label.labelers.heads.explicit_attention import ExplicitAttentionHead
from hmsa_label.labelers.heads.ocr import HeadOutput
from hmsa_label.labelers.hmsa.scale_chain import fuse_chain, fuse_pair, scaled_size
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.layers.image_norm import ImageNetwork


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
    """Prediction of a multi-scale training graph, every tensor at the size of the input.

    Attributes:
        logits, aux_logits: [N, K, H, W] fused over the scales; no aux_logits where the head has none.
        logits_low, logits_one: [N, K, H, W] of the lowest scale and of scale 1.0 alone.
    """

    logits: Tensor
    aux_logits: Tensor | None
    logits_low: Tensor
    logits_one: Tensor


class SegmentationNet(ImageNetwork):
    """Trunk, head and, for multi-scale networks, attention head.

    Args:
        trunk: module with `out_channels`; [N, 3, H, W] -> [N, out_channels, h, w].
        head: module with `out_channels`; trunk features -> HeadOutput.
        attention: `ScaleAttentionHead` or `ExplicitAttentionHead`; None for a single-scale network.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, attention: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.head, self.attention = trunk, head, attention

    @property
    def fusion(self) -> str:
        """The fusion that the network was built for: `hierarchical`, `explicit` or `single`."""
        if self.attention is None:
            return "single"
        return "explicit" if isinstance(self.attention, ExplicitAttentionHead) else "hierarchical"

    def forward(self, x: Tensor, *, aux: bool = False, attention: bool = False) -> ScalePrediction:
        """Prediction for one scaled, normalized image batch; only what is asked for is computed at full size.

        Logits and attention are upsampled before any fusion, as in the released code, and in float32 whatever the
        autocast state: bfloat16 logits around 20 lie 0.125 apart, and sums of their neighbors no closer. In training
        the attention head runs at every scale, as there: its batch norms would not see all statistics otherwise.
        """
        output: HeadOutput = self.head(self.trunk(x))
        size_px = x.shape[-2:]
        attention_map = None
        if attention:
            if self.attention is None or self.fusion != "hierarchical":
                raise ValueError("this network has no attention head of its own per scale; use another fusion")
            attention_map = resize(self.attention(output.features).float(), size_px)
        elif self.training and self.attention is not None and self.fusion == "hierarchical":
            self.attention(output.features.detach())
        aux_logits = resize(output.aux_logits.float(), size_px) if aux and output.aux_logits is not None else None
        return ScalePrediction(resize(output.logits.float(), size_px), aux_logits, attention_map)

    def forward_two_scales(self, x: Tensor, low_scale: float = 0.5) -> TwoScalePrediction:
        """Two-scale training graph (section 3.2): low scale first, then 1.0, fused by the low scale's attention.

        Args:
            x: [N, 3, H, W] normalized batch.
            low_scale: factor below 1.
        """
        size_px = x.shape[-2:]
        low = self(resize(x, scaled_size(x.shape[2], x.shape[3], low_scale)), aux=True, attention=True)
        one = self(x, aux=True)
        has_aux = one.aux_logits is not None
        return TwoScalePrediction(
            fuse_pair(one.logits, low.logits, low.attention),
            fuse_pair(one.aux_logits, low.aux_logits, low.attention) if has_aux else None,
            resize(low.logits, size_px),
            one.logits,
        )

    def forward_explicit(self, x: Tensor) -> TwoScalePrediction:
        """Training graph of explicit attention: a weighted sum over all of its scales (arXiv 1511.03339, equation 1).

        Auxiliary logits are those of scale 1.0.

        Args:
            x: [N, 3, H, W] normalized batch.

        Raises:
            ValueError: the network has no explicit attention.
        """
        if not isinstance(self.attention, ExplicitAttentionHead):
            raise ValueError("this network has no explicit attention; use another fusion")
        size_px = x.shape[-2:]
        outputs: dict[float, HeadOutput] = {}
        for scale in self.attention.scales:
            outputs[scale] = self.head(self.trunk(resize(x, scaled_size(x.shape[2], x.shape[3], scale))))
        weights = self.attention({scale: output.features for scale, output in outputs.items()})
        weights = resize(weights.float(), size_px)
        logits = {scale: self._to_full_size(output.logits.float(), x, scale) for scale, output in outputs.items()}
        terms = [weights[:, i : i + 1] * logits[scale] for i, scale in enumerate(self.attention.scales)]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        aux = outputs[1.0].aux_logits
        aux = None if aux is None else resize(aux.float(), size_px)
        return TwoScalePrediction(total, aux, logits[self.attention.scales[0]], logits[1.0])

    @staticmethod
    def _to_full_size(logits: Tensor, x: Tensor, scale: float) -> Tensor:
        """Logits at a trunk's stride -> the size of the scaled image -> the size of `x`, as the released code goes."""
        return resize(resize(logits, scaled_size(x.shape[2], x.shape[3], scale)), x.shape[-2:])

    def predict_chain(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W] fused over `scales` from high to low; equals one pass for scales (1.0,)."""

        def predictions() -> Iterator[tuple[float, Tensor, Tensor | None]]:
            for index, scale in enumerate(sorted(scales, reverse=True)):
                scaled = resize(x, scaled_size(x.shape[2], x.shape[3], scale))
                prediction = self(scaled, attention=index > 0)
                yield scale, prediction.logits, prediction.attention

        return fuse_chain(predictions())

    def predict_explicit(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W] of explicit attention, for exactly the scales that it was trained with."""
        if isinstance(self.attention, ExplicitAttentionHead) and tuple(sorted(scales)) != self.attention.scales:
            raise ValueError(f"explicit attention knows only the scales {self.attention.scales}; got {tuple(scales)}")
        return self.forward_explicit(x).logits

    def predict_average(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W] averaged over `scales`: the baseline without attention (table 1 of the paper)."""
        return self._pool(x, scales, torch.add) / len(scales)

    def predict_max(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        """Logits [N, K, H, W], the maximum over `scales` of each class (arXiv 1511.03339, section 3)."""
        return self._pool(x, scales, torch.maximum)

    def _pool(self, x: Tensor, scales: Sequence[float], combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        height, width = x.shape[-2:]
        total: Tensor | None = None
        for scale in scales:
            logits = self(resize(x, (round(height * scale), round(width * scale)))).logits
            logits = resize(logits, (height, width))
            total = logits if total is None else combine(total, logits)
        if total is None:
            raise ValueError("pooling needs at least one scale")
        return total


def predict(net: SegmentationNet, x: Tensor, scales: Sequence[float], fusion: str, flip: bool) -> Tensor:
    """Fused logits [N, K, H, W] float32 of a normalized batch [N, 3, H, W].

    With `flip`, the whole fused result of the mirrored image is mirrored back and the logits are averaged.

    Args:
        fusion: `hierarchical`, `explicit`, `average`, `max`, or `single` (exactly one scale).

    Raises:
        ValueError: unknown fusion, or scales that it cannot use.
    """
    runs = {
        "hierarchical": net.predict_chain,
        "explicit": net.predict_explicit,
        "average": net.predict_average,
        "max": net.predict_max,
        "single": net.predict_average,
    }
    if fusion not in runs or (fusion == "single" and len(scales) != 1):
        raise ValueError(f"fusion {fusion!r} over scales {tuple(scales)} is not known")
    run = runs[fusion]
    logits = run(x, scales).float()
    if flip:
        logits = (logits + run(x.flip(3), scales).float().flip(3)) / 2
    return logits


def trained_scales(net: SegmentationNet, low_scale: float | None) -> tuple[float, ...]:
    """Scales that a network sees in its training, ascending.

    Args:
        low_scale: the lower one of two-scale training; None trains at scale 1 alone.
    """
    if isinstance(net.attention, ExplicitAttentionHead):
        return net.attention.scales
    if net.attention is None or low_scale is None:
        return (1.0,)
    return (low_scale, 1.0)
