"""The Triton kernel of axial attention against plain torch.

With Triton installed and no GPU, its interpreter runs the kernel on the CPU; without Triton these tests are left out.
"""

import os
from importlib.util import find_spec

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it once, as it is imported

from hmsa_label.labelers.inference.axial import for_inference
from hmsa_label.labelers.inference.axial_attention import FoldedAttention
from tests.labelers.inference.test_axial import CPU, random_images, uneven_net
from tests.labelers.layers.test_line_attention import VARIANTS, random_layer

interpreted = pytest.mark.skipif(
    torch.cuda.is_available() or find_spec("triton") is None,
    reason="Triton is not installed, or there is a GPU, where the tests marked gpu run the kernel itself",
)


def assert_kernel_is_plain_torch(axis, settings, size_px, device, dtype, most):
    """With several blocks of queries and of keys; neither divides the line."""
    from hmsa_label.labelers.inference.axial_kernel import attend_images

    # depths that are no powers of two, which the kernel pads
    layer = random_layer(axis, torch.float32, width=96 if settings.get("heads", 8) == 8 else 32, **settings).eval()
    plain, kernel = FoldedAttention(layer), FoldedAttention(layer, attend_images).to(device=device, dtype=dtype)
    x = torch.randn(1, 12, *size_px).contiguous(memory_format=torch.channels_last)
    ours = kernel(x.to(device=device, dtype=dtype))
    assert ours.dtype == dtype
    assert (ours.float().cpu() - plain(x)).abs().max() < most


@interpreted
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@torch.inference_mode()
def test_interpreted_kernel_is_plain_torch(settings):
    assert_kernel_is_plain_torch("width", settings, (1, 40), CPU, torch.float32, 2e-5)


@interpreted
@pytest.mark.parametrize("axis", ["height", "width"])
@torch.inference_mode()
def test_interpreted_kernel_takes_float16_and_either_axis(axis):
    size_px = (40, 1) if axis == "height" else (1, 40)
    assert_kernel_is_plain_torch(axis, {"span": 33, "table_len": 21}, size_px, CPU, torch.float16, 0.03)


@pytest.mark.gpu
@pytest.mark.parametrize("axis", ["height", "width"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
@torch.inference_mode()
def test_kernel_on_a_gpu_is_plain_torch(settings, axis):
    size_px = (150, 20) if axis == "height" else (20, 150)
    assert_kernel_is_plain_torch(axis, settings, size_px, torch.device("cuda"), torch.float32, 1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 0.03), (torch.bfloat16, 0.25)], ids=["fp16", "bf16"])
@torch.inference_mode()
def test_kernel_on_a_gpu_takes_half_precision(dtype, most):
    assert_kernel_is_plain_torch("width", {"span": 65}, (20, 150), torch.device("cuda"), dtype, most)


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["kernel", "plain"])
@torch.inference_mode()
def test_network_on_a_gpu_gives_the_maps_of_a_cpu(attention, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net, x = uneven_net(), random_images(2, 97, 161)
    fast = for_inference(net, torch.device("cuda"), torch.float32, attention)
    for ours, expected in zip(fast(x.cuda()), net(x), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, rtol=0, atol=1e-3)


def test_kernel_is_refused_without_a_gpu_by_name():
    with pytest.raises(ValueError, match="attention=kernel needs a CUDA device; got cpu; use attention=plain"):
        for_inference(uneven_net(), CPU, attention="kernel")


@pytest.mark.skipif(find_spec("triton") is not None, reason="Triton is installed")
def test_missing_triton_is_named_with_what_to_do():
    with pytest.raises(ValueError, match="needs Triton, which is not installed; run pip install triton"):
        for_inference(uneven_net(), torch.device("cuda"), attention="kernel")
