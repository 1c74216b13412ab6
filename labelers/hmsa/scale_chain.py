"""Fusion of predictions at several scales by learned attention (arXiv 2005.10821, section 3.2, equation 1).

Pure functions of tensors. Every prediction here has the size of its own scaled image; the result has the size of
scale 1.0. Scales are chained from the highest down: the attention of the lower scale of a pair decides how much
of that scale's prediction is taken and how much is kept of everything fused above it.
"""

from collections.abc import Iterable

from torch import Tensor

from hmsa_label.labelers.layers.blocks import resize


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(height, width) in px of an image at `scale`: floor of the product, as the released code resizes."""
    return int(height * scale), int(width * scale)


def fuse_pair(upper: Tensor, lower: Tensor, lower_attention: Tensor) -> Tensor:
    """Fused logits at the size of `upper`, for a lower scale whose predictions are smaller.

    The product of attention and prediction is taken at the lower size and then resized: resizing both first and
    multiplying after gives other numbers.

    Args:
        upper: [N, K, H, W] logits fused so far.
        lower: [N, K, h, w] logits of the lower scale.
        lower_attention: [N, 1, h, w] in 0..1.
    """
    size_px = upper.shape[-2:]
    kept = 1 - resize(lower_attention, size_px)
    return resize(lower_attention * lower, size_px) + kept * upper


def fuse_step_above_one(upper: Tensor, lower: Tensor, lower_attention: Tensor) -> Tensor:
    """Fused logits at the size of `lower`, for a lower scale that is itself 1.0 or above."""
    return lower_attention * lower + (1 - lower_attention) * resize(upper, lower.shape[-2:])


def fuse_chain(predictions: Iterable[tuple[float, Tensor, Tensor | None]]) -> Tensor:
    """Fused logits [N, K, H, W] at scale 1.0.

    Args:
        predictions: (scale, logits, attention) from the highest scale to the lowest, consumed one at a time so that
            a generator keeps a single scale in memory. The first attention is unused and may be None.

    Raises:
        ValueError: no prediction, scales not descending, or no scale of 1.0 among them.
    """
    fused: Tensor | None = None
    previous, seen_one = float("inf"), False
    for scale, logits, attention in predictions:
        if scale >= previous:
            raise ValueError(f"scales must be chained from high to low; got {scale} after {previous}")
        if scale < 1.0 and not seen_one:
            raise ValueError(f"the chain needs scale 1.0 before {scale}")
        if fused is None:
            fused = logits
        elif attention is None:
            raise ValueError(f"scale {scale} has no attention; only the highest scale may lack it")
        else:
            fuse = fuse_step_above_one if scale >= 1.0 else fuse_pair
            fused = fuse(fused, logits, attention)
        previous, seen_one = scale, seen_one or scale == 1.0
    if fused is None or not seen_one:
        raise ValueError("the chain needs at least a prediction at scale 1.0")
    return fused
