"""Axial attention and Axial-DeepLab folded for inference, against the networks that they are made from."""

import copy

import pytest
import torch

from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.inference.axial import for_inference
from hmsa_label.labelers.inference.axial_attention import FoldedAttention
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from tests.labelers.axial_golden import CASES, assert_golden, golden
from tests.labelers.layers.test_axial_attention import golden_layer
from tests.labelers.layers.test_line_attention import VARIANTS, random_layer
from tests.labelers.plain_axial import plain

CPU, META = torch.device("cpu"), torch.device("meta")
GOLDEN_LAYERS = [name for name in CASES if name.startswith("layer.") and CASES[name]["stride"] == 1]


def uneven_net(name="axial_deeplab_tiny"):
    """A network whose norms are not the identity."""
    torch.manual_seed(0)
    net = build_axial_deeplab(name, 5)
    for norm in (module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        for values, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -0.2, 0.2)):
            torch.nn.init.uniform_(values, low, high)
        torch.nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return net.eval()


def random_images(count, height, width):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@torch.inference_mode()
def test_folded_layer_is_the_equation_to_1e_5(settings, axis):
    layer = random_layer(axis, torch.float32, width=32, **settings).eval()
    x = torch.randn(2, 12, *((37, 11) if axis == "height" else (11, 37)))
    torch.testing.assert_close(FoldedAttention(layer)(x), plain(layer)(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", GOLDEN_LAYERS)
@torch.inference_mode()
def test_folded_layer_gives_the_golden_output(name):
    assert_golden(FoldedAttention(golden_layer(name))(golden(f"{name}.input")), f"{name}.output")


@torch.inference_mode()
def test_term_whose_scale_is_zero_has_no_say():
    layer = random_layer(dtype=torch.float32).eval()
    layer.bn_similarity.weight[8:] = 0
    content = random_layer(dtype=torch.float32, positions=("value",)).eval()
    state = {name: value for name, value in layer.state_dict().items() if name in content.state_dict()}
    content.load_state_dict(
        state | {f"bn_similarity.{k}": v[:8] for k, v in layer.bn_similarity.state_dict().items() if v.ndim},
        strict=False,
    )
    x = torch.randn(1, 12, 3, 20)
    torch.testing.assert_close(FoldedAttention(layer)(x), content(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_px", [(64, 96), (45, 67)])
@torch.inference_mode()
def test_folded_network_gives_the_maps_of_the_network(size_px):
    net, x = uneven_net(), random_images(1, *size_px)
    before = copy.deepcopy(net.state_dict())
    for ours, expected in zip(for_inference(net, CPU)(x), net(x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size_px", [(64, 96), (45, 67), (256, 160)])
@torch.inference_mode()
def test_every_image_of_a_batch_gets_the_maps_that_it_gets_alone(size_px, dtype):
    net, x = for_inference(uneven_net(), CPU, dtype), random_images(3, *size_px)
    together = net(x)
    for index, image in enumerate(x.split(1)):
        for ours, alone in zip(together, net(image), strict=True):
            assert torch.equal(ours[index : index + 1], alone)


@torch.inference_mode()
def test_bfloat16_keeps_logits_softmax_and_last_layers_in_float32():
    net, x = uneven_net(), random_images(1, 64, 96)
    fast = for_inference(net, CPU, torch.bfloat16)
    attention = next(module for module in fast.net.modules() if isinstance(module, FoldedAttention))
    assert {attention.scales.dtype, attention.tables.key.dtype} == {torch.float32}
    assert attention.query.weight.dtype == torch.bfloat16
    for ours, expected in zip(fast(x), net(x), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - expected).abs().max() < 0.03 * expected.abs().max()
        assert (ours != ours.bfloat16().float()).any()


@pytest.mark.parametrize(("span", "keys"), [(65, 96), (None, 512)])
@torch.inference_mode()
def test_memory_of_a_layer_is_that_of_its_map_one_group_of_lines_and_one_block(span, keys):
    layer = FoldedAttention(random_layer(dtype=torch.float32, width=32, span=span).eval())
    result, group, block = 32 * 16 * 512 * 4, 8 * 512 * 32 * 4, 64 * 32 * keys * 4
    peak = _peak(layer, torch.randn(1, 12, 16, 512))
    assert result + block < peak < result + 8 * group + 2.5 * block


@torch.inference_mode()
def test_meta_device_counts_the_memory_of_a_cpu():
    net, x = uneven_net(), random_images(1, 128, 192)
    counted = _peak(for_inference(net, META), x.to(META))
    assert counted == pytest.approx(_peak(for_inference(net, CPU), x), rel=0.1)


def _peak(net, x):
    with LiveBytes() as live:
        net(x)
    return live.peak
