"""The labeler `axial_deeplab`: what it gives, in how much memory, and what it says where it cannot."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.axial_deeplab.labeler.options import AxialDeepLabOptions, post_processing
from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.base import Part
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.errors import NonFiniteLogits
from hmsa_label.pipeline.teacher.forms import check
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.source import BadImage

GRID, RULE = np.asarray(grid_with(0.5), np.float32), Rule(0.5)


def save(path, net, model, classes=CITYSCAPES, **info):
    told = {"model": model, "classes": classes.to_dict(), "trained_on": None, **info}
    path.write_bytes(encode_checkpoint(net, told))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network that sees things: its classes depend on the image, its heat map has peaks."""
    torch.manual_seed(0)
    net = build_axial_deeplab("axial_deeplab_tiny", 19)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(1.0)
                module.momentum = None  # the mean over what it sees now
        for _ in range(4):
            net(torch.randn(2, 3, 64, 96))
        net.head.semantic_head[-1].weight.normal_(std=1.0)
        net.head.center_head[-1].weight.normal_(std=1.0)
    return save(tmp_path_factory.mktemp("weights") / "panoptic.safetensors", net, "axial_deeplab_tiny")


@pytest.fixture(scope="module")
def config(weights):
    return TeacherConfig(weights=weights, teacher="axial_deeplab", device="cpu")


@pytest.fixture
def images():
    return list(np.random.default_rng(3).integers(0, 256, (2, 75, 97, 3), np.uint8))


def test_what_it_gives_keeps_to_the_form_that_strangers_are_held_to(config, images):
    teacher = Teacher(replace(config, options={"scales": (0.5, 1.0), "flip": True}))
    batch = torch.from_numpy(np.stack(images))

    def all_parts(parts: Iterator[Part], cut: str | None) -> int:
        found = list(parts)
        for part in found:
            check(part, "panoptic", CITYSCAPES, (75, 97))
        return sum(len(listed) for part in found for listed in part.values.instances)

    with torch.inference_mode():
        assert teacher._labeler.in_parts(batch, all_parts) > 0


def test_image_gets_the_same_bits_in_any_batch(config, images):
    teacher = Teacher(config)
    together = teacher.label([image.copy() for image in images], GRID, RULE, True)
    for image, labeled in zip(images, together, strict=True):
        (alone,) = teacher.label([image.copy()], GRID, RULE, True)
        assert alone.instances == labeled.instances
        for name, pixels in alone.arrays.items():
            np.testing.assert_array_equal(pixels, labeled.arrays[name])


def test_scales_and_mirror_image_change_the_labels_and_the_identity(config, images):
    plain = Teacher(config)
    for options in ({"scales": (0.5, 1.0)}, {"flip": True}):
        other = Teacher(replace(config, options=options))
        assert other.info["settings"] != plain.info["settings"]
        assert (other.predict(images[0]).confidence != plain.predict(images[0]).confidence).any()
    turned = Teacher(replace(config, options={"scales": (1.0, 0.5)})).info["settings"]
    assert turned == Teacher(replace(config, options={"scales": (0.5, 1.0)})).info["settings"]


def test_views_are_the_classes_of_each_scale(config, images):
    assert Teacher(config).explain(images[0]).parts == []
    found = Teacher(replace(config, options={"scales": (0.5, 1.0)})).explain(images[0])
    assert [(part.name, float(part.share.mean())) for part in found.parts] == [("0.5", 0.5), ("1", 0.5)]
    assert found.instance is not None
    assert len(found.instances) == found.instance.max()


def test_views_of_fused_teachers_are_the_classes_of_both(config, images, tmp_path):
    torch.manual_seed(1)
    net = build_labeler("hrnet_tiny_ocr", 19)
    other = save(tmp_path / "hmsa.safetensors", net, "hrnet_tiny_ocr", multi_scale=True)
    fused = Teacher(replace(config, semantic_from=other, semantic_settings={"scales": [1.0]}))
    found = fused.explain(images[0])
    assert [(part.name, float(part.share.mean())) for part in found.parts] == [("own", 0.0), ("other", 1.0)]
    stuff = found.instance == 0
    labeled = stuff & (found.top1 != 255)
    np.testing.assert_array_equal(found.top1[labeled], found.parts[1].top1[labeled])


