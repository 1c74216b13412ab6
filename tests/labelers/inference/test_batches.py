"""Images of a batch get the numbers that each gets alone, and go through the trunk together."""

import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.inference.image_conv import ImageConv2d
from hmsa_label.labelers.inference.net import InferenceNet

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Sets the threads that torch computes with; as they were afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def inference_net(name, dtype=torch.float32, device=CPU):
    torch.manual_seed(0)
    return InferenceNet(build_labeler(name, 5).eval(), device, dtype)


def random_images(count, height, width):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def whole(logits):
    return torch.cat([block for _, _, block in logits.blocks()], 1)


@pytest.mark.parametrize("size_px", [(32, 64), (45, 67), (128, 160)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_every_image_of_a_batch_gets_the_logits_that_it_gets_alone(size_px, dtype):
    net, images = inference_net("hrnet_tiny_ocr", dtype), random_images(3, *size_px)
    together = net.fused(images, (0.5, 1.0, 2.0), "hierarchical", True)
    for image, logits in zip(images, together, strict=True):
        assert torch.equal(whole(logits), net.logits(image, (0.5, 1.0, 2.0), "hierarchical", True))


@pytest.mark.slow  # threads that wait for each other on a busy machine
@torch.inference_mode()
def test_with_two_threads_too_every_image_gets_the_logits_that_it_gets_alone(threads):
    threads(2)
    net, images = inference_net("hrnet_tiny_ocr"), random_images(2, 32, 64)
    for image, logits in zip(images, net.fused(images, (1.0,), "single", False), strict=True):
        assert torch.equal(whole(logits), net.logits(image, (1.0,), "single", False))


@pytest.mark.parametrize(
    ("name", "fusion"),
    [("hrnet_tiny_ocr", "average"), ("hrnet_tiny_ocr_explicit", "explicit"), ("deeplabv3plus_r50", "hierarchical")],
)
@torch.inference_mode()
def test_other_networks_and_fusions_keep_the_images_of_a_batch_apart(name, fusion):
    net, images, scales = inference_net(name), random_images(2, 33, 65), (0.5, 1.0, 2.0)
    for image, logits in zip(images, net.fused(images, scales, fusion, False), strict=True):
        assert torch.equal(whole(logits), net.logits(image, scales, fusion, False))


@pytest.mark.parametrize(("channels", "kernel", "size_px"), [(64, 3, (4, 8)), (64, 1, (4, 8)), (256, 1, (24, 32))])
@pytest.mark.parametrize("num_threads", [1, 2])
@torch.inference_mode()
def test_a_convolution_of_sixteen_images_is_that_of_each_bit_by_bit(channels, kernel, size_px, num_threads, threads):
    threads(num_threads)
    torch.manual_seed(0)
    conv = ImageConv2d(channels, 64, kernel, padding=kernel // 2).to(memory_format=torch.channels_last)
    x = torch.randn(16, channels, *size_px).contiguous(memory_format=torch.channels_last)
    alone = torch.cat([conv(image) for image in x.split(1)])
    for count in (2, 15, 16):
        assert torch.equal(conv(x[:count]), alone[:count])


@torch.inference_mode()
def test_small_images_go_through_the_trunk_together_and_large_ones_one_by_one():
    net, seen = inference_net("hrnet_tiny_ocr"), []
    net.net.trunk.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    net.fused(random_images(3, 64, 128), (0.5, 1.0, 4.0), "hierarchical", False)
    assert seen == [(1, 3, 256, 512)] * 3 + [(3, 3, 64, 128), (3, 3, 32, 64)]


@torch.inference_mode()
def test_an_image_without_finite_logits_spoils_no_other_one_of_its_batch():
    net, images = inference_net("hrnet_tiny_ocr"), random_images(3, 32, 64)
    alone = [net.logits(image, (1.0,), "single", False) for image in images]

    def spoil(module, inputs, output):
        output[1] = torch.inf

    net.net.trunk.conv1.register_forward_hook(spoil)
    first, second, third = net.fused(images, (1.0,), "single", False)
    with pytest.raises(FloatingPointError, match="NaN or infinite logits at scale 1"):
        next(second.blocks(finite=True))
    for logits, expected in ((first, alone[0]), (third, alone[2])):
        assert torch.equal(torch.cat([block for _, _, block in logits.blocks(finite=True)], 1), expected)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "changed"), [(torch.float32, 1e-3), (torch.bfloat16, 0.05), (torch.float16, 0.01)])
@torch.inference_mode()
def test_a_batch_on_a_gpu_changes_few_labels(monkeypatch, dtype, changed):
    """cuDNN may take other kernels for a batch; in low precision they round differently."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net, images = inference_net("hrnet_tiny_ocr", dtype, torch.device("cuda")), random_images(4, 144, 272)
    seen = []
    net.net.trunk.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    together = net.fused(images, (0.5, 1.0, 2.0), "hierarchical", True)
    assert set(seen) == {4}
    for image, logits in zip(images, together, strict=True):
        alone = net.logits(image, (0.5, 1.0, 2.0), "hierarchical", True)
        assert (whole(logits).argmax(0) != alone.argmax(0)).float().mean() < changed
