"""The names of an image's arrays, and what is known of the image beside them."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from hmsa_label.stores.format.instances import StoredInstance

LABEL, ORIGIN = "label", "origin"
TOP1, CODE, INSTANCE = "top1", "code", "instance"
TOP2, MARGIN, DISAGREEMENT = "top2", "margin", "disagreement"
POLYGON, GROWN, GROWN_PX = "polygon", "grown", "grown_px"
# Not one of an image's arrays: one map for all images of a rule, see `stores.format.masks`.
MASK = "mask"

Pixels = NDArray[Any]  # [H, W] of an array's type


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What decides which values the arrays of an image may hold, and what a rule looks at beside them.

    Attributes:
        names: of the classes, in trainId order.
        things: trainIds of the classes whose instances are told apart.
        thresholds: ascending, those that codes count; empty without evidence.
        margins: ascending, those that the codes of margins count; empty without them.
        instances: the table of the image's row; None if it has none, or it is not known here.
        mean_confidence: mean top probability over the image, 0..1; None if it is not known.
    """

    names: tuple[str, ...]
    things: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    instances: tuple[StoredInstance, ...] | None = None
    mean_confidence: float | None = None

    @property
    def num_classes(self) -> int:
        return len(self.names)
