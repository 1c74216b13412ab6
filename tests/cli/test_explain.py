"""`hmsa-label explain`."""

import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint


def weights_file(folder):
    torch.manual_seed(0)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    path = folder / "tiny.safetensors"
    path.write_bytes(encode_checkpoint(build_labeler("hrnet_tiny_ocr", 19), info))
    return path


def test_explain_writes_a_picture_and_tells_the_shares(call, call_json, street_images, tmp_path):
    image = next(street_images.rglob("*_leftImg8bit.png"))
    picture = tmp_path / "pictures" / "explained.png"
    args = ["explain", image, "--weights", weights_file(tmp_path), "--output", picture, "--scales", "0.5,1.0"]
    result = call(*args)
    assert result.exit_code == 0, result.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert "share of the result" in result.stdout
    assert set(call_json(*args)["shares"]) == {"0.5", "1"}


def test_missing_image_is_one_line(call, tmp_path):
    result = call("explain", tmp_path / "none.png", "--weights", weights_file(tmp_path))
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "none.png" in result.stderr
