"""The axial layer: golden arrays of the public code, and what holds of any such layer."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention
from hmsa_label.labelers.weights.axial_published import from_axial_published
from hmsa_label.labelers.weights.checkpoints import load_strict
from tests.labelers.axial_golden import CASES, assert_golden, golden, published_state
from tests.labelers.plain_axial import plain

LAYERS = [name for name in CASES if name.startswith("layer.")]


def golden_layer(name, **settings):
    case = CASES[name]
    settings = AttentionSettings(table_len=51, **settings)
    layer = AxialAttention(case["in_planes"], case["out_planes"], case["axis"], settings)
    load_strict(layer, from_axial_published(published_state(f"{name}."), 51))
    return layer.eval()


def small_layer(axis="width", in_channels=16, **settings):
    """A layer whose norms are not the identity."""
    torch.manual_seed(0)
    layer = AxialAttention(in_channels, 32, axis, AttentionSettings(**{"table_len": 9, **settings}))
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return layer.eval()


def published_order(x):
    """Content and position of a channel side by side, as the public code has them."""
    return torch.stack(x.chunk(2, dim=1), dim=2).flatten(1, 2)


@pytest.mark.parametrize("name", LAYERS)
@torch.inference_mode()
def test_layer_gives_the_golden_output(name):
    output = golden_layer(name)(golden(f"{name}.input"))
    assert_golden(avg_pool2d(output, 2) if CASES[name]["stride"] == 2 else output, f"{name}.output")


@pytest.mark.parametrize("name", ["layer.w21s2", "layer.h24", "layer.w20"])
@torch.inference_mode()
def test_every_step_inside_is_the_golden_one(name):
    layer, x = plain(golden_layer(name)), golden(f"{name}.input")
    similarity = layer.similarity(*layer.split_heads(lines := layer.plain_lines(layer.bn_qkv(layer.qkv(x))))[:2])
    assert_golden(similarity[:1], f"{name}.mid.similarity_before_bn")
    weights = layer.logits(similarity).softmax(-1)
    assert_golden(weights[:1], f"{name}.mid.weights")
    retrieved = layer.retrieve(weights, layer.split_heads(lines)[2])
    scale = layer.bn_output.weight / (layer.bn_output.running_var + 1e-5).sqrt()
    shift = layer.bn_output.bias - layer.bn_output.running_mean * scale
    normed = retrieved[:2] * scale[:, None] + shift[:, None]
    assert_golden(published_order(normed), f"{name}.mid.retrieved_after_bn")


@pytest.mark.parametrize("form", [plain, lambda layer: layer], ids=["plain", "layer"])
def test_equation_holds_pixel_by_pixel(form):
    layer = small_layer(span=5, table_len=5)
    for norm in (layer.bn_similarity, layer.bn_output):  # the identity
        norm.load_state_dict(torch.nn.BatchNorm2d(norm.num_features, eps=0.0).state_dict())
        norm.eps = 0.0
    layer = form(layer)
    x = torch.randn(1, 16, 2, 7)
    query, key, value = plain(layer).split_heads(plain(layer).plain_lines(layer.bn_qkv(layer.qkv(x))))
    b, h, o = 1, 3, 5
    near = range(3, 7)  # o = 5 sees 2 to each side, inside the 7 pixels
    logits, values = [], []
    for p in near:
        row = p - o + 2
        logits.append(
            query[b, h, :, o] @ key[b, h, :, p]
            + query[b, h, :, o] @ layer.query_table[row]
            + key[b, h, :, p] @ layer.key_table[row]
        )
        values.append(value[b, h, :, p] + layer.value_table[row])
    expected = torch.stack(logits).softmax(0) @ torch.stack(values)
    ours = layer(x)[0, 4 * h : 4 * (h + 1), b, o]
    torch.testing.assert_close(ours, expected)


@torch.inference_mode()
def test_height_is_width_of_the_transposed_image():
    tall, wide = small_layer("height"), small_layer("width")
    x = torch.randn(2, 16, 5, 9)
    torch.testing.assert_close(tall(x).mT, wide(x.mT.contiguous()), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_span_beyond_the_line_is_the_whole_line():
    x = torch.randn(1, 16, 3, 8)
    whole = small_layer(table_len=17)(x)
    torch.testing.assert_close(small_layer(table_len=17, span=15)(x), whole, rtol=0, atol=1e-6)
    assert (small_layer(table_len=17, span=13)(x) - whole).abs().max() > 1e-3


@torch.inference_mode()
def test_pixel_outside_the_span_has_no_say():
    layer, x = small_layer(span=5), torch.randn(1, 16, 3, 12)
    other = x.clone()
    other[..., 8:] += 1
    ours, changed = layer(x), layer(other)
    torch.testing.assert_close(ours[..., :6], changed[..., :6], rtol=0, atol=0)
    assert ((ours - changed)[..., 6:].abs().amax((0, 1, 2)) > 1e-3).all()


@torch.inference_mode()
def test_offsets_beyond_the_table_share_its_end_rows():
    short, long = small_layer(table_len=5), small_layer(table_len=13)
    state = short.state_dict()
    for name in ("query_table", "key_table", "value_table"):
        table = state[name]
        state[name] = torch.cat([table[:1].expand(4, -1), table, table[-1:].expand(4, -1)])
    long.load_state_dict(state)
    x = torch.randn(1, 16, 2, 7)
    torch.testing.assert_close(short(x), long(x), rtol=0, atol=0)


def test_norm_of_the_logits_sees_only_pairs_inside_the_span():
    layer = small_layer(span=3, positions=()).train()
    layer.bn_similarity.momentum = 1.0
    x = torch.randn(2, 16, 2, 6)
    layer(x)
    query, key, _ = plain(layer).split_heads(plain(layer).plain_lines(layer.bn_qkv(layer.qkv(x))))
    near = (torch.arange(6)[:, None] - torch.arange(6)).abs() <= 1
    logits = (query.mT @ key)[:, :, near]
    torch.testing.assert_close(layer.bn_similarity.running_mean, logits.mean((0, 2)))
    torch.testing.assert_close(layer.bn_similarity.running_var, logits.transpose(0, 1).flatten(1).var(1))


@pytest.mark.parametrize(
    ("positions", "terms", "parts"), [((), 1, 1), (("query",), 2, 1), (("query", "key"), 3, 1), (("value",), 1, 2)]
)
def test_variants_leave_out_their_tables(positions, terms, parts):
    layer = small_layer(positions=positions)
    assert {name for name, _ in layer.named_parameters() if "table" in name} == {f"{name}_table" for name in positions}
    assert layer.bn_similarity.num_features == 8 * terms
    assert layer.bn_output.num_features == 32 * parts
    assert layer(torch.randn(1, 16, 1, 5)).shape == (1, 32, 1, 5)


def test_without_positions_pixels_may_come_in_any_order():
    x, order = torch.randn(1, 16, 2, 9), torch.randperm(9)
    plain, aware = small_layer(positions=()), small_layer()
    torch.testing.assert_close(plain(x)[..., order], plain(x[..., order]), rtol=0, atol=1e-5)
    assert (aware(x)[..., order] - aware(x[..., order])).abs().max() > 1e-2


def test_gradient_reaches_every_parameter():
    layer = small_layer(span=5).train()
    layer(torch.randn(2, 16, 3, 9)).square().mean().backward()
    still = {name for name, parameter in layer.named_parameters() if not parameter.grad.any()}
    assert still == {"bn_similarity.bias"}  # the same for every key, so it cancels in the softmax


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"span": 4}, "span must be an odd number"),
        ({"table_len": 8}, "table_len must be an odd number"),
        ({"positions": ("keys",)}, "got 'keys'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        AttentionSettings(**settings)


def test_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="8 heads need a width that 16 divides; got 40"):
        AxialAttention(16, 40, "width")
