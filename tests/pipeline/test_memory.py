"""The memory model, and the windows that follow from it."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.checkpoints import encode_checkpoint
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.memory import MemoryModel, describe, measure, window_for
from hmsa_label.pipeline.teacher import Teacher
from hmsa_label.stores.images import BadImage

MODEL = MemoryModel(base_bytes=1e6, bytes_per_pixel=1000)


def test_line_through_two_passes_is_rounded_up():
    model = measure(lambda size_px: 5_000_000 + 900 * size_px[0] * size_px[1])
    assert 900 <= model.bytes_per_pixel <= 990
    assert 5e6 <= model.base_bytes <= 5.5e6


def test_small_differences_in_measuring_give_the_same_model():
    first, second = (
        measure(lambda size, extra=extra: 20_000_000 + extra + 913 * size[0] * size[1]) for extra in (0, 4096)
    )
    assert first == second


def test_an_image_that_fits_is_not_cut():
    assert window_for((1024, 2048), MODEL, 3e9) == (1024, 2048)
    assert describe((1024, 2048), (1024, 2048)) is None


@pytest.mark.parametrize(("budget", "expected"), [(1.5e9, 2), (1.0e9, 3), (0.5e9, 8)])
def test_an_image_that_does_not_fit_is_cut_into_the_fewest_windows(budget, expected):
    window = window_for((1024, 2048), MODEL, budget)
    assert MODEL.peak_bytes(window) <= budget
    rows, _, columns, *_ = describe((1024, 2048), window).split()
    assert int(rows) * int(columns) == expected


def test_too_little_memory_is_refused_with_both_figures():
    with pytest.raises(BadImage, match=r"1024 x 2048 px needs 251 MiB .* 95 MiB are allowed"):
        window_for((1024, 2048), MODEL, 1e8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    path.write_bytes(encode_checkpoint(build_labeler("hrnet_tiny_ocr", 19), info))
    return str(path)


def test_tiled_labels_are_nearly_those_of_the_whole_and_say_so(weights):
    # wide blocks of one colour: what the deepest branch sees beyond a window matters little
    image = np.random.default_rng(0).integers(0, 256, (3, 9, 3), np.uint8).repeat(96, 0).repeat(96, 1)
    grid = np.array([0.06, 0.9], np.float32)
    config = {"weights": weights, "device": "cpu", "scales": (0.5, 1.0)}
    whole = Teacher(TeacherConfig(**config)).label([image], grid, 0.06, True)[0]
    tight = Teacher(TeacherConfig(**config, max_memory_gb=0.2))
    tight._memory = MODEL
    tiled = tight.label([image], grid, 0.06, True)[0]
    assert whole.tiles is None
    assert tiled.tiles == "1 x 2 tiles of 288 x 576 px"
    assert (tiled.top1 == whole.top1).mean() > 0.98
    assert np.array_equal(tight.top1(image), tiled.top1)
    assert tiled.mean_confidence == pytest.approx(whole.mean_confidence, rel=0.02)


def test_a_pass_is_measured_once_it_is_bounded(weights):
    teacher = Teacher(TeacherConfig(weights=weights, device="cpu", scales=(1.0,), max_memory_gb=100))
    image = np.zeros((64, 64, 3), np.uint8)
    assert teacher.label([image], np.array([0.9], np.float32), 0.9, False)[0].tiles is None
    assert teacher._memory.bytes_per_pixel > 0
