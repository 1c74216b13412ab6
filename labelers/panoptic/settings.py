"""Settings of the step from maps to instances. This module imports nothing heavy."""

from dataclasses import dataclass

from hmsa_label.labelers.panoptic.ids import DIVISOR


@dataclass(frozen=True, kw_only=True)
class PostProcessing:
    """How centers are found and what becomes of small regions; defaults are Panoptic-DeepLab's for Cityscapes.

    Attributes:
        peak_threshold: heat-map values up to this one are no centers.
        kernel_px: side of the square in which a center must be the highest; odd.
        top_k: centers that are kept at most, the highest ones.
        stuff_area_px: a stuff class with fewer pixels in an image is void there.
    """

    peak_threshold: float = 0.1
    kernel_px: int = 7
    top_k: int = 200
    stuff_area_px: int = 2048

    def __post_init__(self) -> None:
        if self.kernel_px < 1 or self.kernel_px % 2 == 0:
            raise ValueError(
                f"the side of the square in which a center is the highest must be odd; got {self.kernel_px} px"
            )
        if not 1 <= self.top_k < DIVISOR:
            raise ValueError(f"the most centers that are kept must be 1 to {DIVISOR - 1}; got {self.top_k}")
        if self.stuff_area_px < 0:
            raise ValueError(f"the least area of stuff cannot be negative; got {self.stuff_area_px} px")
