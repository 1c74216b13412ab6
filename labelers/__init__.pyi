"""The names of the networks; `lazy_names.py` reads them too."""

from hmsa_label.labelers.hmsa.models import MODELS as MODELS
from hmsa_label.labelers.hmsa.models import build_labeler as build_labeler
from hmsa_label.labelers.hmsa.net import SegmentationNet as SegmentationNet
