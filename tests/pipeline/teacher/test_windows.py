"""The memory model, and the windows that follow from it."""

import sys
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from hmsa_label.labelers.base import DoesNotFit
from hmsa_label.labelers.hmsa.labeler.windows import (
    MemoryModel,
    describe,
    in_smaller_windows,
    measure,
    smaller_window,
    window_for,
)
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.pipeline.label import worker
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.source import BadImage, ImageRef

MODEL = MemoryModel(pixels=(256 * 256, 512 * 512), peaks=(256 * 256 * 1000, 512 * 512 * 1000))


def test_two_passes_bound_every_larger_and_smaller_one():
    def peak(size_px):
        pixels = size_px[0] * size_px[1]
        return max(30_000_000 + 90 * pixels, 200 * pixels)  # one part of a pass, then another: no straight line

    model = measure(peak)
    for size in ((8, 8), (256, 256), (300, 400), (512, 512), (1024, 1024), (4096, 8192)):
        assert peak(size) <= model.peak_bytes(size)
    assert model.peak_bytes((1024, 1024)) <= 1.3 * peak((1024, 1024))


def test_a_second_pass_that_took_no_more_than_the_first_still_makes_larger_images_cost_more():
    model = measure(lambda size_px: 20_000_000)
    assert model.peak_bytes((1024, 2048)) >= 8 * 20_000_000


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
    with pytest.raises(DoesNotFit, match=r"1024 x 2048 px needs 250 MiB .* 95 MiB are allowed"):
        window_for((1024, 2048), MODEL, 1e8)


def test_a_strip_of_a_hundred_million_pixels_is_cut_at_once():
    window = window_for((8, 2**24), MODEL, 1e9)
    assert MODEL.peak_bytes(window) <= 1e9


def test_smaller_windows_have_at_most_half_the_pixels_and_end_with_the_smallest():
    window, seen = (1024, 2048), []
    while window is not None:
        seen.append(window)
        window = smaller_window((1024, 2048), window)
    assert seen[-1] == (512, 512)
    assert all(2 * small[0] * small[1] <= large[0] * large[1] for large, small in pairwise(seen[:-1]))
    assert smaller_window((100, 200), (100, 200)) is None


def test_work_that_runs_out_of_memory_is_done_in_smaller_windows_after_its_tensors_are_gone():
    """As on a GPU: the first failure would keep its tensors alive as long as somebody holds the error."""
    tried, alive_at_free, held = [], [], []

    def work(window):
        pass_over = torch.zeros(4)
        held.append(weakref.ref(pass_over))
        tried.append(window)
        if window[0] * window[1] > 600 * 1024:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return window

    def free():
        assert sys.exc_info() == (None, None, None)
        alive_at_free.append(held[-1]() is not None)

    assert in_smaller_windows((1024, 2048), (1024, 2048), work, free) == tried[-1]
    assert len(tried) == 3
    assert alive_at_free == [False, False]


def test_work_that_never_fits_ends_with_the_size_and_the_reason():
    def work(window):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB.")

    with pytest.raises(
        DoesNotFit, match=r"1024 x 2048 px ran out of memory, at last in windows of 512 x 512 px \(CUDA out of"
    ) as raised:
        in_smaller_windows((1024, 2048), (1024, 2048), work, lambda: None)
    assert raised.value.__context__ is None


def test_other_errors_are_raised_at_once():
    tried = []

    def work(window):
        tried.append(window)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        in_smaller_windows((1024, 2048), (1024, 2048), work, lambda: None)
    assert len(tried) == 1


ROOM_FOR_TILES_GB = 0.042  # a pass over two scales takes 0.03 GB for 512 x 512 px, at most 0.05 GB for the test's image


def test_tiled_labels_are_nearly_those_of_the_whole_and_say_so(weights):
    # wide blocks of one color: what the deepest branch sees beyond a window matters little
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8).repeat(96, 0).repeat(96, 1)
    grid = np.array([0.06, 0.9], np.float32)
    config = {"weights": weights, "device": "cpu", "options": {"scales": (0.5, 1.0)}}
    whole = Teacher(TeacherConfig(**config)).label([image], grid, Rule(0.06), True)[0]
    tight = Teacher(TeacherConfig(**config, max_memory_gb=ROOM_FOR_TILES_GB))
    tiled = tight.label([image], grid, Rule(0.06), True)[0]
    assert whole.tiles is None
    assert tiled.tiles == "1 x 2 tiles of 576 x 576 px"
    assert (tiled.arrays["top1"] == whole.arrays["top1"]).mean() > 0.98
    assert np.array_equal(tight.top1(image), tiled.arrays["top1"])
    assert tiled.mean_confidence == pytest.approx(whole.mean_confidence, rel=0.02)


def test_an_image_that_fits_no_window_is_refused_with_what_would_help(weights):
    teacher = Teacher(TeacherConfig(weights=weights, device="cpu", max_memory_gb=0.001, options={"scales": (1.0,)}))
    with pytest.raises(BadImage, match=r"64 x 96 px needs \d+ MiB .*; use fewer scales, fewer workers, or raise"):
        teacher.label([np.zeros((64, 96, 3), np.uint8)], np.array([0.9], np.float32), Rule(0.9), False)


def test_by_default_a_pass_on_a_cpu_is_bounded_by_its_share_of_the_memory_that_is_free(weights):
    config = TeacherConfig(weights=weights, device="cpu", options={"scales": (1.0,)})
    assert Teacher(config).label([np.zeros((64, 64, 3), np.uint8)], np.array([0.9], np.float32), Rule(0.9), False)
    with pytest.raises(BadImage, match="64 x 64 px"):
        Teacher(config, memory_share=1e-6).top1(np.zeros((64, 64, 3), np.uint8))


def test_a_run_names_the_image_that_fits_no_window_and_labels_the_rest(bench, weights):
    bench.draw(3)
    bench.draw(1, start=3, size=(600, 600))
    config = bench.config(weights, workers=1)
    # the tiny network takes 0.013 GB for a small image, 0.019 GB for 512 x 512 px
    summary = label_images(replace(config, teacher=replace(config.teacher, device="cpu", max_memory_gb=0.016)))
    assert (summary.images_labelled, summary.images_failed) == (3, 1)
    (failure,) = summary.failed
    assert failure.key == "all/003.png"
    assert "600 x 600 px needs" in failure.reason
    assert failure.source_sha256 is None  # more memory may help: a later run tries it again


def test_large_images_pass_one_at_a_time_and_small_ones_go_on(bench, monkeypatch):
    monkeypatch.setattr(worker, "LARGE_PIXELS", 1000)
    bench.draw(1, size=(24, 40))
    bench.draw(1, start=1, size=(64, 96))
    for path in (bench.folder / "all").iterdir():
        path.write_bytes(path.read_bytes()[:-20])  # the header is whole, the pixels are not: no store is needed
    config = bench.config()
    keeping = Keeping(rule=Rule(0.9), evidence=("none",), thresholds=(0.9,))
    labeler = worker.LabelWorker(
        worker.WorkerSpec(
            data=config.data, teacher=config.teacher, store=config.store, keeping=keeping, devices=("cpu",)
        )
    )
    small, large = (
        Task(image=ImageRef(key=name, image=f"all/{name}"), run_id="run") for name in ("000.png", "001.png")
    )
    with ThreadPoolExecutor(1) as pool:
        with labeler._large_ones:
            waiting = pool.submit(labeler.label, large)
            assert "truncated" in labeler.label(small).reason
            assert wait([waiting], 0.2).not_done == {waiting}
        assert "truncated" in waiting.result(10).reason
    labeler.close()
