"""What can be asked of the labeler `hmsa`: at which scales it looks, and how it fuses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class HmsaOptions:
    """How an image is looked at.

    Attributes:
        scales: factors of the image size, each predicted once and fused; hierarchical fusion needs 1.0 among them.
        flip: average with the mirrored image.
        fusion: one of `FUSIONS`.
    """

    FUSIONS: ClassVar[tuple[str, ...]] = ("hierarchical", "explicit", "average", "max", "single")

    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    flip: bool = False
    fusion: str = "hierarchical"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))  # records hold lists
        if self.fusion not in self.FUSIONS:
            raise ValueError(f"--fusion must be one of {', '.join(self.FUSIONS)}; got {self.fusion!r}")
        if not self.scales or min(self.scales) <= 0 or len(set(self.scales)) != len(self.scales):
            raise ValueError(f"--scales must be distinct and positive, such as 0.5,1.0,2.0; got {self.scales}")
        if self.fusion == "hierarchical" and 1.0 not in self.scales:
            raise ValueError(f"--fusion hierarchical needs 1.0 among --scales; got {self.scales}")
        if self.fusion == "single" and len(self.scales) != 1:
            raise ValueError(f"--fusion single takes exactly one of --scales; got {self.scales}")

    @property
    def num_views(self) -> int:
        """Predictions that are fused: each scale, and each scale of the mirrored image."""
        return len(self.scales) * (2 if self.flip else 1)

    @staticmethod
    def identity(options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as records hold them; the order of scales changes nothing."""
        return {"scales": sorted(options["scales"]), "flip": options["flip"], "fusion": options["fusion"]}
