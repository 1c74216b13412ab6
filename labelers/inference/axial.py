"""Axial-DeepLab for inference: the same maps as the network's, faster and in less memory."""

import copy
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor, nn

from hmsa_label.labelers.axial_deeplab.net import AxialDeepLab
from hmsa_label.labelers.heads.panoptic_deeplab import PanopticMaps
from hmsa_label.labelers.inference.axial_attention import AttentionKernel, FoldedAttention
from hmsa_label.labelers.inference.folding import fold
from hmsa_label.labelers.inference.image_conv import as_alone, pointwise_by_onednn
from hmsa_label.labelers.layers.axial_attention import AxialAttention

AttentionForm = Literal["plain", "kernel"]


class PanopticInferenceNet:
    """A folded copy of a network on one device and in one precision.

    Convolutions run in `dtype`; logits, softmax and the last layers of the heads always in float32. On a CPU an image
    gets the same bits in any batch.
    """

    def __init__(self, net: AxialDeepLab, device: torch.device, dtype: torch.dtype, attention: AttentionForm) -> None:
        kernel = _kernel(device) if attention == "kernel" else None
        self.device, self.dtype, self.attention = device, dtype, attention
        self.mean, self.std = net.mean.to(device), net.std.to(device)
        folded = fold(_with_folded_attention(net, kernel)).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net: AxialDeepLab = folded.to(dtype)
        for head in (self.net.head.semantic_head, self.net.head.center_head, self.net.head.offset_head):
            # bfloat16 offsets around 100 lie half a pixel apart
            head[-1] = _InFloat32(head[-1].float())
        if device.type == "cpu":
            pointwise_by_onednn(self.net)
            as_alone(self.net)

    def normalize(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 RGB -> [N, 3, H, W] float32."""
        return (images.to(self.device).permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std

    def __call__(self, x: Tensor) -> PanopticMaps:
        """Maps at stride 4, float32, of normalized images [N, 3, H, W]."""
        maps: PanopticMaps = self.net(x.to(self.dtype).contiguous(memory_format=torch.channels_last))
        return maps


def for_inference(
    net: AxialDeepLab, device: torch.device, dtype: torch.dtype = torch.float32, attention: AttentionForm = "plain"
) -> PanopticInferenceNet:
    """The network for labeling, on a device and in a precision; `net` is not changed.

    Args:
        device: `meta` for one that computes shapes only.
        dtype: torch.float32, torch.bfloat16 or torch.float16.
        attention: `plain` is torch alone, on any device; `kernel` computes each layer in one Triton kernel, on a CUDA
            device.

    Raises:
        ValueError: the kernel cannot run here.
    """
    return PanopticInferenceNet(net, device, dtype, attention)


def _kernel(device: torch.device) -> AttentionKernel:
    if device.type != "cuda":
        raise ValueError(f"attention=kernel needs a CUDA device; got {device}; use attention=plain")
    if find_spec("triton") is None:
        raise ValueError(
            "attention=kernel needs Triton, which is not installed; run pip install triton, or use attention=plain"
        )
    from hmsa_label.labelers.inference.axial_kernel import attend_images

    return attend_images


class _InFloat32(nn.Module):
    """A layer whose input is made float32."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.float())
        return result


def _with_folded_attention(net: AxialDeepLab, kernel: AttentionKernel | None) -> AxialDeepLab:
    copied = copy.deepcopy(net).eval()
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, AxialAttention):
                setattr(parent, name, FoldedAttention(child, kernel))
    return copied
