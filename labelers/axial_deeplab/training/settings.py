"""Settings of the panoptic objective. This module imports nothing heavy: the command line reads its defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PanopticLoss:
    """What panoptic networks minimize (arXiv 1911.10194, section 3.1), and what counts as small.

    Lengths and areas are in pixels of the crop and of the image; the defaults are for 1024x2048.

    Attributes:
        center_weight: of the squared error of the heat map, beside 1 for the semantic loss; offset_weight: of the
            absolute error of the offsets.
        top_share: share of the pixels of a crop, the hardest ones, that the semantic loss is the mean of.
        center_sigma_px: of the Gaussian around each center.
        small_weight: factor of the semantic loss in instances of fewer pixels than `small_area_px`.
        drop_path: probability that training leaves out the last block of attention for an image; less for earlier ones.
        stuff_area_px: a stuff class with fewer predicted pixels in an image is void there, in validation and labels;
            None is a 1024th of the image.
        center_kernel_px: side of the square in which a center must be the highest, in validation and labels; odd.
        val_scales: image scales that predictions are averaged over, in validation and labels; where --scale-range is
            not around 1, they should lie in it.
    """

    center_weight: float = 200.0
    offset_weight: float = 0.01
    top_share: float = 0.2
    center_sigma_px: float = 8.0
    small_weight: float = 3.0
    small_area_px: int = 4096
    drop_path: float = 0.0
    stuff_area_px: int | None = None
    center_kernel_px: int = 7
    val_scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not 0.0 < self.top_share <= 1.0:
            raise ValueError(f"--top-share is a share above 0 and up to 1; got {self.top_share}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"--drop-path is a probability from 0 to below 1; got {self.drop_path}")
        if self.center_sigma_px <= 0:
            raise ValueError(f"--center-sigma must be above 0 px; got {self.center_sigma_px}")
        if not self.val_scales or min(self.val_scales) <= 0:
            raise ValueError(f"--val-scales must be positive factors, at least one; got {self.val_scales}")
        if self.center_kernel_px < 1 or self.center_kernel_px % 2 == 0:
            raise ValueError(f"--center-kernel must be odd, a pixel and its surroundings; got {self.center_kernel_px}")
        for name in ("center_weight", "offset_weight", "small_weight", "small_area_px", "stuff_area_px"):
            if (getattr(self, name) or 0) < 0:
                option = name.removesuffix("_px").replace("_", "-")
                raise ValueError(f"--{option} cannot be negative; got {getattr(self, name)}")

    def check_pixel_weights(self) -> None:
        """Nothing is refused: every term is a sum over single pixels."""
