"""Fused logits of an image, a few rows at a time, from the small maps that the network gives at each scale.

The same functions as `SegmentationNet.predict_*` with their resizes composed: no scale's logits exist at full size, and
those of a scale above 1.0 never at the size of its scaled image. All in float32.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hmsa_label.labelers.layers.resampling import resampler, resize_rows

Size = tuple[int, int]  # (height, width) in px

# Pixels whose logits exist at a time; each block waits for the device once.
_BLOCK_PIXELS_CPU, _BLOCK_PIXELS_GPU = 2**16, 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaleMaps:
    """What one scale predicts for one image, before any upsampling.

    Attributes:
        scale: factor of the image size.
        size_px: of the scaled image.
        logits: [K, h, w] float32 at the trunk's stride.
        attention: [1, h, w] float32 in 0..1, None when it is not needed.
    """

    scale: float
    size_px: Size
    logits: Tensor
    attention: Tensor | None = None


def resized_rows(maps: Tensor, sizes_px: Sequence[Size], rows: tuple[int, int]) -> Tensor:
    """Rows [C, R, W] of `maps` [C, h, w] resized through `sizes_px` in turn; equal sizes are passed by."""
    vertical, horizontal = (
        resampler(_distinct(maps.shape[1 + axis], [size[axis] for size in sizes_px]), maps.dtype, maps.device)
        for axis in (0, 1)
    )
    return resize_rows(maps, vertical.band(*rows), horizontal)


def _distinct(first: int, others: Sequence[int]) -> tuple[int, ...]:
    sizes = [first, *others[:1]]
    for size in others[1:]:
        if size != sizes[-1]:
            sizes.append(size)
    return tuple(sizes)


class ChainRows:
    """Rows of the chain of scales (arXiv 2005.10821, equation 1), see `scale_chain.fuse_chain`.

    Args:
        levels: from the highest scale to the lowest, 1.0 among them, each but the first with attention.
    """

    def __init__(self, levels: Sequence[ScaleMaps]) -> None:
        self.levels = levels

    def rows(self, start: int, stop: int) -> Tensor:
        """[K, stop - start, W] fused logits at scale 1.0."""
        return self._fused(len(self.levels) - 1, (start, stop))

    def _canvas(self, index: int) -> Size:
        """Size of what is fused up to this level: its own down to scale 1.0, then that of 1.0."""
        above_one = [level for level in self.levels[: index + 1] if level.scale >= 1.0]
        return above_one[-1].size_px

    def _fused(self, index: int, rows: tuple[int, int]) -> Tensor:
        level = self.levels[index]
        if index == 0:
            return resized_rows(level.logits, [level.size_px], rows)
        assert level.attention is not None, "only the highest scale goes without attention"
        if level.scale < 1.0:
            return self._add_lower(index, level, level.attention, rows)
        attention = resized_rows(level.attention, [level.size_px], rows)
        own = resized_rows(level.logits, [level.size_px], rows).mul_(attention)
        return own.addcmul_(1 - attention, self._above(index, level.size_px, rows))

    def _above(self, index: int, size_px: Size, rows: tuple[int, int]) -> Tensor:
        """What is fused above a level of scale >= 1, resized to its size."""
        canvas = self._canvas(index - 1)
        if index == 1:
            return resized_rows(self.levels[0].logits, [canvas, size_px], rows)
        logits = self.levels[index].logits
        vertical = resampler((canvas[0], size_px[0]), logits.dtype, logits.device)
        horizontal = resampler((canvas[1], size_px[1]), logits.dtype, logits.device)
        band = vertical.band(*rows)
        return resize_rows(self._fused(index - 1, band[1:]), band, horizontal, offset_px=band[1])

    def _add_lower(self, index: int, level: ScaleMaps, attention: Tensor, rows: tuple[int, int]) -> Tensor:
        """A level below scale 1.0: the product is taken at its own size, then resized."""
        canvas = self._canvas(index)
        vertical = resampler((level.size_px[0], canvas[0]), attention.dtype, attention.device)
        horizontal = resampler((level.size_px[1], canvas[1]), attention.dtype, attention.device)
        band = vertical.band(*rows)
        product = resized_rows(level.logits, [level.size_px], band[1:])
        product *= resized_rows(attention, [level.size_px], band[1:])
        own = resize_rows(product, band, horizontal, offset_px=band[1])
        return own.addcmul_(1 - resized_rows(attention, [level.size_px, canvas], rows), self._fused(index - 1, rows))


class PooledRows:
    """Rows of the mean or maximum over scales; `combine` is `average`, `max` or, for one scale, `single`."""

    def __init__(self, levels: Sequence[ScaleMaps], size_px: Size, combine: str) -> None:
        self.levels, self.size_px, self.combine = levels, size_px, combine

    def rows(self, start: int, stop: int) -> Tensor:
        """[K, stop - start, W] pooled logits."""
        parts = (resized_rows(level.logits, [level.size_px, self.size_px], (start, stop)) for level in self.levels)
        total = next(parts)
        for part in parts:
            total = torch.maximum(total, part) if self.combine == "max" else total.add_(part)
        return total if self.combine == "max" else total.div_(len(self.levels))


class WeightedRows:
    """Rows of explicit attention: the sum over scales of weight times logits.

    Args:
        levels: in the order of the channels of `weights`.
        weights: [S, h, w] float32 at the trunk's stride of scale 1.0.
    """

    def __init__(self, levels: Sequence[ScaleMaps], weights: Tensor, size_px: Size) -> None:
        self.levels, self.weights, self.size_px = levels, weights, size_px

    def rows(self, start: int, stop: int) -> Tensor:
        """[K, stop - start, W] weighted logits."""
        weights = resized_rows(self.weights, [self.size_px], (start, stop))
        parts = (resized_rows(level.logits, [level.size_px, self.size_px], (start, stop)) for level in self.levels)
        total = torch.zeros_like(weights[:1])
        for index, part in enumerate(parts):
            total = total + part.mul_(weights[index])
        return total


Rows = ChainRows | PooledRows | WeightedRows


@dataclass(frozen=True, kw_only=True, eq=False)
class FusedLogits:
    """Fused logits of one image, a block of rows at a time.

    Attributes:
        size_px: of the image.
        mirrored: rows of the mirrored image, to be mirrored back and averaged in; None without.
    """

    size_px: Size
    straight: Rows
    mirrored: Rows | None

    def blocks(self, *, finite: bool = False) -> Iterator[tuple[int, int, Tensor]]:
        """(first row, last row excluded, logits [K, R, W] float32) of consecutive blocks.

        Raises:
            FloatingPointError: before the first block, if logits or attention are not finite and `finite` is asked for.
        """
        for rows in (self.straight, self.mirrored):
            if finite and rows is not None:
                check_finite(rows)
        is_gpu = self.straight.levels[0].logits.device.type == "cuda"
        for start, stop in row_blocks(*self.size_px, _BLOCK_PIXELS_GPU if is_gpu else _BLOCK_PIXELS_CPU):
            logits = self.straight.rows(start, stop)
            if self.mirrored is not None:
                logits = logits.add_(self.mirrored.rows(start, stop).flip(2)).div_(2)
            yield start, stop, logits

    def views(self, start: int, stop: int) -> list[Tensor]:
        """[R, W] uint8 arg-max trainIds of a block of rows by each scale alone, and then by each of the mirrored image.

        Each scale's logits are brought to the size of the image as they are for the fusion.
        """
        rows = (start, stop)
        views = [arg_max_alone(level, self.size_px, rows) for level in self.straight.levels]
        if self.mirrored is not None:
            views += [arg_max_alone(level, self.size_px, rows).flip(1) for level in self.mirrored.levels]
        return views


def arg_max_alone(level: ScaleMaps, size_px: Size, rows: tuple[int, int]) -> Tensor:
    """[R, W] uint8 arg-max trainIds of rows of an image of `size_px` by one scale alone."""
    # max, as argmax over the first dimension takes nine times as long on a CPU
    return resized_rows(level.logits, [level.size_px, size_px], rows).max(0).indices.to(torch.uint8)


def check_finite(rows: Rows) -> None:
    """Holds that what the network gave is finite everywhere; so are then all rows, which are weighted means of it.

    Looks at the maps at the trunk's stride: a sixteenth of the pixels or less of what the fused logits have.

    Raises:
        FloatingPointError: naming the scale.
    """
    for level in rows.levels:
        if not all(_is_finite(maps) for maps in (level.logits, level.attention) if maps is not None):
            raise FloatingPointError(f"NaN or infinite logits at scale {level.scale:g}")
    if isinstance(rows, WeightedRows) and not _is_finite(rows.weights):
        raise FloatingPointError("NaN or infinite attention")


def _is_finite(maps: Tensor) -> bool:
    # aminmax passes NaN on, reads the maps once and makes no copy
    return bool(torch.stack(maps.aminmax()).isfinite().all())


def row_blocks(height: int, width: int, pixels: int = 2**18) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive blocks of rows of about `pixels` pixels."""
    step = max(1, pixels // width)
    for start in range(0, height, step):
        yield start, min(start + step, height)
