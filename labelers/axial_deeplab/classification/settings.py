"""Settings of the loss of a trunk. This module imports nothing heavy: the command line reads its defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrunkLoss:
    """Softmax cross-entropy of the class of an image.

    Attributes:
        label_smoothing: share of the target that is spread over all classes, 0..1.
    """

    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"--label-smoothing is a share from 0 to below 1; got {self.label_smoothing}")

    def check_pixel_weights(self) -> None:
        """Raises ValueError: whole images have no pixels to weigh."""
        raise ValueError("--confidence-weight is for labels of pixels; a trunk learns classes of whole images")
