"""What can be asked of the labeler `axial_deeplab`. This module imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hmsa_label.labelers.panoptic.settings import PostProcessing

_DEFAULTS = PostProcessing()
ATTENTION_FORMS = ("plain", "kernel")
STUFF_SHARE = _DEFAULTS.stuff_area_px / (1024 * 2048)  # of the images that the published area is for


@dataclass(frozen=True, kw_only=True)
class AxialDeepLabOptions:
    """How an image is looked at, and what becomes of small regions.

    Attributes:
        scales: factors of the image size, each predicted once; all count the same.
        flip: average with the mirrored image.
        center_floor: values of the heat map up to this one are no centers. --center-threshold of a run leaves out more,
            and can be changed later.
        center_kernel: side in px of the square in which a center must be the highest; odd.
        most_centers: centers that are kept at most, the highest ones.
        stuff_area: a stuff class with fewer pixels in an image is void there; None is a 1024th of the image, which is
            the published 2048 px for 1024 x 2048 px.
        semantic_share: where another teacher tells the classes, its share in their probabilities, above 0 and up to 1;
            the rest is the network's own.
        attention: `plain` computes attention by torch, on any device; `kernel` by one Triton kernel per layer, on a
            CUDA device.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    center_floor: float = _DEFAULTS.peak_threshold
    center_kernel: int = _DEFAULTS.kernel_px
    most_centers: int = _DEFAULTS.top_k
    stuff_area: int | None = None
    semantic_share: float = 1.0
    attention: str = "plain"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))  # records hold lists
        if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) != len(self.scales):
            raise ValueError(f"--scales must be distinct and positive, such as 0.5,1.0,1.5; got {self.scales}")
        if not 0.0 <= self.center_floor < 1.0:
            raise ValueError(f"center_floor must be at least 0 and below 1; got {self.center_floor}")
        if not 0.0 < self.semantic_share <= 1.0:
            raise ValueError(f"semantic_share must be above 0 and at most 1; got {self.semantic_share}")
        if self.attention not in ATTENTION_FORMS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTION_FORMS)}; got {self.attention!r}")
        post_processing(self, (1024, 2048))

    @staticmethod
    def identity(options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as records hold them; the order of scales changes nothing."""
        return {**options, "scales": sorted(options["scales"])}


def post_processing(options: AxialDeepLabOptions, size_px: tuple[int, int]) -> PostProcessing:
    """What decides instances and void of an image of (height, width) px.

    Raises:
        ValueError: a setting is out of its range.
    """
    return PostProcessing(
        peak_threshold=options.center_floor,
        kernel_px=options.center_kernel,
        top_k=options.most_centers,
        stuff_area_px=round(STUFF_SHARE * size_px[0] * size_px[1])
        if options.stuff_area is None
        else options.stuff_area,
    )
