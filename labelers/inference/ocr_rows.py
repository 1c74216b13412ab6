"""The OCR head for inference, from the trunk's branches and a few rows at a time.

The same function as `OCRHead` on the concatenated branches (a test holds that), but neither the concatenation nor any
map of more than `mid_channels` is ever made for the whole image.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hmsa_label.labelers.heads.ocr import OCRHead
from hmsa_label.labelers.inference.upsampled_conv import UpsampledConv

# Pixels at stride 4 that are worked on at once. Small chunks stay in a CPU's cache but repeat rows at their seams; on a
# GPU they would cost more in launches than in work.
_CHUNK_PIXELS_CPU, _CHUNK_PIXELS_GPU = 2**12, 2**18


class OCRRows:
    """Logits and attention features at stride 4.

    Args:
        head: folded, in inference mode.
        widths: channels of the trunk's branches.
    """

    def __init__(self, head: OCRHead, widths: Sequence[int]) -> None:
        self.head = head
        aux_hidden, aux_last = _convs(head.aux_head)
        self.aux_hidden = UpsampledConv(aux_hidden, widths)
        self.pixel_features = UpsampledConv(_convs(head.pixel_features)[0], widths)
        # the last layers in float32: bfloat16 logits around 20 lie 0.125 apart
        self.aux_weight, self.aux_bias = (part.float() for part in _matrix(aux_last))
        self.class_weight, self.class_bias = (part.float() for part in _matrix(head.class_head))
        self.expand_weight, self.expand_bias = _matrix(_convs(head.expand)[0])
        merge_weight, self.merge_bias = _matrix(_convs(head.merge)[0])
        self.merge_context, self.merge_pixels = merge_weight.split(head.out_channels, dim=1)

    def __call__(self, branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(logits [1, K, h, w] float32, features [1, C, h, w]) of one image's branches."""
        height, width = branches[0].shape[-2:]
        branches = [branch.contiguous(memory_format=torch.channels_last) for branch in branches]
        weights_kp = softmax_over_pixels(self._aux_logits(branches))
        pixels_pc = weights_kp.new_empty(height * width, self.head.out_channels, dtype=branches[0].dtype)
        regions_kc = torch.zeros_like(self.class_weight)
        for rows, start, stop in _chunks(height, width, self.class_weight.device):
            pixels = self.pixel_features.rows(branches, *rows).flatten(0, 1).relu_()
            regions_kc += (weights_kp[:, start:stop].to(pixels.dtype) @ pixels).float()
            pixels_pc[start:stop] = pixels
        del weights_kp
        logits_pk = self._classify(pixels_pc, regions_kc.to(pixels_pc.dtype), height, width)
        logits = logits_pk.T.unflatten(1, (height, width))[None].contiguous()
        return logits, pixels_pc.T.unflatten(1, (height, width))[None]

    def _aux_logits(self, branches: Sequence[Tensor]) -> Tensor:
        """[K, P] float32 logits of the auxiliary head."""
        height, width = branches[0].shape[-2:]
        logits = self.aux_weight.new_empty(self.aux_weight.shape[0], height * width)
        for rows, start, stop in _chunks(height, width, self.class_weight.device):
            hidden = self.aux_hidden.rows(branches, *rows).flatten(0, 1).relu_()
            logits[:, start:stop] = F.linear(hidden.float(), self.aux_weight, self.aux_bias).T
        return logits

    def _classify(self, pixels_pc: Tensor, regions_kc: Tensor, height: int, width: int) -> Tensor:
        """[P, K] float32 class logits; `pixels_pc` is overwritten by the merged features."""
        head = self.head
        regions = regions_kc.T[None, :, :, None]
        key_qk = head.key(regions).flatten(2)[0]
        value_kq = head.value(regions).flatten(2)[0].T
        # similarity @ value @ weight: the two small factors first
        value_kc = F.linear(value_kq, self.expand_weight)
        logits = self.class_weight.new_empty(height * width, self.class_weight.shape[0])
        for _, start, stop in _chunks(height, width, self.class_weight.device):
            pixels = pixels_pc[start:stop]
            query = head.query(pixels.T[None, :, :, None].contiguous(memory_format=torch.channels_last))
            similarity = (query[0, :, :, 0].T @ key_qk).float().mul_(head.key_scale).softmax(1).to(pixels.dtype)
            context = torch.addmm(self.expand_bias, similarity, value_kc).relu_()
            merged = torch.addmm(self.merge_bias, pixels, self.merge_pixels.T)
            merged = merged.addmm_(context, self.merge_context.T).relu_()
            logits[start:stop] = F.linear(merged.float(), self.class_weight, self.class_bias)
            pixels_pc[start:stop] = merged
        return logits


def softmax_over_pixels(logits_kp: Tensor) -> Tensor:
    """Softmax of each row of [K, P] float32 logits, which are overwritten; each row sums to 1 within 1e-6 at any P.

    torch's own softmax adds one value after another in some layouts; its `sum` adds in pairs where the summed axis is
    the contiguous one.
    """
    logits_kp -= logits_kp.amax(1, keepdim=True)
    weights_kp = logits_kp.exp_()
    return weights_kp.div_(weights_kp.sum(1, keepdim=True))


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def _matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weights [K, C] and bias [K] of a 1x1 convolution."""
    assert conv.bias is not None, "batch norms are folded before"
    return conv.weight.detach().flatten(1), conv.bias.detach()


def _chunks(height: int, width: int, device: torch.device) -> Iterator[tuple[tuple[int, int], int, int]]:
    """((first row, last row), first pixel, last pixel) of consecutive chunks, ends excluded."""
    pixels = _CHUNK_PIXELS_GPU if device.type == "cuda" else _CHUNK_PIXELS_CPU
    step = max(1, pixels // width)
    for start in range(0, height, step):
        stop = min(start + step, height)
        yield (start, stop), start * width, stop * width
