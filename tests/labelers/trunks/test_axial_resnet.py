"""Axial-ResNet: golden blocks and networks of the public code, the hybrid, the stems, and any image size."""

import pytest
import torch
from torch import nn

from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention
from hmsa_label.labelers.layers.blocks import ImageDropPath, dropout_drawn_by_image
from hmsa_label.labelers.trunks.axial_block import AxialBlock
from hmsa_label.labelers.trunks.axial_resnet import CONVOLUTIONAL, AxialResNet, AxialResNetConfig
from hmsa_label.labelers.trunks.bottleneck import Bottleneck
from hmsa_label.labelers.weights.axial_published import from_axial_published
from hmsa_label.labelers.weights.checkpoints import load_strict
from tests.labelers.axial_golden import CASES, assert_golden, formula_tensor, golden, published_state

WHOLE_LINE = AttentionSettings(table_len=111)


def published_trunk(prefix, **numbers):
    """The trunk of a golden network, and its last layer."""
    state = published_state(prefix)
    last = {key.removeprefix("fc."): state.pop(key) for key in ("fc.weight", "fc.bias")}
    trunk = AxialResNet(AxialResNetConfig(striding="pool", attention=WHOLE_LINE, **numbers))
    load_strict(trunk, from_axial_published(state, WHOLE_LINE.table_len))
    return trunk.eval(), last


def small_trunk(**numbers):
    torch.manual_seed(0)
    return AxialResNet(AxialResNetConfig(**{"width": 16, "blocks": (1, 1, 2, 1), **numbers}))


@pytest.mark.parametrize("name", ["block.b1", "block.b2"])
@torch.inference_mode()
def test_block_gives_the_golden_output(name):
    case = CASES[name]
    block = AxialBlock(case["inplanes"], case["planes"], WHOLE_LINE, stride=case["stride"], striding="pool")
    load_strict(block, from_axial_published(published_state(f"{name}."), WHOLE_LINE.table_len))
    assert_golden(block.eval()(golden(f"{name}.input")), f"{name}.output")


@torch.inference_mode()
def test_small_network_at_output_stride_16_gives_the_golden_levels():
    trunk, last = published_trunk("mini.", width=32, blocks=(1, 2, 2, 1))
    x = golden("mini.input")
    assert_golden(trunk.stem(x), "mini.stem")
    levels = trunk(x)
    assert_golden(levels.res2, "mini.layer1")
    assert_golden(levels.res3, "mini.layer2")
    assert_golden(levels.res5, "mini.layer4")
    assert_golden(nn.functional.linear(levels.res5.mean((2, 3)), **last), "mini.logits")


@pytest.fixture(scope="module")
def levels_of_26_layers():
    trunk, last = published_trunk("axial26s.", width=64, blocks=(1, 2, 4, 1), output_stride=32)
    with torch.inference_mode():
        levels = trunk(formula_tensor("axial26s.input", (1, 3, 224, 224), "normal", 1.0))
        return levels, nn.functional.linear(levels.res5.mean((2, 3)), **last)


def test_network_of_26_layers_gives_the_golden_logits(levels_of_26_layers):
    levels, logits = levels_of_26_layers
    assert_golden(levels.res2[..., ::4, ::4], "axial26s.layer1.every4")
    assert_golden(logits, "axial26s.logits")


def test_network_of_26_layers_gives_the_golden_levels(levels_of_26_layers):
    levels, _ = levels_of_26_layers
    assert_golden(levels.res3[..., ::2, ::2], "axial26s.layer2.every2")
    assert_golden(levels.res5, "axial26s.layer4")


