"""Averages over scales and mirror images."""

import pytest
import torch

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.panoptic.scales import average_over_scales

TARGET_YX = (0.75, 0.25)  # where every pixel points at, as shares of the way from corner to corner


def position_image(height, width, count=1):
    """[N, 3, H, W] whose first two channels tell where in the scene a pixel is, whatever its scale and direction."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([y, x, torch.zeros_like(x)]).expand(count, 3, height, width)


def perfect_net(x):
    """Maps at stride 4 of a network without fault: it looks at the scene, and offsets are in pixels of its maps."""
    small = resize(x, tuple((side - 1) // 4 + 1 for side in x.shape[-2:]), align_corners=True)
    y, along = small[:, :1], small[:, 1:2]
    mirrored = (along[..., 1:2] < along[..., :1]).float()
    dy = (TARGET_YX[0] - y) * (small.shape[-2] - 1)
    dx = (TARGET_YX[1] - along) * (small.shape[-1] - 1) * (1 - 2 * mirrored)
    return PanopticMaps(torch.cat([along, y, 1 - y], 1) * 3, along, torch.cat([dy, dx], 1))


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.5)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(33, 65), (40, 62)])
def test_offsets_point_at_the_same_place_from_every_scale_and_mirror_image(scales, flip, size):
    x = position_image(*size, count=2)
    maps = average_over_scales(perfect_net, x, scales, flip)
    y, along = torch.meshgrid(torch.arange(float(size[0])), torch.arange(float(size[1])), indexing="ij")
    for axis, own in enumerate((y, along)):
        target = torch.tensor(TARGET_YX[axis] * (size[axis] - 1))
        torch.testing.assert_close(maps.offset[:, axis] + own, target.expand(2, *size), rtol=0, atol=1e-4)
    torch.testing.assert_close(maps.center[:, 0], x[:, 1], rtol=0, atol=1e-5)


def test_probabilities_are_averaged_and_not_logits():
    def net(x):
        sure = 10.0 if x.shape[-1] > 40 else 1.0
        logits = torch.stack([torch.zeros(2, 3), torch.full((2, 3), sure)])[None]
        return PanopticMaps(logits, torch.full((1, 1, 2, 3), sure), torch.zeros(1, 2, 2, 3))

    maps = average_over_scales(net, torch.zeros(1, 3, 21, 41), (0.5, 1.0))
    expected = (torch.tensor(1.0).sigmoid() + torch.tensor(10.0).sigmoid()) / 2
    torch.testing.assert_close(maps.probabilities[0, 1], expected.expand(21, 41))
    torch.testing.assert_close(maps.probabilities.sum(1), torch.ones(1, 21, 41))
    torch.testing.assert_close(maps.center, torch.full((1, 1, 21, 41), 5.5))


def test_softmax_comes_after_upsampling():
    logits = torch.tensor([[0.0, 0.0], [-8.0, 8.0]]).view(1, 2, 1, 2)
    maps = average_over_scales(
        lambda x: PanopticMaps(logits, torch.zeros(1, 1, 1, 2), torch.zeros(1, 2, 1, 2)), torch.zeros(1, 3, 1, 5)
    )
    expected = torch.tensor([-8.0, -4.0, 0.0, 4.0, 8.0]).sigmoid()
    torch.testing.assert_close(maps.probabilities[0, 1, 0], expected)


def test_scaled_images_keep_their_corners():
    seen = []

    def net(x):
        seen.append(tuple(x.shape[-2:]))
        return perfect_net(x)

    average_over_scales(net, position_image(33, 65), (0.5, 1.0, 1.75), flip=True)
    assert seen == [(17, 33)] * 2 + [(33, 65)] * 2 + [(57, 113)] * 2


@pytest.mark.parametrize("scales", [(), (0.0, 1.0)])
def test_scales_that_make_no_sense_are_refused(scales):
    with pytest.raises(ValueError, match="positive factors"):
        average_over_scales(perfect_net, position_image(9, 9), scales)


def test_views_are_those_of_each_image_and_pass_alone():
    def net(x):
        # class 1 where the image is bright, and everywhere in the smaller of two scales
        bright = resize(x[:, :1], (5, 9), align_corners=True) + (x.shape[-1] < 33)
        return PanopticMaps(torch.cat([0.5 - bright, bright - 0.5], 1), bright, torch.cat([bright, bright], 1))

    x = torch.zeros(2, 3, 17, 33)
    x[1, 0, :, 17:] = 1
    views: list[torch.Tensor] = []
    with_views = average_over_scales(net, x, (0.5, 1.0), True, views)
    assert all(map(torch.equal, with_views, average_over_scales(net, x, (0.5, 1.0), True)))
    assert [tuple(view.shape) for view in views] == [(2, 17, 33)] * 4
    assert {view.dtype for view in views} == {torch.uint8}
    for small in views[:2]:
        assert (small == 1).all()
    for full in views[2:]:
        assert (full[0] == 0).all()
        assert (full[1, :, :14] == 0).all()
        assert (full[1, :, 19:] == 1).all()
