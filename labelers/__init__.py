"""Networks that label images: torch only, no paths, no Ray, no Zarr.

`base.py` is the protocol that every labeler keeps to, `registry.py` finds them by name. `build_labeler(name,
num_classes)` makes a network of this package with fresh weights; `MODELS` lists the names. Names are imported when they
are first used: options can be checked without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmsa_label.labelers.hmsa.models import MODELS, build_labeler
    from hmsa_label.labelers.hmsa.net import SegmentationNet

_PLACES = {
    "MODELS": "hmsa_label.labelers.hmsa.models",
    "SegmentationNet": "hmsa_label.labelers.hmsa.net",
    "build_labeler": "hmsa_label.labelers.hmsa.models",
}

__all__ = ["MODELS", "SegmentationNet", "build_labeler"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
