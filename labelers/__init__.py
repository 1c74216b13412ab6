"""Networks that label images: torch only, no paths, no Ray, no Zarr.

`build_labeler(name, num_classes)` makes a network; `MODELS` lists the names.
"""

from hmsa_label.labelers.hmsa import SegmentationNet
from hmsa_label.labelers.models import MODELS, build_labeler

__all__ = ["MODELS", "SegmentationNet", "build_labeler"]
