"""Settings of HMSA's training objective. This module imports nothing heavy: the command line reads its defaults."""

from dataclasses import dataclass

LOSSES = ("rmi", "ce")
AUX_LOSSES = ("side", "ce", "rmi")


@dataclass(frozen=True, kw_only=True)
class HmsaLoss:
    """What HMSA networks minimize (arXiv 2005.10821, section 3.2).

    Attributes:
        loss: `rmi` is sigmoid BCE + region mutual information, `ce` softmax cross-entropy.
        low_scale: the second scale of two-scale training (section 3.2); None trains a single-scale network.
        aux_loss: of the auxiliary head; `side` is what single scales get: sigmoid BCE beside `rmi`, else `ce`.
        aux_weight: weight of the auxiliary head's loss; side_weight: of each single scale's own loss.
    """

    loss: str = "rmi"
    low_scale: float | None = 0.5
    aux_loss: str = "side"
    aux_weight: float = 0.4
    side_weight: float = 0.05

    def __post_init__(self) -> None:
        for option, name, allowed in (("--loss", "loss", LOSSES), ("--aux-loss", "aux_loss", AUX_LOSSES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{option} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")

    def check_pixel_weights(self) -> None:
        """Raises ValueError if a term is that of regions."""
        if "rmi" in (self.loss, self.aux_loss):
            raise ValueError("--confidence-weight needs --loss ce, which weighs single pixels; rmi weighs regions")