def test_classes_may_be_those_of_both_teachers_by_a_share(config, images, tmp_path):
    torch.manual_seed(1)
    net = build_labeler("hrnet_tiny_ocr", 19)
    other = save(tmp_path / "hmsa.safetensors", net, "hrnet_tiny_ocr", multi_scale=True)
    fused = replace(config, semantic_from=other, semantic_settings={"scales": [1.0]})
    batch = torch.from_numpy(images[0][None])

    def probabilities(teacher):
        return teacher._labeler._passes.maps(batch).probabilities

    with torch.inference_mode():
        own, theirs = probabilities(Teacher(config)), probabilities(Teacher(fused))
        third = probabilities(Teacher(replace(fused, options={"semantic_share": 1 / 3})))
    torch.testing.assert_close(third, own * 2 / 3 + theirs / 3)
    assert (own - theirs).abs().max() > 0.1


def test_kernel_of_attention_is_refused_without_a_gpu(config):
    with pytest.raises(ValueError, match="attention=kernel needs a CUDA device; got cpu; use attention=plain"):
        Teacher(replace(config, options={"attention": "kernel"}))


def test_areas_of_stuff_are_those_published_for_their_images_or_as_asked():
    assert post_processing(AxialDeepLabOptions(), (1024, 2048)).stuff_area_px == 2048
    assert post_processing(AxialDeepLabOptions(), (192, 384)).stuff_area_px == 72
    assert post_processing(AxialDeepLabOptions(stuff_area=64), (192, 384)).stuff_area_px == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "--scales must be distinct and positive"),
        ({"center_kernel": 8}, "must be odd; got 8 px"),
        ({"most_centers": 0}, "the most centers that are kept must be 1 to 999; got 0"),
        ({"stuff_area": -1}, "cannot be negative; got -1"),
        ({"semantic_share": 0.0}, "semantic_share must be above 0 and at most 1; got 0"),
        ({"attention": "fast"}, "attention must be one of plain, kernel; got 'fast'"),
        ({"center_floor": 1.0}, "center_floor must be at least 0 and below 1"),
        ({"scales": 1.0}, r"option scales of the teacher axial_deeplab must be a list of numbers.*; got 1\.0"),
        ({"scales": ("half",)}, "option scales .* must be a list of numbers"),
        ({"flip": 1}, "option flip .* must be true or false; got 1"),
        ({"center_floor": "high"}, "option center_floor .* must be a number; got 'high'"),
        ({"most_centers": 10.5}, "option most_centers .* must be a whole number; got 10.5"),
        ({"stuff_area": "1%"}, "option stuff_area .* must be a whole number or null; got '1%'"),
        ({"fusion": "max"}, "the teacher axial_deeplab has no option 'fusion'; known are scales, flip"),
    ],
)
def test_options_out_of_their_range_are_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        replace(config, options=options)


def test_image_that_does_not_fit_is_told_with_both_figures_and_the_ways_out(config, images):
    tight = Teacher(replace(config, max_memory_gb=0.001))
    told = r"75 x 97 px needs \d+ MiB, and 1 MiB are allowed; it cannot be cut .* raise --max-memory"
    with pytest.raises(BadImage, match=told):
        tight.predict(images[0])


def test_memory_of_an_image_is_told_from_its_size_and_grows_in_proportion(config):
    room = Teacher(replace(config, options={"scales": (0.5, 1.0)}))._labeler._room
    small, large = room.peak_bytes((256, 512)), room.peak_bytes((512, 1024))
    assert small * 3.5 < large < small * 4.5


def test_network_that_gives_no_numbers_is_told_with_its_precision(weights, tmp_path, images):
    net = build_axial_deeplab("axial_deeplab_tiny", 19)
    net.head.offset_head[-1].bias.data.fill_(3e38)  # brought to the size of the image it is infinite
    broken = save(tmp_path / "broken.safetensors", net, "axial_deeplab_tiny")
    teacher = Teacher(TeacherConfig(weights=broken, teacher="axial_deeplab", device="cpu"))
    with pytest.raises(NonFiniteLogits, match="gave NaN or infinite offsets in fp32; its weights are no good"):
        teacher.predict(images[0])


