"""Batches of a teacher: the labels are those of image by image, and what does not fit goes in smaller batches."""

import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.inference.batches import in_smaller_batches
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.labelers.inference.net import InferenceNet
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.label.forward_thread import ForwardThread
from hmsa_label.pipeline.records import Wanted
from hmsa_label.pipeline.teacher.errors import NonFiniteLogits
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.rule import Rule

GRID = np.array([0.06, 0.08, 0.1, 0.2], np.float32)


def teacher(weights, **options):
    return Teacher(TeacherConfig(weights=weights, device="cpu", **options))


def random_images(count, height, width):
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def trunk_of(made):
    return made._labeler._net.net.trunk


def batches_of(made):
    """Fills with how many images the first convolution of a teacher sees at a time."""
    seen = []
    trunk_of(made).conv1.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return seen


def assert_same(labeled, expected):
    for one, other in zip(labeled, expected, strict=True):
        assert one.arrays.keys() == other.arrays.keys() >= {"top1", "code"}
        assert all(np.array_equal(pixels, other.arrays[name]) for name, pixels in one.arrays.items())
        assert one.mean_confidence == other.mean_confidence


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_labels_of_a_batch_are_those_of_each_image_alone_bit_by_bit(weights, precision):
    made, images = teacher(weights, precision=precision, options={"flip": True}), random_images(4, 48, 80)
    alone = [made.label([image], GRID, Rule(0.08), True)[0] for image in images]
    seen = batches_of(made)
    assert_same(made.label(images, GRID, Rule(0.08), True), alone)
    assert set(seen) == {4}


def test_a_batch_that_takes_more_than_is_allowed_goes_in_smaller_ones(weights):
    images, look = random_images(16, 64, 128), {"precision": "bf16", "options": {"scales": (1.0,)}}
    alone = teacher(weights, **look).label(images, GRID, Rule(0.08), True)
    # the tiny network takes 0.023 GB for 256 x 256 px, 0.028 GB for twice as many, which all sixteen have
    tight = teacher(weights, **look, max_memory_gb=0.026)
    seen = batches_of(tight)
    assert_same(tight.label(images, GRID, Rule(0.08), True), alone)
    assert 4 <= max(seen) < 16
    assert sum(seen) == 16


def test_no_more_images_wait_for_each_other_on_a_cpu_than_go_through_the_trunk_together(weights):
    room = teacher(weights, options={"scales": (0.5, 1.0)})._labeler._room
    assert [room.images_at_once(size_px, 8) for size_px in ((128, 256), (256, 512), (512, 1024))] == [8, 2, 1]


def test_images_that_have_to_be_cut_go_one_by_one(weights):
    images = random_images(2, 600, 600)
    tight = teacher(weights, options={"scales": (1.0,)}, max_memory_gb=0.024)
    seen = batches_of(tight)
    labeled = tight.label(images, GRID, Rule(0.08), True)
    assert all(part.tiles for part in labeled)
    assert set(seen) == {1}
    assert_same(labeled, [tight.label([image], GRID, Rule(0.08), True)[0] for image in images])


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_fits(weights):
    made, images = teacher(weights, options={"scales": (1.0,)}), random_images(5, 48, 80)
    alone = [made.label([image], GRID, Rule(0.08), True)[0] for image in images]
    seen = batches_of(made)

    def tight(module, inputs):
        if len(inputs[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    trunk_of(made).conv1.register_forward_pre_hook(tight)
    assert_same(made.label(images, GRID, Rule(0.08), True), alone)
    assert seen == [5, 2, 1, 1, 1, 1, 1]


def test_tensors_of_a_failed_batch_are_gone_before_the_next_try():
    """As on a GPU: the error would keep them alive as long as somebody holds it."""
    held, alive = [], []

    def together(images):
        pass_over = torch.zeros(4)
        held.append(weakref.ref(pass_over))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def free():
        assert sys.exc_info() == (None, None, None)
        alive.append(held[-1]() is not None)

    assert in_smaller_batches(8, together, lambda: "alone", free) == "alone"
    assert alive == [False] * 3


def test_other_errors_of_a_batch_are_raised_at_once():
    tried = []

    def together(images):
        tried.append(images)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        in_smaller_batches(8, together, lambda: None, lambda: None)
    assert tried == [8]


def test_a_batch_takes_no_more_memory_than_its_plan():
    """Which is that of one image of all its pixels; counted with all images in the trunk at a time, as on a GPU."""
    net = InferenceNet(build_labeler("hrnet_tiny_ocr", 19).eval(), torch.device("meta"), torch.bfloat16)

    def peak(size_px, count=1):
        net._images_at_once = lambda size_px: count
        images = torch.empty(count, *size_px, 3, dtype=torch.uint8, device="meta")
        with torch.inference_mode(), LiveBytes() as tensors:
            for logits in net.fused(images, (1.0,), "single", True):
                for _ in logits.blocks():
                    pass
        return tensors.peak

    for count, (height, width) in ((8, (64, 96)), (2, (256, 256)), (3, (300, 500))):
        assert peak((height, width), count) <= 1.01 * peak((count * height, width))


def test_of_a_batch_only_the_image_without_finite_logits_fails(weights):
    """The first image is held in its pass until the three others wait, so that they share a batch."""
    made, images = teacher(weights, options={"scales": (1.0,)}), random_images(4, 48, 80)
    images[2][:] = 255
    wanted = Wanted(thresholds=GRID)
    alone = [made.evidence([image], wanted)[0] for image in images]
    sizes, begun, go_on = [], threading.Event(), threading.Event()

    def spoil(module, inputs, output):
        sizes.append(len(output))
        begun.set()
        assert go_on.wait(30)
        output[inputs[0].mean((1, 2, 3)) > 2] = torch.inf

    trunk_of(made).conv1.register_forward_hook(spoil)
    forward = ForwardThread(lambda: made, wanted, 3)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(forward.label, images[0])]
        assert begun.wait(30)
        answers += [pool.submit(forward.label, image) for image in images[1:]]
        ends = time.monotonic() + 30
        while forward._queue.qsize() < 3 and time.monotonic() < ends:
            time.sleep(0.001)
        go_on.set()
        assert isinstance(answers.pop(2).exception(30), NonFiniteLogits)
        assert_same([answer.result(30)[0] for answer in answers], [alone[0], alone[1], alone[3]])
    assert sizes == [1, 3, 1, 1, 1]
    forward.close()
