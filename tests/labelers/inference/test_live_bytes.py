"""Bytes of tensors that are alive, counted while a computation runs."""

import torch
from torch.nn import functional as F

from hmsa_label.labelers.inference.live_bytes import LiveBytes

MIB = 2**20


def ones(device: str = "cpu") -> torch.Tensor:
    return torch.ones(MIB // 4, device=device)


@torch.inference_mode()
def test_the_peak_is_that_of_what_lives_at_the_same_time():
    with LiveBytes() as tensors:
        kept = ones()
        for _ in range(3):
            ones() + kept  # two at a time beside the kept one
    assert tensors.peak == 3 * MIB
    assert tensors.now == MIB
    del kept
    assert tensors.now == 0


@torch.inference_mode()
def test_views_and_operations_in_place_take_nothing():
    given = ones()
    with LiveBytes() as tensors:
        given.add_(1).mul_(2)
        view = given.view(512, -1).T[3:].expand(2, -1, -1)[0]
        same = view.contiguous() if view.is_contiguous() else view
        given.to(torch.float32)
    assert same.shape == (509, 512)
    assert tensors.peak == 0


@torch.inference_mode()
def test_shapes_alone_give_the_count_of_real_tensors():
    def work(device: str) -> int:
        x, kernel = torch.ones(1, 8, 64, 64, device=device), torch.ones(8, 8, 3, 3, device=device)
        with LiveBytes() as tensors:
            y = F.conv2d(x, kernel, padding=1).relu_()
            y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            y.flatten(1).softmax(1).max(1)
        return tensors.peak

    assert work("meta") == work("cpu") > 8 * 128 * 128 * 4
