"""Losses of panoptic networks: golden values, ignored pixels, and parts of a step that add up."""

import pytest
import torch

from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps
from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.panoptic.losses import bootstrapped_cross_entropy, panoptic_loss
from hmsa_label.labelers.panoptic.targets import Targets, make_targets
from hmsa_label.labelers.training import StepTotal
from tests.labelers.panoptic_golden import CASES, THINGS, golden_tensor

EXPECTED = CASES["loss"]


def golden_targets(**changed):
    count, height, width = golden_tensor("loss.center_weights").shape
    empty = {
        "semantic": torch.zeros(count, height, width, dtype=torch.int64),
        "semantic_weight": torch.ones(count, height, width),
        "center": golden_tensor("loss.center_target"),
        "center_mask": golden_tensor("loss.center_weights").bool(),
        "offset": golden_tensor("loss.offset_target"),
        "offset_mask": golden_tensor("loss.offset_weights").bool(),
    }
    return Targets(**(empty | changed))


def test_center_and_offset_terms_are_the_golden_ones():
    maps = PanopticMaps(torch.zeros(2, 19, 24, 40), golden_tensor("loss.center"), golden_tensor("loss.offset"))
    terms = panoptic_loss(maps, golden_targets())
    assert terms.center.item() == pytest.approx(EXPECTED["center_mse_x200"], rel=1e-5)
    assert terms.offset.item() == pytest.approx(EXPECTED["offset_l1_x001"], rel=1e-5)


@pytest.mark.parametrize(("share", "name"), [(0.2, "bootstrapped_ce_top20"), (1.0, "bootstrapped_ce_top100")])
def test_semantic_term_is_the_golden_one(share, name):
    # the reference chooses from the whole batch at once, as if its two images were one
    logits = golden_tensor("loss.logits").permute(1, 0, 2, 3).flatten(1, 2)[None]
    labels, weights = (golden_tensor(f"loss.{part}").flatten(0, 1)[None] for part in ("labels", "pixel_weights"))
    loss = bootstrapped_cross_entropy(logits, labels.long(), weights, share)
    assert loss.item() == pytest.approx(EXPECTED[name], rel=1e-5)


def test_semantic_term_is_the_mean_of_the_hardest_pixels_of_each_image():
    # two classes, so that a pixel's loss is softplus of the other logit less its own
    logits = torch.zeros(2, 2, 1, 5)
    logits[0, 1, 0] = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    labels = torch.zeros(2, 1, 5, dtype=torch.int64)
    labels[0, 0, 4] = 255
    weights = torch.ones(2, 1, 5)
    weights[0, 0, 0] = 10.0
    softplus = torch.nn.functional.softplus
    of_first = (softplus(torch.tensor(3.0)) + 10 * softplus(torch.tensor(0.0))) / 2
    expected = (of_first + softplus(torch.tensor(0.0))) / 2
    assert bootstrapped_cross_entropy(logits, labels, weights, 0.4).item() == pytest.approx(expected.item())


def drawn_batch(count=4):
    draw = torch.Generator().manual_seed(0)
    maps = PanopticMaps(*(torch.randn(4, n, 33, 41, generator=draw)[:count] for n in (19, 1, 2)))
    labels = torch.full((4, 33, 41), 5_000)
    labels[0, :20, :9], labels[0, 5:9, 20:30], labels[1, 10:20, 10:30] = 13_001, 13_000, 11_001
    labels[2, 3:9, 3:9], labels[2, 20:], labels[3] = 18_001, VOID, VOID
    return maps, labels[:count]


def total(labels):
    thing = (labels // 1000 >= 11) & (labels != VOID)
    instance = thing & (labels % 1000 > 0)
    counts = {"labeled_px": labels != VOID, "instance_px": instance, "crowd_px": thing & ~instance}
    return StepTotal(images=len(labels), **{name: int(pixels.sum()) for name, pixels in counts.items()})


@pytest.mark.parametrize("weighted", [False, True])
def test_terms_of_the_parts_of_a_step_add_up_to_those_of_the_whole(weighted):
    maps, labels = drawn_batch()
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) if weighted else None
    whole = panoptic_loss(maps, make_targets(labels, THINGS), weights=weights)
    parts = [
        panoptic_loss(
            PanopticMaps(*(values[cut] for values in maps)),
            make_targets(labels[cut], THINGS),
            step=total(labels),
            weights=None if weights is None else weights[cut],
        )
        for cut in (slice(0, 1), slice(1, 2), slice(2, 4))
    ]
    for one, *others in zip(whole, *parts, strict=True):
        assert sum(other.item() for other in others) == pytest.approx(one.item(), rel=1e-5)
        assert one.item() > 0


def test_pixels_of_weight_zero_teach_nothing():
    maps, labels = drawn_batch(1)
    maps = PanopticMaps(*(values.requires_grad_() for values in maps))
    weights = torch.ones(labels.shape)
    weights[:, :15] = 0
    sum(panoptic_loss(maps, make_targets(labels, THINGS), weights=weights, top_share=1.0)).backward()
    for values in maps:
        assert not values.grad[:, :, :15].any()
        assert values.grad[:, :, 15:].any()


def test_image_without_a_label_has_loss_zero_and_a_gradient():
    maps, _ = drawn_batch(1)
    maps = PanopticMaps(*(values.requires_grad_() for values in maps))
    loss = sum(panoptic_loss(maps, make_targets(torch.full((1, 33, 41), VOID), THINGS)))
    loss.backward()
    assert loss.item() == 0
    assert all(values.grad is not None and not values.grad.any() for values in maps)
