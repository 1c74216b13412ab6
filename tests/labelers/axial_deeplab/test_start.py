"""Start values: released ImageNet weights, trunks of our own training, whole networks, and what does not fit."""

import io
from dataclasses import replace

import pytest
import torch

from hmsa_label.labelers.axial_deeplab.models import MODELS, build_axial_deeplab, build_classifier
from hmsa_label.labelers.axial_deeplab.net import TrunkClassifier
from hmsa_label.labelers.axial_deeplab.start import load_classifier_start, load_start
from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.labelers.layers.axial_attention import AttentionSettings
from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.labelers.trunks.axial_resnet import AxialResNet
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from tests.labelers.axial_golden import assert_golden, formula_tensor, published_state

THOUSAND = ImageClasses(tuple(f"class {number}" for number in range(1000)))
PETS = ImageClasses(("cat", "dog"))
OTHER = ClassTable("shop", ("shelf", "till"), ((0, 0, 0), (1, 1, 1)), (0, 1))


@pytest.fixture(scope="module")
def released():
    """Bytes of a file as the public code saves its 26-layer classifier."""
    content = io.BytesIO()
    state = {f"module.{key}": value for key, value in published_state("axial26s.").items()}
    torch.save({"epoch": 130, "state_dict": state}, content)
    return content.getvalue()


def trunk_checkpoint(name, classes=PETS):
    torch.manual_seed(1)
    return encode_checkpoint(build_classifier(name, classes.num_classes), {"model": name, "classes": classes.to_dict()})


def network_checkpoint(name, classes=CITYSCAPES):
    torch.manual_seed(2)
    info = {"model": "somebody:Model", "classes": classes.to_dict(), "trained_on": None}
    return encode_checkpoint(build_axial_deeplab(name, classes.num_classes), info)


def changed(before, after):
    return {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}


def start_of(net, data, *, classes=CITYSCAPES, new_class_heads=False):
    """Parts of the state of a network that its start changed."""
    before = {key: value.clone() for key, value in net.state_dict().items()}
    load_start(net, data, "file", classes=classes, new_class_heads=new_class_heads)
    return changed(before, net.state_dict())


@torch.inference_mode()
def test_released_classifier_gives_its_logits_with_our_longer_tables(released):
    numbers = replace(MODELS["axial_deeplab_26s"].trunk, output_stride=32, attention=AttentionSettings())
    net = TrunkClassifier(AxialResNet(numbers), 1000)
    load_classifier_start(net, released, "axial26s.pth", classes=THOUSAND, new_class_heads=False)
    assert_golden(net.eval()(formula_tensor("axial26s.input", (1, 3, 224, 224), "normal", 1.0)), "axial26s.logits")


def test_released_classifier_fills_the_trunk_and_nothing_else(released):
    assert start_of(build_axial_deeplab("axial_deeplab_26s", 19), released) == {"trunk"}


def test_trunk_of_image_classes_fills_the_trunk_of_the_network():
    net = build_axial_deeplab("axial_deeplab_tiny", 19)
    data = trunk_checkpoint("axial_resnet_tiny")
    assert start_of(net, data) == {"trunk"}
    torch.manual_seed(1)
    classifier = build_classifier("axial_resnet_tiny", 2)
    assert all(torch.equal(a, b) for a, b in zip(net.trunk.parameters(), classifier.trunk.parameters(), strict=True))


def test_network_starts_from_a_whole_checkpoint():
    net = build_axial_deeplab("axial_deeplab_tiny", 19)
    assert start_of(net, network_checkpoint("axial_deeplab_tiny")) == {"trunk", "head"}


def test_new_class_heads_keep_all_but_the_layer_that_gives_the_classes():
    net = build_axial_deeplab("axial_deeplab_tiny", 2)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    data = network_checkpoint("axial_deeplab_tiny")
    with pytest.raises(ValueError, match=r"cannot start from file: .*19 classes.*--new-class-heads"):
        load_start(net, data, "file", classes=OTHER, new_class_heads=False)
    load_start(net, data, "file", classes=OTHER, new_class_heads=True)
    after, fresh = net.state_dict(), ["head.semantic_head.1.bias", "head.semantic_head.1.weight"]
    weights = [key for key in before if key.endswith("weight") and before[key].dim() == 4]
    assert [key for key in weights if torch.equal(before[key], after[key])] == fresh[1:]
    assert torch.equal(before[fresh[0]], after[fresh[0]])


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("axial_resnet_tiny", ImageClasses(("cow", "dog")), "it knows 2 classes, the training has 2 of other names"),
        ("axial_resnet_tiny", THOUSAND, "it knows 2 classes, the training has 1000; --new-class-heads"),
        ("conv_resnet_tiny", PETS, "it holds conv_resnet_tiny, the trunk of panoptic_deeplab_tiny: the weights do"),
    ],
)
def test_trunk_that_does_not_fit_is_refused(name, classes, words):
    net = build_classifier("axial_resnet_tiny", classes.num_classes)
    with pytest.raises(ValueError, match=words):
        load_classifier_start(net, trunk_checkpoint(name), "file", classes=classes, new_class_heads=False)


def test_trunk_starts_with_new_classes():
    net = build_classifier("axial_resnet_tiny", 1000)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    data = trunk_checkpoint("axial_resnet_tiny")
    load_classifier_start(net, data, "file", classes=THOUSAND, new_class_heads=True)
    assert changed(before, net.state_dict()) == {"trunk"}


def test_files_of_other_kinds_are_refused(released):
    other = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(2)}, other)
    net = build_axial_deeplab("panoptic_deeplab_tiny", 19)
    for data, words in (
        (b"", "cannot start from file: the file is empty"),
        (other.getvalue(), "not of the released axial classifiers"),
        (released, "it has axial attention, and the network that is trained has none"),
    ):
        with pytest.raises(ValueError, match=words):
            load_start(net, data, "file", classes=CITYSCAPES, new_class_heads=False)
    whole = network_checkpoint("axial_deeplab_tiny")
    with pytest.raises(ValueError, match="it holds a whole network; a trunk starts from one of axial_resnet_26s"):
        load_classifier_start(
            build_classifier("axial_resnet_tiny", 2), whole, "file", classes=PETS, new_class_heads=False
        )


@pytest.mark.parametrize("data", [None, {"names": ["cat", 3]}, {"names": ["cat", "cat"]}, {"names": ["cat"]}])
def test_image_classes_that_make_no_sense_are_refused(data):
    with pytest.raises(ValueError, match="classes"):
        ImageClasses.from_dict(data)