@pytest.mark.parametrize("size_px", [(33, 47), (64, 96), (65, 129), (1, 40)])
@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {"axial_from": 16},
        {"stem": "axial", "width": 32},
        {"stem": "three_convs"},
        {"output_stride": 32},
        {"striding": "pool"},
    ],
)
@torch.inference_mode()
def test_levels_round_sizes_up_for_any_image(numbers, size_px):
    trunk = small_trunk(**numbers).eval()
    levels = trunk(torch.randn(1, 3, *size_px))
    for level, channels, stride in zip(levels, trunk.channels, (4, 8, trunk.output_stride), strict=True):
        assert level.shape == (1, channels, *(-(-side // stride) for side in size_px))
    assert trunk.channels == tuple(trunk.config.width * factor for factor in (2, 4, 16))


@torch.inference_mode()
def test_slicing_keeps_every_other_row_and_column_of_the_dense_result():
    torch.manual_seed(0)
    dense = AxialBlock(16, 16, WHOLE_LINE).eval()
    strided = AxialBlock(16, 16, WHOLE_LINE, stride=2).eval()
    dense.width = nn.Identity()  # the second layer looks at other pixels once rows are gone
    strided.width = nn.Identity()
    x = torch.randn(1, 16, 7, 10)
    strided.height.load_state_dict(dense.height.state_dict())
    torch.testing.assert_close(strided.attend(x), dense.attend(x)[..., ::2, ::2], rtol=0, atol=0)


@torch.inference_mode()
def test_attention_along_the_width_sees_only_the_rows_that_stay():
    block, seen = AxialBlock(16, 16, WHOLE_LINE, stride=2).eval(), []
    block.width.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    block(torch.randn(1, 16, 7, 10))
    assert seen == [(4, 10)]


@pytest.mark.parametrize(
    ("numbers", "attending"),
    [
        ({}, ["1.0", "2.0", "3.0", "3.1", "4.0"]),
        ({"axial_from": 16}, ["3.1", "4.0"]),
        ({"axial_from": 16, "output_stride": 32}, ["3.1", "4.0"]),
        ({"axial_from": CONVOLUTIONAL}, []),
    ],
)
def test_hybrid_attends_from_stride_16_on_but_for_the_block_that_gets_there(numbers, attending):
    trunk = small_trunk(**numbers)
    blocks = {
        f"{stage}.{index}": b for stage in (1, 2, 3, 4) for index, b in enumerate(trunk.get_submodule(f"layer{stage}"))
    }
    assert [name for name, block in blocks.items() if isinstance(block, AxialBlock)] == attending
    assert all(isinstance(block, AxialBlock | Bottleneck) for block in blocks.values())


@pytest.mark.parametrize("axial_from", [4, CONVOLUTIONAL])
def test_fresh_blocks_are_their_shortcuts_and_projections_keep_their_spread(axial_from):
    trunk = small_trunk(axial_from=axial_from).eval()
    block, x = trunk.layer3[1], torch.rand(1, 128, 5, 5)
    torch.testing.assert_close(block(x), x)
    spreads = [m.qkv.weight.std() * m.qkv.in_channels**0.5 for m in trunk.modules() if isinstance(m, AxialAttention)]
    assert all(0.85 < spread < 1.15 for spread in spreads)


def test_left_out_blocks_depend_on_the_image_and_not_on_its_batch():
    trunk = small_trunk(axial_from=16).train()
    trunk.leave_out(0.6)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
        if isinstance(module, AxialBlock):
            nn.init.ones_(module.bn2.weight)
    x = torch.randn(4, 3, 64, 64)
    with dropout_drawn_by_image(trunk, [1, 2, 3, 4]):
        together = trunk(x).res5
    with dropout_drawn_by_image(trunk, [3]):
        alone = trunk(x[2:3]).res5
    with dropout_drawn_by_image(trunk, [4]):
        other = trunk(x[2:3]).res5
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-4)
    assert (other - alone).abs().max() > 1e-2


def test_later_blocks_are_left_out_more_often():
    trunk = small_trunk(axial_from=16)
    trunk.leave_out(0.4)
    drops = [module.p for module in trunk.modules() if isinstance(module, ImageDropPath)]
    assert drops == pytest.approx([0.3, 0.4])  # the fourth and the fifth block; the three before are convolutional


def test_training_reaches_every_parameter():
    trunk = small_trunk(width=32, attention=AttentionSettings(span=5, table_len=5), stem="axial").train()
    for module in trunk.modules():
        if isinstance(module, AxialBlock):
            nn.init.ones_(module.bn2.weight)
    sum(level.square().mean() for level in trunk(torch.randn(2, 3, 65, 97))).backward()
    still = [name for name, parameter in trunk.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert [name for name in still if not name.endswith("bn_similarity.bias")] == []  # cancels in the softmax
