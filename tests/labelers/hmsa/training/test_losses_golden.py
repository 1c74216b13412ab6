"""Losses and their gradients against golden values."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.hmsa.training.losses import rmi_loss, sigmoid_bce, two_scale_loss
from hmsa_label.labelers.weights.checkpoints import from_published_key

GRADIENTS = (
    ("backbone.conv1.weight", 2e-3),
    ("backbone.stage4.2.fuse_layers.0.3.0.weight", 2e-4),
    ("ocr.cls_head.weight", 2e-4),
    ("ocr.aux_head.2.weight", 2e-4),
    ("scale_attn.conv0.weight", 2e-4),
    ("scale_attn.conv2.weight", 2e-4),
)


@pytest.mark.parametrize("name", ["r0", "r1", "r2", "r3"])
def test_rmi_value_and_gradient_match(golden, name):
    seed, count, classes, height, width = (int(n) for n in golden[f"rmi/{name}/case"])
    logits = golden.logits(seed, count, classes, height, width).requires_grad_()
    labels = golden.labels(seed + 1000, count, height, width, classes, 255, 8)
    assert sigmoid_bce(logits, labels).item() == pytest.approx(float(golden[f"rmi/{name}/bce"]), rel=1e-5)
    loss = rmi_loss(logits, labels)
    assert loss.item() == pytest.approx(float(golden[f"rmi/{name}/full"]), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.norm().item() == pytest.approx(float(golden[f"rmi/{name}/grad_norm"]), rel=2e-4)
    expected = golden[f"rmi/{name}/grad_s3"]
    np.testing.assert_allclose(gradient[:, :, 1::3, 1::3], expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["edge_all_ignored", "edge_one_class", "edge_ignore_eq_numclasses"])
def test_rmi_edge_cases_match(golden, name):
    seed = int(golden[f"rmi/{name}/case"][0])
    logits = golden.logits(seed, 1, 5, 32, 40)
    labels = {
        "edge_all_ignored": torch.full((1, 32, 40), 255),
        "edge_one_class": torch.full((1, 32, 40), 2),
        "edge_ignore_eq_numclasses": golden.labels(seed + 1000, 1, 32, 40, 5, 5, 8),
    }[name]
    assert sigmoid_bce(logits, labels).item() == pytest.approx(float(golden[f"rmi/{name}/bce"]), rel=1e-5, abs=1e-7)
    assert rmi_loss(logits, labels).item() == pytest.approx(float(golden[f"rmi/{name}/full"]), rel=1e-5)


@pytest.fixture(scope="module")
def trained(golden, golden_net):
    """The training graph of case c with gradients, its labels, and the parameters whose gradients are known."""
    seed, count, height, width = (int(n) for n in golden["c/case"])
    labels = golden.labels(int(golden["train/label_seed"]), count, height, width)
    images = torch.from_numpy(golden.image(seed, count, height, width))
    prediction = golden_net.forward_two_scales(golden_net.normalize(images))
    parameters = dict(golden_net.named_parameters())
    return prediction, labels, [parameters[from_published_key(key)] for key, _ in GRADIENTS]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rmi_sup0.05", {"loss": "rmi", "side_weight": 0.05}),
        ("rmi_sup0", {"loss": "rmi", "side_weight": 0.0}),
        ("rmi_auxrmi_sup0", {"loss": "rmi", "side_weight": 0.0, "aux_loss": "rmi"}),
        ("ce_sup0.05", {"loss": "ce", "side_weight": 0.05}),
        ("ce_sup0", {"loss": "ce", "side_weight": 0.0}),
    ],
)
def test_two_scale_objective_and_gradients_match(golden, trained, name, options):
    prediction, labels, parameters = trained
    value = two_scale_loss(prediction, labels, **options)
    assert value.item() == pytest.approx(float(golden[f"train/{name}_loss"]), rel=1e-5)
    gradients = torch.autograd.grad(value, parameters, retain_graph=True)
    for (key, tolerance), gradient in zip(GRADIENTS, gradients, strict=True):
        assert gradient.norm().item() == pytest.approx(float(golden[f"train/{name}_gradnorm/{key}"]), rel=tolerance)
        values = f"train/{name}_grad/{key}"
        if values in golden.arrays:
            expected = golden[values]
            ours = gradient.flatten()[: expected.size]
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
