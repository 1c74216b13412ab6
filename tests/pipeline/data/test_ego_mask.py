"""The mask of the recording vehicle: any PNG, of which black counts as the road."""

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.data.ego_mask import ego_mask_of, read_ego_mask
from hmsa_label.pipeline.rules import RuleConfig

HOOD = np.zeros((4, 6), np.uint8)
HOOD[3] = 1


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_mask_is_read_from_a_png_of_any_color_type(tmp_path, mode):
    picture = Image.fromarray(HOOD * 200)
    picture.convert(mode).save(tmp_path / "mask.png")
    mask = read_ego_mask(tmp_path / "mask.png")
    assert mask.pixels.tolist() == HOOD.tolist()
    Image.fromarray(HOOD * 7).save(tmp_path / "other.png")
    assert read_ego_mask(tmp_path / "other.png").of == mask.of
    assert (mask.of.height, mask.of.width) == (4, 6)


@pytest.mark.parametrize("pixels", [np.zeros((4, 6), np.uint8), np.ones((4, 6), np.uint8)])
def test_mask_of_nothing_or_of_everything_is_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"--ego-mask .*mask\.png: .*; pixels of the vehicle must differ from 0"):
        read_ego_mask(tmp_path / "mask.png")


def test_file_that_is_no_mask_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--ego-mask .*none\.png: there is no such file"):
        read_ego_mask(tmp_path / "none.png")
    Image.fromarray(HOOD).save(tmp_path / "mask.jpg")
    with pytest.raises(ValueError, match="is no PNG file"):
        read_ego_mask(tmp_path / "mask.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"--ego-mask .*broken\.png: "):
        read_ego_mask(tmp_path / "broken.png")


def test_rule_that_is_asked_for_has_the_mask_of_its_file(tmp_path):
    Image.fromarray(HOOD).save(tmp_path / "mask.png")
    mask = ego_mask_of(RuleConfig(ego_mask=tmp_path / "mask.png"))
    assert mask is not None
    assert mask.of == read_ego_mask(tmp_path / "mask.png").of
    assert ego_mask_of(RuleConfig(ego_mask="off")) is ego_mask_of(RuleConfig()) is None
