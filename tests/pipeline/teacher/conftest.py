"""Weights that the tests of this folder share."""

import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of the smallest network over two scales, untrained."""
    torch.manual_seed(0)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    path.write_bytes(encode_checkpoint(build_labeler("hrnet_tiny_ocr", 19), info))
    return str(path)
