"""Dual decoders and heads: golden outputs, odd sizes, and what offsets mean once they are upsampled."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.heads.panoptic_deeplab import (
    DecoderWidths,
    PanopticDeepLabHead,
    PanopticMaps,
    upsample,
)
from tests.labelers.panoptic_golden import decoder_state, golden, golden_tensor

SMALL = (
    DecoderWidths(first=64, fused=64, middle=16, fine=8, head=64),
    DecoderWidths(first=64, fused=32, middle=8, fine=4, head=16),
)


@pytest.fixture(scope="module")
def maps():
    """Of the golden features by the golden weights."""
    net = PanopticDeepLabHead((32, 64, 128), 19, *SMALL).eval()
    own = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    published = decoder_state()
    assert [value.shape for value in own.values()] == [value.shape for value in published.values()]
    net.load_state_dict(dict(zip(own, published.values(), strict=True)), strict=False)
    with torch.inference_mode():
        return net([golden_tensor(f"decoder.in.{name}") for name in ("res2", "res3", "res5")])


@pytest.mark.parametrize("name", ["center", "offset", "semantic", "semantic.every4"])
def test_decoders_and_heads_give_the_golden_maps(maps, name):
    given = {"semantic": maps.logits, "semantic.every4": maps.logits[:, :, 1::4, 1::4], **maps._asdict()}[name]
    np.testing.assert_allclose(given, golden(f"decoder.out.{name}"), rtol=0, atol=2e-5)


def test_default_widths_are_the_published_ones():
    net = PanopticDeepLabHead((256, 512, 2048), 19)
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert shapes["semantic_decoder.fuse_middle.1.0.weight"] == (256, 256 + 64, 1, 1)
    assert shapes["semantic_decoder.fuse_fine.1.0.weight"] == (256, 256 + 32, 1, 1)
    assert shapes["instance_decoder.fuse_middle.1.0.weight"] == (128, 256 + 32, 1, 1)
    assert shapes["instance_decoder.fuse_fine.1.0.weight"] == (128, 128 + 16, 1, 1)
    assert shapes["offset_head.1.weight"] == (2, 32, 1, 1)
    assert shapes["center_head.1.weight"] == (1, 32, 1, 1)


@pytest.mark.parametrize("sizes", [((17, 33), (9, 17), (5, 9)), ((7, 5), (4, 3), (2, 2)), ((1, 1), (1, 1), (1, 1))])
@torch.inference_mode()
def test_any_size_of_features_is_taken(sizes):
    net = PanopticDeepLabHead((8, 8, 8), 5, *SMALL).eval()
    maps = net([torch.randn(2, 8, *size) for size in sizes])
    assert [tuple(values.shape) for values in maps] == [(2, n, *sizes[0]) for n in (5, 1, 2)]


def test_upsampled_offsets_point_at_the_same_place_of_the_image():
    # every pixel of a 5x9 map points at its pixel (3, 2); corners stay corners, so that is (24, 16) of 33x65
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    offset = torch.stack([3 - y, 2 - x])[None]
    maps = upsample(PanopticMaps(torch.zeros(1, 3, 5, 9), torch.zeros(1, 1, 5, 9), offset), (33, 65))
    y, x = torch.meshgrid(torch.arange(33.0), torch.arange(65.0), indexing="ij")
    target = maps.offset[0] + torch.stack([y, x])
    torch.testing.assert_close(target, torch.tensor([24.0, 16.0])[:, None, None].expand(2, 33, 65))
    assert maps.logits.shape == (1, 3, 33, 65)


def test_offsets_of_a_map_that_is_not_square_grow_by_each_axis_own_ratio():
    maps = PanopticMaps(torch.zeros(1, 1, 5, 9), torch.zeros(1, 1, 5, 9), torch.ones(1, 2, 5, 9))
    assert upsample(maps, (32, 70)).offset.amax((0, 2, 3)).tolist() == pytest.approx([31 / 4, 69 / 8])
