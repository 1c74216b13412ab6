"""Networks that label images: torch only, no paths, no Ray, no Zarr.

`build_labeler(name, num_classes)` makes a network; `MODELS` lists the names.
"""

from hmsa_label.labelers.hmsa.models import MODELS, build_labeler
from hmsa_label.labelers.hmsa.net import SegmentationNet

__all__ = ["MODELS", "SegmentationNet", "build_labeler"]
