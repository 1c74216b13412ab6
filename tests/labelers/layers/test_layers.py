"""Building blocks that trunks and heads share."""

import torch
from torch import nn

from hmsa_label.labelers.hmsa.models import MODELS, build_labeler
from hmsa_label.labelers.layers.blocks import ImageDropout2d, dropout_drawn_by_image


def dropped(seeds, *, calls=1):
    """[N, 16] which channels of each image are zero after the last of some calls."""
    layer = ImageDropout2d(0.5).train()
    with dropout_drawn_by_image(layer, seeds):
        for _ in range(calls):
            result = layer(torch.ones(len(seeds), 16, 2, 3))
    assert set(result.unique().tolist()) == {0.0, 2.0}
    return result[:, :, 0, 0] == 0


def test_what_is_dropped_depends_on_the_image_and_not_on_its_batch():
    together = dropped([7, 8, 9])
    assert torch.equal(together, torch.cat([dropped([seed]) for seed in (7, 8, 9)]))
    assert torch.equal(together[[2, 0]], dropped([9, 7]))
    assert not torch.equal(together[0], together[1])


def test_each_scale_of_an_image_drops_other_channels():
    assert not torch.equal(dropped([7], calls=2), dropped([7]))


def test_without_seeds_dropout_is_torchs_own():
    torch.manual_seed(0)
    mine = ImageDropout2d(0.5).train()(torch.ones(2, 16, 2, 2))
    torch.manual_seed(0)
    assert torch.equal(mine, nn.Dropout2d(0.5).train()(torch.ones(2, 16, 2, 2)))
    assert torch.equal(ImageDropout2d(0.5).eval()(mine), mine)


def test_no_network_draws_anything_for_a_whole_batch():
    for name in MODELS:
        with torch.device("meta"):
            net = build_labeler(name, 19)
        drawing = [layer for layer in net.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
        assert all(isinstance(layer, ImageDropout2d) for layer in drawing)