def test_weights_of_another_labeler_say_which_teacher_reads_them(weights, tmp_path):
    hmsa = save(tmp_path / "hmsa.safetensors", build_labeler("hrnet_tiny_ocr", 19), "hrnet_tiny_ocr", multi_scale=True)
    with pytest.raises(ValueError, match=r"model axial_deeplab_tiny, .* add --teacher axial_deeplab"):
        Teacher(TeacherConfig(weights=weights, device="cpu"))
    with pytest.raises(ValueError, match=r"model hrnet_tiny_ocr, .* add --teacher hmsa"):
        Teacher(TeacherConfig(weights=hmsa, teacher="axial_deeplab", device="cpu"))


def test_classes_without_things_are_refused(tmp_path):
    flat = replace(CITYSCAPES, things=())
    path = save(
        tmp_path / "flat.safetensors", build_axial_deeplab("axial_deeplab_tiny", 19), "axial_deeplab_tiny", flat
    )
    with pytest.raises(ValueError, match="its class table 'cityscapes' names no things"):
        Teacher(TeacherConfig(weights=path, teacher="axial_deeplab", device="cpu"))


def test_keys_of_its_training_are_told(tmp_path):
    drawn = {"data": "d", "split": "train", "labels": "gtFine", "images": 1, "keys": ["train/a"], "keys_sha256": "0"}
    net = build_axial_deeplab("axial_deeplab_tiny", 19)
    path = save(tmp_path / "net.safetensors", net, "axial_deeplab_tiny", trained_on=drawn)
    teacher = Teacher(TeacherConfig(weights=path, teacher="axial_deeplab", device="cpu"))
    assert teacher.trained_on == {"train/a"}
    assert teacher.info["trained_on"]["split"] == "train"


@pytest.mark.parametrize("flip", [False, True])
def test_each_pass_is_a_view_before_merging_and_labels_stay_the_same(config, images, flip):
    made = Teacher(replace(config, options={"scales": (0.5, 1.0), "flip": flip}))
    assert made.info["views"] == (4 if flip else 2)
    plain, told = made.label(images, GRID, RULE, True), made.label(images, GRID, RULE, True, disagreement=True)
    passes, batch = made._labeler._passes, torch.from_numpy(np.stack(images))
    with torch.inference_mode():
        alone = [passes._averaged(batch, (scale,), flip=False).probabilities.argmax(1) for scale in (0.5, 1.0)]
        if flip:
            mirrored = batch.flip(2)
            alone += [
                passes._averaged(mirrored, (scale,), flip=False).probabilities.argmax(1).flip(2) for scale in (0.5, 1.0)
            ]
    views = torch.stack(alone).numpy()
    for index, (before, one) in enumerate(zip(plain, told, strict=True)):
        assert all(np.array_equal(one.arrays[name], before.arrays[name]) for name in before.arrays)
        assert one.instances == before.instances
        np.testing.assert_array_equal(one.arrays["disagreement"], (views[:, index] != one.arrays["top1"]).sum(0))
    void = np.concatenate([one.arrays["disagreement"][one.arrays["top1"] == 255] for one in told])
    assert (void == made.info["views"]).all()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_other_teacher_is_one_view_more(config, images, share, tmp_path):
    torch.manual_seed(3)
    other = save(tmp_path / "hmsa.safetensors", build_labeler("hrnet_tiny_ocr", 19), "hrnet_tiny_ocr", multi_scale=True)
    look = {"scales": [1.0]}
    both = replace(config, semantic_from=other, semantic_settings=look, options={"semantic_share": share})
    made = Teacher(both)
    assert made.info["views"] == 2
    told = made.label(images, GRID, RULE, True, disagreement=True)
    for one, before in zip(told, made.label(images, GRID, RULE, True), strict=True):
        assert all(np.array_equal(one.arrays[name], before.arrays[name]) for name in before.arrays)
    batch = torch.from_numpy(np.stack(images))
    semantic = made._semantics.probabilities(batch).argmax(1).numpy()
    own = Teacher(config)._labeler._passes.maps(batch).probabilities.argmax(1).numpy()
    for index, one in enumerate(told):
        top1 = one.arrays["top1"]
        expected = (semantic[index] != top1).astype(int) + (own[index] != top1)
        assert (one.arrays["disagreement"] == expected).mean() > 0.999
