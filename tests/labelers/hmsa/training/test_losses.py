"""Losses on ignored pixels; their values stand in the golden tests."""

import math

import pytest
import torch

from hmsa_label.labelers.hmsa.net import ScalePrediction
from hmsa_label.labelers.hmsa.training.losses import cross_entropy, rmi_loss, sigmoid_bce, single_scale_loss
from hmsa_label.labelers.training import StepTotal


@pytest.mark.parametrize("loss", [cross_entropy, sigmoid_bce, rmi_loss])
def test_ignored_pixels_have_no_gradient(loss):
    logits = torch.randn(1, 4, 16, 16, requires_grad=True)
    labels = torch.randint(0, 4, (1, 16, 16))
    labels[:, :8] = 255
    loss(logits, labels).backward()
    assert logits.grad[:, :, :8].abs().max() == 0
    assert logits.grad[:, :, 8:].abs().max() > 0


def test_cross_entropy_of_ignored_labels_alone_is_zero():
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


def test_cross_entropy_of_even_logits_is_the_log_of_the_class_count():
    loss = cross_entropy(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [2, 255]]]))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(4.0)).item())


def test_weighted_cross_entropy_is_divided_by_the_labeled_pixels_and_not_by_their_weights():
    labels, weights = torch.tensor([[[0, 1], [2, 255]]]), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])
    loss = cross_entropy(torch.zeros(1, 4, 2, 2), labels, weights=weights)
    assert loss.item() == pytest.approx(1.5 / 3 * math.log(4))
    half = cross_entropy(torch.zeros(1, 4, 2, 2), labels, weights=weights, step=StepTotal(labeled_px=6, images=2))
    assert half.item() == pytest.approx(1.5 / 6 * math.log(4))


def test_rmi_falls_when_the_prediction_turns_right():
    labels = torch.arange(2).repeat_interleave(16).expand(1, 32, 32).contiguous()
    right = torch.stack([labels == 0, labels == 1], dim=1).float() * 8 - 4
    assert rmi_loss(right, labels) < rmi_loss(torch.zeros_like(right), labels) < rmi_loss(-right, labels)


@pytest.mark.parametrize(
    "options",
    [{"loss": "ce"}, {"loss": "rmi"}, {"loss": "rmi", "aux_loss": "ce"}, {"loss": "ce", "weights": True}],
    ids=["ce", "rmi", "rmi, aux ce", "weighted ce"],
)
def test_parts_of_a_step_add_up_to_the_whole(options):
    """Three images: one labeled, one nearly ignored, one ignored altogether."""
    torch.manual_seed(0)
    logits, aux = torch.randn(2, 3, 4, 16, 16, dtype=torch.float32)
    labels = torch.randint(0, 4, (3, 16, 16))
    labels[1, :14], labels[2] = 255, 255
    weights = torch.rand(3, 16, 16) if options.get("weights") else None
    step = StepTotal(labeled_px=int((labels != 255).sum()), images=3)

    def loss(part, **more):
        prediction = ScalePrediction(logits[part], aux[part], None)
        own = {**options, "weights": None if weights is None else weights[part], **more}
        return single_scale_loss(prediction, labels[part], **own).item()

    whole = loss(slice(0, 3))
    assert loss(slice(0, 3), step=step) == pytest.approx(whole, rel=1e-6)
    assert sum(loss(slice(i, i + 1), step=step) for i in range(3)) == pytest.approx(whole, rel=1e-6)
    assert sum(loss(slice(i, i + 1)) for i in range(3)) / 3 != pytest.approx(whole, rel=1e-2)
