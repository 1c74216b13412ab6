"""Fusion of scales on maps small enough to work by hand."""

import pytest
import torch

from hmsa_label.labelers.hmsa.scale_chain import fuse_chain, scaled_size


def flat(value, height, width):
    return torch.full((1, 1, height, width), float(value))


def test_chain_of_one_scale_returns_its_logits():
    logits = torch.randn(1, 3, 4, 6)
    assert torch.equal(fuse_chain([(1.0, logits, None)]), logits)


def test_lower_scale_takes_what_its_attention_says():
    # 0.25 of the low scale's 8 and 0.75 of the 4 above: 2 + 3
    fused = fuse_chain([(1.0, flat(4, 4, 4), None), (0.5, flat(8, 2, 2), flat(0.25, 2, 2))])
    assert torch.equal(fused, flat(5, 4, 4))


def test_scale_one_weighs_itself_against_everything_above():
    # at 1.0: 0.5 * 4 + 0.5 * 2 = 3; at 0.5: 0.25 * 7 + 0.75 * 3 = 4
    fused = fuse_chain(
        [(2.0, flat(2, 8, 8), None), (1.0, flat(4, 4, 4), flat(0.5, 4, 4)), (0.5, flat(7, 2, 2), flat(0.25, 2, 2))]
    )
    assert torch.equal(fused, flat(4, 4, 4))


def test_low_scale_is_weighed_before_it_is_resized():
    # attention (1, 0) beside logits (0, 9): the product is 0 everywhere, a resize first would leak the 9
    attention, logits = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 9.0]]]])
    fused = fuse_chain([(1.0, flat(0, 1, 4), None), (0.5, logits, attention)])
    assert torch.equal(fused, flat(0, 1, 4))


@pytest.mark.parametrize(
    ("scales", "message"),
    [((1.0, 2.0), "from high to low"), ((0.5,), "needs scale 1.0 before 0.5"), ((2.0,), "at least a prediction")],
)
def test_unusable_scales_are_refused(scales, message):
    predictions = [(scale, flat(0, 4, 4), flat(0, 4, 4)) for scale in scales]
    with pytest.raises(ValueError, match=message):
        fuse_chain(predictions)


def test_only_the_highest_scale_may_lack_attention():
    with pytest.raises(ValueError, match=r"scale 0\.5 has no attention"):
        fuse_chain([(1.0, flat(0, 4, 4), None), (0.5, flat(0, 2, 2), None)])


def test_scaled_sizes_are_floored():
    assert scaled_size(75, 133, 0.5) == (37, 66)
