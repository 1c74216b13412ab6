"""The fast path gives what the reference order of operations gives."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.heads.ocr import OCRHead
from hmsa_label.labelers.hmsa.net import predict
from hmsa_label.labelers.inference.folding import fold
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.labelers.inference.ocr_rows import OCRRows, softmax_over_pixels
from hmsa_label.labelers.inference.upsampled_conv import UpsampledConv
from hmsa_label.labelers.layers.blocks import resize
from hmsa_label.labelers.layers.resampling import Resampler, resampler, resize_entries, resize_rows

CPU = torch.device("cpu")
THREE = (0.5, 1.0, 2.0)


def random_net(name, **options):
    """A network with running statistics and affine terms away from their start values."""
    torch.manual_seed(0)
    net = build_labeler(name, 5, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return net.eval()


@pytest.fixture(scope="module")
def tiny():
    return random_net("hrnet_tiny_ocr")


def random_image(height, width):
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def reference(net, image, scales, fusion, flip):
    with torch.inference_mode():
        return predict(net, net.normalize(image[None]), scales, fusion, flip)[0]


@torch.inference_mode()
def test_folding_changes_no_prediction_and_leaves_the_original_alone(tiny):
    x = torch.randn(1, 3, 32, 64)
    before = {key: value.clone() for key, value in tiny.state_dict().items()}
    expected, folded = tiny(x, aux=True, attention=True), fold(tiny)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for ours, theirs in zip(folded(x, aux=True, attention=True), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())


def test_a_batch_norm_without_convolution_cannot_be_folded(tiny):
    net = fold(tiny)
    net.head.dropout = torch.nn.BatchNorm2d(32)
    with pytest.raises(ValueError, match=r"before the batch norm head\.dropout"):
        fold(net)


@pytest.mark.parametrize(("size", "new_size"), [(4, 16), (19, 75), (150, 75), (8, 8), (5, 1)])
def test_rows_of_a_resize_equal_the_whole_resize(size, new_size):
    maps = torch.randn(3, size, size + 3)
    expected = resize(maps[None], (new_size, 2 * new_size))[0]
    rows = resampler((size, new_size), torch.float32, CPU)
    columns = resampler((size + 3, 2 * new_size), torch.float32, CPU)
    for start in range(0, new_size, 5):
        stop = min(start + 5, new_size)
        ours = resize_rows(maps, rows.band(start, stop), columns)
        torch.testing.assert_close(ours, expected[:, start:stop], rtol=1e-5, atol=1e-5)


def test_two_resizes_compose_to_one_matrix():
    maps = torch.randn(1, 2, 8, 8)
    expected = resize(resize(maps, (32, 32)), (13, 13))[0]
    both = resampler((8, 32, 13), torch.float32, CPU)
    torch.testing.assert_close(resize_rows(maps[0], both.band(0, 13), both), expected, rtol=1e-5, atol=1e-5)


def whole(entries, size):
    """The dense matrix [out, size] of entries."""
    matrix, first, last = Resampler(entries, torch.float64, CPU).band(0, len(entries.columns))
    dense = torch.zeros(len(entries.columns), size, dtype=torch.float64)
    dense[:, first:last] = matrix
    return dense


@pytest.mark.parametrize(("size", "new_size"), [(19, 75), (1024, 2048), (2048, 1023), (1, 4), (3, 3)])
def test_entries_of_a_resize_are_those_of_torch(size, new_size):
    identity = torch.eye(size)[None, :, :, None]
    expected = F.interpolate(identity, size=(new_size, 1), mode="bilinear", align_corners=False)[0, :, :, 0].T
    torch.testing.assert_close(whole(resize_entries(size, new_size), size), expected.double(), rtol=0, atol=1e-6)


def test_shifted_rows_are_zero_where_nothing_comes_in():
    matrix = whole(resize_entries(4, 8), 4)
    down, up = (whole(resize_entries(4, 8).shifted(by), 4) for by in (-1, 1))
    assert torch.equal(down[1:], matrix[:-1])
    assert torch.equal(up[:-1], matrix[1:])
    assert down[0].abs().max() == up[-1].abs().max() == 0


@pytest.mark.parametrize("kernel", [1, 3])
@torch.inference_mode()
def test_convolution_over_unequal_branches_equals_that_of_the_concatenation(kernel):
    conv = torch.nn.Conv2d(9, 7, kernel, padding=kernel // 2)
    branches = [torch.randn(1, 2, 15, 21), torch.randn(1, 3, 8, 11), torch.randn(1, 4, 4, 6)]
    expected = conv(torch.cat([resize(branch, (15, 21)) for branch in branches], 1))[0].permute(1, 2, 0)
    fast = UpsampledConv(conv, (2, 3, 4))
    rows = torch.cat([fast.rows(branches, start, min(start + 4, 15)) for start in range(0, 15, 4)])
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size_px", [(64, 96), (45, 67)])
@pytest.mark.parametrize(
    ("scales", "fusion"),
    [
        (THREE, "hierarchical"),
        ((0.25, 0.5, 1.0, 1.5, 2.0), "hierarchical"),
        ((0.5, 1.0), "hierarchical"),
        ((1.0,), "hierarchical"),
        (THREE, "average"),
        (THREE, "max"),
        ((0.5,), "single"),
    ],
)
@torch.inference_mode()
def test_fast_path_equals_the_reference(tiny, size_px, scales, fusion):
    image = random_image(*size_px)
    ours = InferenceNet(tiny, CPU).logits(image, scales, fusion, True)
    torch.testing.assert_close(ours, reference(tiny, image, scales, fusion, True), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        "hrnet_tiny_ocr_explicit",
        pytest.param("deeplabv3plus_r50_explicit_plain", marks=pytest.mark.slow),
        "deeplabv3plus_r50",
    ],
)
@torch.inference_mode()
def test_fast_path_equals_the_reference_on_other_networks(name):
    net, image = random_net(name), random_image(33, 65)
    fusion = net.fusion
    ours = InferenceNet(net, CPU).logits(image, THREE, fusion, False)
    expected = reference(net, image, THREE, fusion, False)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_softmax_over_half_a_million_pixels_is_exact():
    logits = torch.randn(19, 524_288, generator=torch.Generator().manual_seed(0)) * 5
    expected = logits.double().softmax(1)
    ours = softmax_over_pixels(logits.clone())
    assert ((ours - expected) / expected).abs().max() < 1e-5
    assert (ours.sum(1, dtype=torch.float64) - 1).abs().max() < 2e-6


@torch.inference_mode()
def test_regions_of_half_a_million_equal_pixels_are_these_pixels_however_they_are_weighed():
    torch.manual_seed(0)
    head = fold(OCRHead(5, 5, mid_channels=16, key_channels=8).eval())
    head.pixel_features[0].weight[:, 0] = 0  # the channel that differs weighs the pixels and is no part of them
    head.pixel_features[0].weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0  # nor is the border
    head.aux_head[1].weight *= 20
    seen = []
    head.key.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    varied, equal = torch.randn(1, 1, 512, 1024), torch.ones(1, 2, 512, 1024)
    _, features = OCRRows(head, (3, 2))([torch.cat([varied, equal], 1), equal[..., ::2, ::2]])
    assert features.shape == (1, 16, 512, 1024)
    pixel = head.pixel_features(torch.ones(1, 5, 3, 3))[:, :, 1:2, 1]
    assert (seen[0][..., 0] - pixel).abs().max() < 5e-6 * pixel.max()


@torch.inference_mode()
def test_probabilities_and_labels_at_a_larger_size_are_those_of_the_reference(tiny):
    image = random_image(256, 512)
    expected = reference(tiny, image, THREE, "hierarchical", True).softmax(0)
    ours = InferenceNet(tiny, CPU).logits(image, THREE, "hierarchical", True).softmax(0)
    assert (ours - expected).abs().max() < 1e-4
    assert (ours.argmax(0) == expected.argmax(0)).double().mean() >= 0.9999


@torch.inference_mode()
def test_blocks_of_rows_cover_the_image_once(tiny):
    blocks = list(InferenceNet(tiny, CPU).logit_blocks(random_image(2100, 64), (1.0,), "single", False))
    assert len(blocks) > 1
    assert [start for start, _, _ in blocks[1:]] == [stop for _, stop, _ in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (0, 2100)


@torch.inference_mode()
def test_bfloat16_changes_few_labels(tiny):
    image = random_image(64, 96)
    low = InferenceNet(tiny, CPU, torch.bfloat16).logits(image, THREE, "hierarchical", False)
    full = InferenceNet(tiny, CPU).logits(image, THREE, "hierarchical", False)
    assert low.dtype == torch.float32
    assert (low.argmax(0) != full.argmax(0)).float().mean() < 0.05


@pytest.mark.parametrize(
    ("scales", "fusion", "message"),
    [
        (THREE, "explicit", "was built for 'hierarchical'"),
        ((0.5, 2.0), "hierarchical", "needs scale 1.0 among"),
        ((0.5, 1.0), "single", "cannot use the scales"),
        ((), "average", "cannot use the scales"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny, scales, fusion, message):
    with pytest.raises(ValueError, match=message):
        InferenceNet(tiny, CPU).fused_rows(torch.zeros(1, 3, 32, 32), scales, fusion)


@pytest.mark.parametrize("case", ["d", pytest.param("a", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_published_network_gives_the_golden_labels(golden, golden_net, case):
    expected = golden[f"{case}/ms3_flip_s4"][0]
    seed, count, height, width = golden[f"{case}/case"]
    image = torch.from_numpy(golden.image(seed, count, height, width))[0]
    logits = InferenceNet(golden_net, CPU).logits(image, THREE, "hierarchical", True)
    difference = np.abs(logits[:, 1::4, 1::4].numpy() - expected)
    assert difference.max() < 2e-3
    assert difference.mean() < 1e-4
    assert (logits.argmax(0).numpy() != golden[f"{case}/ms3_flip_pred"][0]).mean() <= 1e-4
    confidence = logits.softmax(0).amax(0)
    np.testing.assert_allclose(confidence, golden[f"{case}/ms3_flip_prob"][0], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@torch.inference_mode()
def test_published_network_labels_256x512_as_the_reference_does(golden, golden_net):
    image = torch.from_numpy(golden.image(301, 1, 256, 512))[0]
    ours = InferenceNet(golden_net, CPU).logits(image, THREE, "hierarchical", True)
    expected = reference(golden_net, image, THREE, "hierarchical", True)
    assert (ours.argmax(0) == expected.argmax(0)).double().mean() >= 0.9999
    assert (ours.softmax(0) - expected.softmax(0)).abs().max() < 2e-4


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 0.5)])
@torch.inference_mode()
def test_gpu_gives_the_logits_of_the_cpu(tiny, monkeypatch, dtype, tolerance):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    image = random_image(144, 272)
    expected = InferenceNet(tiny, CPU).logits(image, THREE, "hierarchical", True)
    ours = InferenceNet(tiny, torch.device("cuda"), dtype).logits(image, THREE, "hierarchical", True)
    torch.testing.assert_close(ours.cpu(), expected, rtol=0, atol=tolerance)
