"""Networks by name: shapes, what is computed on request, and what the published files look like."""

import copy
import re

import pytest
import torch

from hmsa_label.labelers import MODELS, build_labeler
from hmsa_label.labelers.hmsa.net import predict
from hmsa_label.labelers.inference.folding import fold


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build_labeler("hrnet_tiny_ocr", 5).eval()


def test_published_model_has_the_published_number_of_parameters():
    with torch.device("meta"):
        net = build_labeler("hrnet_w48_ocr", 19)
    assert sum(parameter.numel() for parameter in net.parameters()) == 72_143_430


@pytest.mark.parametrize(
    "name",  # the golden arrays hold the published sizes
    [
        pytest.param(name, marks=pytest.mark.slow) if re.fullmatch("hrnet_w.*", name) else name
        for name in sorted(MODELS)
    ],
)
def test_every_model_predicts_at_the_size_of_its_input(name):
    with torch.device("meta"):
        net = build_labeler(name, 7).eval()
        x = torch.empty(1, 3, 64, 96)
        prediction = net.forward_explicit(x) if net.fusion == "explicit" else net.forward_two_scales(x)
    assert prediction.logits.shape == prediction.logits_low.shape == (1, 7, 64, 96)
    assert ("ocr" in name) == (prediction.aux_logits is not None)


@torch.inference_mode()
def test_explicit_attention_weighs_each_scale_by_its_own_channel():
    net = build_labeler("hrnet_tiny_ocr_explicit", 5).eval()
    last = net.attention.mix[-1]
    last.weight.zero_()
    x = torch.randn(1, 3, 32, 64)
    assert predict(net, x, (0.5, 1.0, 2.0), "explicit", False).abs().max() == 0
    for index, scale in enumerate((0.5, 1.0, 2.0)):
        # a hidden unit that is 1 everywhere gives every pixel of this scale the weight 1
        net.attention.mix[1][1].weight.zero_()
        net.attention.mix[1][1].bias.fill_(1)
        last.weight.zero_()
        last.weight[index, 0] = 1
        alone = predict(net, x, (0.5, 1.0, 2.0), "explicit", False)
        torch.testing.assert_close(alone, predict(net, x, (scale,), "average", False), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_maximum_over_scales_is_never_below_any_of_them(tiny):
    x = torch.randn(1, 3, 40, 64)
    singles = [predict(tiny, x, (scale,), "average", False) for scale in (0.5, 1.0)]
    assert torch.equal(predict(tiny, x, (0.5, 1.0), "max", False), torch.maximum(*singles))


@torch.no_grad()
def test_training_moves_the_batch_norms_of_the_attention_by_both_scales():
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 5).train()
    features = []
    net.head.register_forward_hook(lambda _, inputs, output: features.append(output.features))
    net.forward_two_scales(torch.randn(2, 3, 64, 96))
    assert [tuple(seen.shape[2:]) for seen in features] == [(8, 12), (16, 24)]
    conv, norm, _ = net.attention.layers[0]
    mean, variance = torch.zeros(16), torch.ones(16)
    for seen in features:  # the low scale first, each with momentum 0.1
        hidden = conv(seen)
        mean = 0.9 * mean + 0.1 * hidden.mean((0, 2, 3))
        variance = 0.9 * variance + 0.1 * hidden.var((0, 2, 3), correction=1)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-5, atol=1e-6)
    assert norm.num_batches_tracked == net.attention.layers[1][1].num_batches_tracked == 2


def test_attention_of_scale_one_gets_no_gradient_and_is_not_run_in_inference():
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 5).train()
    runs = []
    net.attention.register_forward_hook(lambda _, inputs, output: runs.append(output))
    x = torch.randn(2, 3, 64, 96)
    fused = net.forward_two_scales(x).logits
    assert torch.autograd.grad(fused.sum(), runs[1], retain_graph=True, allow_unused=True) == (None,)
    assert torch.autograd.grad(fused.sum(), runs[0])[0].abs().max() > 0
    runs.clear()
    net.eval().forward_two_scales(x)
    assert len(runs) == 1


def test_unknown_model_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"unknown model 'hrnet'; known are .*hrnet_w48_ocr"):
        build_labeler("hrnet", 19)


@torch.inference_mode()
def test_flip_makes_the_prediction_mirror_symmetric(tiny):
    x = torch.randn(1, 3, 40, 64)
    logits = predict(tiny, x, (0.5, 1.0), "hierarchical", True)
    mirrored = predict(tiny, x.flip(3), (0.5, 1.0), "hierarchical", True)
    torch.testing.assert_close(mirrored.flip(3), logits, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_odd_sizes_come_back_at_their_size(tiny):
    assert predict(tiny, torch.randn(1, 3, 45, 67), (0.5, 1.0, 2.0), "hierarchical", False).shape == (1, 5, 45, 67)


@torch.inference_mode()
def test_normalize_maps_the_mean_color_to_zero(tiny):
    image = (tiny.mean * 255).round().byte().permute(0, 2, 3, 1).expand(1, 4, 4, 3)
    assert tiny.normalize(image).abs().max() < 0.02


def test_network_without_attention_refuses_to_chain_scales():
    net = build_labeler("hrnet_tiny_ocr", 5, multi_scale=False).eval()
    with pytest.raises(ValueError, match="no attention head"):
        predict(net, torch.randn(1, 3, 32, 32), (0.5, 1.0), "hierarchical", False)


@pytest.mark.parametrize("name", ["hrnet_tiny_ocr", "hrnet_tiny_ocr_explicit"])
def test_logits_are_upsampled_in_float32_under_autocast_too(name):
    torch.manual_seed(0)
    net = build_labeler(name, 5)
    x = torch.randn(1, 3, 64, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = net.forward_explicit(x) if net.fusion == "explicit" else net.forward_two_scales(x)
    assert {part.dtype for part in prediction if part is not None} == {torch.float32}
    one = prediction.logits_one
    assert not torch.equal(one, one.bfloat16().float())


def test_batch_norms_of_several_gpus_are_folded_too():
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 5).eval()
    synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    x = torch.randn(1, 3, 64, 96)
    folded = fold(synced)
    assert not [part for part in folded.modules() if isinstance(part, torch.nn.SyncBatchNorm)]
    with torch.inference_mode():
        torch.testing.assert_close(folded(x).logits, net(x).logits, rtol=1e-4, atol=1e-4)
