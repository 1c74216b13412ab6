"""Axial-DeepLab's networks by name: sizes against the paper, any image size, trunks that classifiers share."""

import pytest
import torch

from hmsa_label.labelers.axial_deeplab.models import CLASSIFIERS, MODELS, build_axial_deeplab, build_classifier
from hmsa_label.labelers.axial_deeplab.training.model import AxialDeepLabModel
from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.layers.blocks import ImageDropPath
from hmsa_label.labelers.taxonomy import CITYSCAPES


def size_of(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("axial_deeplab_s", 12.1),
        ("axial_deeplab_m", 25.9),
        ("axial_deeplab_l", 44.9),
        ("axial_deeplab_xl", 173.0),
        ("panoptic_deeplab_r50", 24.8),
    ],
)
def test_network_has_as_many_parameters_as_the_paper_says(name, millions):
    with torch.device("meta"):
        assert size_of(build_axial_deeplab(name, 19)) == pytest.approx(millions * 1e6, rel=0.03)


@pytest.mark.parametrize("name", ["axial_deeplab_tiny", "axial_deeplab_hybrid_s", "panoptic_deeplab_tiny"])
@torch.inference_mode()
def test_maps_are_as_large_as_the_image_whatever_its_size(name):
    net = build_axial_deeplab(name, 5).eval()
    images = torch.randint(0, 256, (2, 37, 66, 3), dtype=torch.uint8)
    x = net.normalize(images)
    maps, coarse = net.full_size(x), net(x)
    assert [tuple(values.shape) for values in maps] == [(2, 5, 37, 66), (2, 1, 37, 66), (2, 2, 37, 66)]
    assert [tuple(values.shape[-2:]) for values in coarse] == [(10, 17)] * 3
    corners = coarse.offset[:, :, 0, 0] * torch.tensor([36 / 9, 65 / 16])
    torch.testing.assert_close(maps.offset[:, :, 0, 0], corners)


@pytest.mark.parametrize(("name", "network"), sorted(CLASSIFIERS.items()))
def test_classifier_has_the_trunk_of_the_network(name, network):
    with torch.device("meta"):
        net, classifier = build_axial_deeplab(network, 19), build_classifier(name, 10)
    shapes = [{key: value.shape for key, value in module.trunk.state_dict().items()} for module in (net, classifier)]
    assert shapes[0] == shapes[1]
    assert classifier.trunk.output_stride == 32


@torch.inference_mode()
def test_classifier_gives_logits_of_each_image():
    classifier = build_classifier("axial_resnet_tiny", 7).eval()
    assert classifier(torch.randn(3, 3, 50, 65)).shape == (3, 7)


def test_every_network_has_a_trunk_of_its_own_name():
    assert sorted(CLASSIFIERS.values()) == sorted(MODELS)
    assert CLASSIFIERS["axial_resnet_s"] == "axial_deeplab_s"
    assert CLASSIFIERS["conv_resnet_r50"] == "panoptic_deeplab_r50"


def test_unknown_network_is_refused():
    with pytest.raises(ValueError, match="unknown trunk 'axial_deeplab_s'; known are axial_resnet_26s"):
        build_classifier("axial_deeplab_s", 5)
    with pytest.raises(ValueError, match="unknown model 'axial'; known are axial_deeplab_26s"):
        build_axial_deeplab("axial", 19)


def test_drop_path_of_a_training_reaches_the_blocks_of_attention():
    net, settings = build_axial_deeplab("axial_deeplab_tiny", 19), PanopticLoss(drop_path=0.4)
    AxialDeepLabModel("axial_deeplab_tiny").objective(net, settings, CITYSCAPES, torch.float32)
    drops = [module.p for module in net.modules() if isinstance(module, ImageDropPath)]
    assert drops == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    with pytest.raises(ValueError, match="--drop-path is a probability from 0 to below 1; got 1"):
        PanopticLoss(drop_path=1)
