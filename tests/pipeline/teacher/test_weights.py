"""Weights files: the published layout, what is refused and why, and how a training starts from them."""

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint, to_published_key
from hmsa_label.labelers.weights.networks import load_start, read_network
from hmsa_label.pipeline.teacher.weight_files import read_weights


def tiny(num_classes=19, **options):
    return build_labeler("hrnet_tiny_ocr", num_classes, **options)


def own_file(net, num_classes=19):
    classes = {**replace(CITYSCAPES, things=()).to_dict(), "name": "some"}
    for name in ("names", "colours", "raw_ids"):
        classes[name] = classes[name][:num_classes]
    info = {"model": "hrnet_tiny_ocr", "multi_scale": net.attention is not None, "classes": classes}
    return encode_checkpoint(net, {**info, "trained_on": None})


def pth(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def published():
    """A state dict with the keys and shapes of the published Cityscapes model; every value 0.5."""
    with torch.device("meta"):
        own = build_labeler("hrnet_w48_ocr", 19).state_dict()
    # one number stretched over each shape: the file stays small
    return {f"module.{to_published_key(key)}": torch.tensor(0.5).expand(value.shape) for key, value in own.items()}


def published_file(state, **beside):
    return pth(
        {"epoch": 3, "mean_iu": np.float64(0.8), "optimizer": {"lr": np.float32(0.1)}, "state_dict": state, **beside}
    )


def as_numpy_1_wrote_it(data):
    """A torch.save file whose pickle names numpy's function as numpy 1 did; numpy 2 writes the other name."""
    new, old = b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n"
    if not data.startswith(b"PK"):
        assert new in data
        return data.replace(new, old)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as file, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as copy:
        for name in file.namelist():
            content = file.read(name)
            assert not name.endswith("data.pkl") or new in content
            copy.writestr(name, content.replace(new, old))
    return written.getvalue()


@pytest.mark.parametrize(
    ("rewrite", "zipped"),
    [(as_numpy_1_wrote_it, True), (as_numpy_1_wrote_it, False), (lambda data: data, True)],
    ids=["numpy 1, zip", "numpy 1, before torch 1.6", "numpy 2, zip"],
)
def test_published_file_with_numpy_scalars_loads(published, rewrite, zipped):
    content = {"mean_iu": np.float64(0.8), "optimizer": {"lr": np.float32(0.1)}, "state_dict": published}
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    net, classes, info = read_network(rewrite(file.getvalue()), "turtle.pth")
    assert classes is CITYSCAPES
    assert info["model"] == "hrnet_w48_ocr"
    assert net.attention.layers[2].weight.eq(0.5).all()


def test_renamed_key_is_named_as_the_file_spells_it(published):
    state = dict(published)
    state["module.ocr.cls_head.wait"] = state.pop("module.ocr.cls_head.bias")
    with pytest.raises(ValueError, match=r"turtle\.pth.*1 missing \(ocr\.cls_head\.bias\).*ocr\.cls_head\.wait"):
        read_network(published_file(state), "turtle.pth")


def test_changed_shape_is_named_with_both_shapes(published):
    state = {**published, "module.backbone.conv1.weight": torch.zeros(64, 3, 5, 5)}
    with pytest.raises(ValueError, match=r"backbone\.conv1\.weight \(64, 3, 5, 5\) instead of \(64, 3, 3, 3\)"):
        read_network(published_file(state), "turtle.pth")


class _Harmful:
    def __reduce__(self):
        return os.system, ("touch /tmp/harmed",)


def test_malicious_pickle_is_refused_and_what_it_wanted_is_named():
    with pytest.raises(ValueError, match=r"turtle\.pth: .*safe loader refuses.*posix\.system"):
        read_network(published_file({}, extra=_Harmful()), "turtle.pth")
    assert not Path("/tmp/harmed").exists()


def test_empty_and_missing_files_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        read_network(b"", "a.pth")
    with pytest.raises(FileNotFoundError, match="train one with 'hmsa-label train-teacher'"):
        read_weights(str(tmp_path / "none.pth"))


def test_imagenet_trunk_fills_the_trunk_and_leaves_the_heads():
    torch.manual_seed(0)
    donor, net = tiny(), tiny()
    with torch.no_grad():
        for parameter in donor.trunk.parameters():
            parameter.fill_(0.25)
    state = {f"model.{key}": value for key, value in donor.trunk.state_dict().items()}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    state |= {"model.classifier.weight": torch.zeros(1000, 4), "model.incre_modules.0.conv.weight": torch.zeros(1)}
    heads = {key: value.clone() for key, value in net.state_dict().items() if not key.startswith("trunk.")}
    load_start(net, pth(state), "hrnet.pth")
    assert all(parameter.eq(0.25).all() for parameter in net.trunk.parameters())
    assert all(torch.equal(net.state_dict()[key], value) for key, value in heads.items())


def test_imagenet_resnet_in_torchvision_naming_fills_the_trunk():
    net = build_labeler("deeplabv3plus_r50", 5)
    state = net.trunk.state_dict()
    names = {key: key.replace("layer0.0.", "conv1.").replace("layer0.1.", "bn1.") for key in state}
    file = {names[key]: torch.ones_like(value) for key, value in state.items()}
    load_start(net, pth({**file, "fc.weight": torch.zeros(1000, 2048)}), "resnet50.pth")
    assert all(value.eq(1).all() for value in net.trunk.state_dict().values())


def test_imagenet_trunk_with_a_missing_key_is_refused():
    state = tiny().trunk.state_dict()
    state.pop("conv2.weight")
    with pytest.raises(ValueError, match=r"cannot start from hrnet\.pth.*1 missing \(trunk\.conv2\.weight\)"):
        load_start(tiny(), pth(state), "hrnet.pth")


def test_other_classes_need_the_option_that_says_so():
    donor, net = tiny(7), tiny()
    data = own_file(donor, 7)
    with pytest.raises(ValueError, match="knows 7 classes, the training has 19; --new-class-heads"):
        load_start(net, data, "a.safetensors")
    fresh = net.head.class_head.weight.clone()
    load_start(net, data, "a.safetensors", new_class_heads=True)
    assert torch.equal(net.head.class_head.weight, fresh)
    assert torch.equal(net.trunk.conv1.weight, donor.trunk.conv1.weight)
    assert torch.equal(net.attention.layers[2].weight, donor.attention.layers[2].weight)


@pytest.mark.parametrize("has_attention", [True, False])
def test_attention_is_kept_only_where_both_have_it(has_attention):
    donor, net = tiny(multi_scale=has_attention), tiny(multi_scale=not has_attention)
    load_start(net, own_file(donor), "a.safetensors")
    assert torch.equal(net.head.class_head.weight, donor.head.class_head.weight)
