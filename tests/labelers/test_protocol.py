"""What holds of every labeler behind the protocol: of this package, of the guide, of the tests."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.base import LabelerBase
from hmsa_label.labelers.registry import LABELERS, find, identity_of
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake
from tests.own_teacher import own_teacher

GRID = np.asarray(grid_with(0.06), np.float32)
# options that give other labels, by teacher
OTHER_LOOK = {"hmsa": {"flip": True}, "own": {"width": 8}, "fake": {"seed": 1}, "fake panoptic": {"seed": 1}}


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 19)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    (folder / "hmsa.safetensors").write_bytes(encode_checkpoint(net, info))
    hmsa = TeacherConfig(weights=str(folder / "hmsa.safetensors"), device="cpu", options={"scales": (0.5, 1.0)})
    with pytest.MonkeyPatch.context() as patch:
        own = own_teacher(folder, patch, "conforming_teacher")
        yield {"hmsa": hmsa, "own": own, "fake": fake(), "fake panoptic": fake(instances=True)}


@pytest.fixture(params=["hmsa", "own", "fake", "fake panoptic"])
def config(request, configs):
    return configs[request.param]


@pytest.fixture
def images():
    return list(np.random.default_rng(3).integers(0, 256, (2, 48, 64, 3), np.uint8))


def label(teacher, images):
    return teacher.label([image.copy() for image in images], GRID, Rule(0.06), True)


def test_labels_follow_from_the_evidence_and_confidence_is_a_share(config, images):
    teacher = Teacher(config)
    for labeled in label(teacher, images):
        top1, code = labeled.arrays["top1"], labeled.arrays["code"]
        assert labeled.label.shape == top1.shape == code.shape == (48, 64)
        void = teacher.has_instances * teacher.classes.ignore_index
        assert top1[top1 != void].max() < teacher.classes.num_classes
        kept = labeled.label != teacher.classes.ignore_index
        np.testing.assert_array_equal(labeled.label[kept], top1[kept])
        assert 0 <= labeled.mean_confidence <= 1


def test_arg_max_alone_is_that_of_the_labels(config, images):
    teacher = Teacher(config)
    np.testing.assert_array_equal(teacher.top1(images[0]), label(teacher, images[:1])[0].arrays["top1"])


def test_image_has_the_same_labels_alone_and_in_a_batch(config, images):
    teacher = Teacher(config)
    together = label(teacher, images)
    for image, labeled in zip(images, together, strict=True):
        alone = label(teacher, [image])[0]
        # another batch may round a foreign network's sums otherwise
        assert np.mean(alone.label == labeled.label) > 0.999
        assert alone.mean_confidence == pytest.approx(labeled.mean_confidence, rel=1e-5)


def test_images_are_left_as_they_were(config, images):
    before = [image.copy() for image in images]
    Teacher(config).label(images, GRID, Rule(0.06), True)
    np.testing.assert_array_equal(images, before)


def test_provenance_is_json_and_says_what_decides_the_labels(config, images):
    info = Teacher(config).info
    assert json.loads(json.dumps(info)) == info
    settings = info["settings"]
    assert len(settings["teacher_sha256"]) == 64
    assert settings == Teacher(config).info["settings"]
    assert settings.items() >= identity_of(config.teacher, config.options).items()


def test_other_options_that_decide_labels_are_another_identity(request, config):
    name = request.node.callspec.params["config"]
    other = replace(config, options={**config.options, **OTHER_LOOK[name]})
    assert identity_of(other.teacher, other.options) != identity_of(config.teacher, config.options)


def test_explanation_ends_in_the_labels(config, images):
    teacher = Teacher(config)
    explanation = teacher.explain(images[0])
    np.testing.assert_array_equal(explanation.top1, teacher.top1(images[0]))
    assert explanation.confidence.shape == (48, 64)
    names = [part.name for part in explanation.parts]
    assert names == (["0.5", "1"] if config.teacher == "hmsa" else [])


def test_torch_is_left_with_the_threads_it_had(config, images):
    before = torch.get_num_threads()
    label(Teacher(replace(config, cpu_threads=2)), images[:1])
    assert torch.get_num_threads() == before


def test_labeler_of_this_package_asked_for_as_a_class_is_the_same_teacher(configs, images):
    config = configs["hmsa"]
    by_class = replace(config, teacher=LABELERS["hmsa"].labeler)
    assert Teacher(by_class).info["settings"] == Teacher(config).info["settings"]


def test_every_labeler_of_this_package_is_what_its_name_says():
    assert all(issubclass(find(name), LabelerBase) for name in LABELERS)
