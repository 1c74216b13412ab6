"""Weights on disk: our files, the published layout, and what is refused."""

import io
import os

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.weights.checkpoints import (
    WeightsMismatch,
    decode_checkpoint,
    encode_checkpoint,
    from_published_key,
    load_strict,
    read_published,
    to_published_key,
)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_labeler("hrnet_tiny_ocr", 5)


def published(net, **changes):
    """A file in the published layout with the network's tensors."""
    state = {f"module.{to_published_key(key)}": value for key, value in net.state_dict().items()}
    content = {"epoch": 3, "mean_iu": np.float64(0.8), "optimizer": {"lr": 0.1}, "state_dict": state, **changes}
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_our_file_gives_back_tensors_and_info(tiny):
    tensors, info = decode_checkpoint(encode_checkpoint(tiny, {"model": "hrnet_tiny_ocr", "step": 3}))
    assert info == {"model": "hrnet_tiny_ocr", "step": 3}
    assert all(torch.equal(tensors[key], value) for key, value in tiny.state_dict().items())
    assert tensors.keys() == tiny.state_dict().keys()


def test_a_foreign_file_is_refused():
    with pytest.raises(ValueError, match="not a safetensors checkpoint of hmsa-label"):
        decode_checkpoint(b"no weights at all")


def test_published_layout_loads_with_numpy_scalars_beside_it(tiny):
    other = build_labeler("hrnet_tiny_ocr", 5)
    load_strict(other, read_published(published(tiny)))
    assert all(torch.equal(other.state_dict()[key], value) for key, value in tiny.state_dict().items())


def test_every_key_has_a_published_name_and_back(tiny):
    for key in tiny.state_dict():
        assert from_published_key("module." + to_published_key(key)) == key


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("hrnet_w48_ocr", "state_dict.tsv"),
        ("deeplabv3plus_r50", "state_dict_r50_hier.tsv"),
        ("deeplabv3plus_r50_explicit", "state_dict_r50_expl_bn.tsv"),
        ("deeplabv3plus_r50_explicit_plain", "state_dict_r50_expl.tsv"),
    ],
)
def test_key_table_covers_the_published_list(golden, name, table):
    with torch.device("meta"):
        own = build_labeler(name, 19).state_dict()
    names = {f"module.{to_published_key(key)}": tuple(value.shape) for key, value in own.items()}
    assert names == golden.shapes(table)
    assert all(from_published_key(to_published_key(key)) == key for key in own)


def test_renamed_and_reshaped_keys_are_named(tiny):
    state = read_published(published(tiny))
    state["head.class_head.wait"] = state.pop("head.class_head.weight")
    state["trunk.conv1.weight"] = torch.zeros(1, 2, 3)
    before = tiny.trunk.conv2.weight.clone()
    with pytest.raises(WeightsMismatch) as caught:
        load_strict(tiny, state)
    message = str(caught.value)
    assert "1 missing (head.class_head.weight)" in message
    assert "1 unexpected (head.class_head.wait)" in message
    assert "trunk.conv1.weight (1, 2, 3) instead of (8, 3, 3, 3)" in message
    assert torch.equal(tiny.trunk.conv2.weight, before)


class _Harmful:
    def __reduce__(self):
        return os.system, ("echo harm",)


def test_a_file_that_needs_arbitrary_pickle_is_refused(tiny):
    with pytest.raises(ValueError, match="safe loader refuses"):
        read_published(published(tiny, extra=_Harmful()))


def test_a_file_without_a_state_dict_is_refused():
    file = io.BytesIO()
    torch.save({"state_dict": {"a": 1}}, file)
    with pytest.raises(ValueError, match="no state dict of tensors: under 'a' lies a int"):
        read_published(file.getvalue())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tiny, value):
    state = tiny.state_dict()
    state["head.class_head.weight"] = torch.full_like(state["head.class_head.weight"], value)
    with pytest.raises(WeightsMismatch, match=r"head\.class_head\.weight holds NaN or infinite values"):
        load_strict(tiny, state)


def test_half_precision_weights_that_fit_are_widened(tiny):
    state = {key: value.half() if value.is_floating_point() else value for key, value in tiny.state_dict().items()}
    other = build_labeler("hrnet_tiny_ocr", 5)
    load_strict(other, state)
    assert other.trunk.conv1.weight.dtype == torch.float32
    assert torch.equal(other.trunk.conv1.weight, state["trunk.conv1.weight"].float())


def test_counts_of_batches_may_be_missing_and_nothing_else(tiny):
    state = {key: value for key, value in tiny.state_dict().items() if not key.endswith("num_batches_tracked")}
    other = build_labeler("hrnet_tiny_ocr", 5)
    load_strict(other, state)
    assert torch.equal(other.trunk.conv1.weight, tiny.trunk.conv1.weight)
    del state["trunk.bn1.running_mean"]
    with pytest.raises(WeightsMismatch, match=r"1 missing \(trunk\.bn1\.running_mean\)"):
        load_strict(other, state)


def test_the_reason_stays_short_whatever_the_file_says():
    header = b'{"x": {"dtype": "' + b"y" * 5000 + b'", "shape": [1], "data_offsets": [0, 4]}}'
    with pytest.raises(ValueError, match="not a safetensors checkpoint of hmsa-label") as caught:
        decode_checkpoint(len(header).to_bytes(8, "little") + header + bytes(4))
    assert len(str(caught.value)) < 300
