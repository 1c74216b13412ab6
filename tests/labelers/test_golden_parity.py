"""Parity with the published architecture on golden arrays: logits 2e-3 / 1e-4 (max / mean), probabilities 1e-4."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.hmsa import predict

CASES = "abcd"


def assert_logits(ours, expected):
    difference = np.abs(np.asarray(ours) - expected)
    assert difference.max() < 2e-3
    assert difference.mean() < 1e-4


def every(array, step):
    return array[:, :, step // 2 - 1 :: step, step // 2 - 1 :: step]


@pytest.fixture(scope="module")
def inputs(golden, golden_net):
    def build(case):
        seed, count, height, width = golden[f"{case}/case"]
        return golden_net.normalise(torch.from_numpy(golden.image(seed, count, height, width)))

    return build


def test_weights_rebuild_to_the_published_sums(golden):
    state = golden.state("state_dict.tsv")
    total = sum(float(value.double().sum()) for value in state.values())
    assert abs(total - golden["weights_sum"]) < 1e-3


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_one_scale_matches_at_every_output(golden, golden_net, inputs, case):
    x = inputs(case)
    np.testing.assert_allclose(x.flatten()[:8], golden[f"{case}/x_head"], rtol=0, atol=1e-6)
    trunk = golden_net.trunk(x)
    np.testing.assert_allclose(trunk.mean((0, 2, 3)), golden[f"{case}/s1_trunk_mean"], rtol=0, atol=1e-4)
    head = golden_net.head(trunk)
    assert_logits(head.logits, golden[f"{case}/s1_cls_lr"])
    assert_logits(head.aux_logits, golden[f"{case}/s1_aux_lr"])
    np.testing.assert_allclose(golden_net.attention(head.features), golden[f"{case}/s1_attn_lr"], rtol=0, atol=1e-4)
    full = golden_net(x, aux=True, attention=True)
    assert_logits(every(full.logits, 4), golden[f"{case}/s1_cls_s4"])
    assert_logits(every(full.aux_logits, 4), golden[f"{case}/s1_aux_s4"])
    np.testing.assert_allclose(full.attention, golden[f"{case}/s1_attn"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("flip", [False, True])
@torch.inference_mode()
def test_two_scales_match(golden, golden_net, inputs, case, flip):
    logits = predict(golden_net, inputs(case), (0.5, 1.0), "hierarchical", flip)
    assert_logits(every(logits, 4), golden[f"{case}/ms2_{'flip' if flip else 'noflip'}_s4"])


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_three_scales_match_with_and_without_flip(golden, golden_net, inputs, case):
    x = inputs(case)
    scales = (0.5, 1.0, 2.0)
    logits = predict(golden_net, x, scales, "hierarchical", False)
    assert_logits(every(logits, 4), golden[f"{case}/ms3_noflip_s4"])
    mirrored = predict(golden_net, x.flip(3), scales, "hierarchical", False).flip(3)
    logits = (logits + mirrored) / 2
    assert_logits(every(logits, 4), golden[f"{case}/ms3_flip_s4"])
    confidence, classes = logits.softmax(1).max(1)
    assert (classes.numpy() != golden[f"{case}/ms3_flip_pred"]).mean() <= 0.001
    np.testing.assert_allclose(confidence, golden[f"{case}/ms3_flip_prob"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", "ad")
@pytest.mark.parametrize(("name", "scales"), [("ms4q", (0.25, 0.5, 1.0, 2.0)), ("ms4m", (0.5, 1.0, 1.5, 2.0))])
@torch.inference_mode()
def test_four_scales_with_flip_match(golden, golden_net, inputs, case, name, scales):
    logits = predict(golden_net, inputs(case), scales, "hierarchical", True)
    assert_logits(every(logits, 4), golden[f"{case}/{name}_flip_s4"])


@pytest.mark.parametrize("case", "ab")
@pytest.mark.parametrize("flip", [False, True])
@torch.inference_mode()
def test_average_over_scales_matches(golden, golden_net, inputs, case, flip):
    logits = predict(golden_net, inputs(case), (0.5, 1.0, 2.0), "average", flip)
    assert_logits(every(logits, 4), golden[f"{case}/avgpool3_{'flip' if flip else 'noflip'}_s4"])


@torch.inference_mode()
def test_two_scale_training_graph_equals_the_chain(golden, golden_net, inputs):
    x = inputs("a")
    trained = golden_net.forward_two_scales(x).logits
    assert_logits(every(trained, 4), golden["a/two_scale_fwd_s4"])
    assert torch.equal(trained, predict(golden_net, x, (0.5, 1.0), "hierarchical", False))
