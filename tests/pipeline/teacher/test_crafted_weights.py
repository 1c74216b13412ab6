"""Weights files that are not what they should be: each is refused in words that are true, and with no other error."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.networks import load_start, read_network

CLASSES = CITYSCAPES.to_dict()
INFO = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": CLASSES, "trained_on": None}
FINE = {"data": "/d", "split": "train", "labels": "fine", "images": 1, "keys": ["a"], "keys_sha256": "0"}


def own(info=INFO, **tensors):
    """A checkpoint of ours with one tensor."""
    text = info if isinstance(info, str) else json.dumps(info)
    return save(tensors or {"a": torch.zeros(2)}, {"format": "pt", "hmsa_label": text})


def info(**changes):
    return own({**INFO, **changes})


def without(name):
    return own({key: value for key, value in INFO.items() if key != name})


def classes(**changes):
    return info(classes={**CLASSES, **changes})


def pth(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def head(*shape):
    return pth({"state_dict": {"module.ocr.cls_head.weight": torch.zeros(()).expand(shape)}})


def zipped(entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def compressed(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return zipped({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_DEFLATED)


def damaged(data):
    """The pickle inside a torch.save file with bytes turned over."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    return zipped({**entries, name: entries[name][:10] + b"\xff\xfe\xfd" + entries[name][13:]})


def header(text, data=b""):
    return struct.pack("<Q", len(text)) + text + data


class _WantsList:
    def __reduce__(self):
        return eval, ("[1]",)


class _NumpyObject:
    """Asks numpy for a scalar that holds any object."""

    def __reduce__(self):
        return np._core.multiarray.scalar, (np.dtype("O"), {"a": 1})


WHOLE = pth({"state_dict": {"module.ocr.cls_head.weight": torch.zeros(19, 512, 1, 1)}})
LEGACY = pth({"state_dict": {"a": torch.zeros(4000)}}, _use_new_zipfile_serialization=False)
HTML = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
SPARSE = torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)
TENSOR = torch.zeros(2)

FILES = {
    "empty": ("a.pth", b"", "is empty"),
    "one byte": ("a.pth", b"\x80", "neither a safetensors nor a torch.save file.* 1 bytes"),
    "noise": ("a.pth", bytes(range(7, 250)), "neither a safetensors nor a torch.save file"),
    "zeros": ("a.safetensors", bytes(4096), "neither a safetensors nor a torch.save file"),
    "web page": ("a.pth", HTML, "it is a web page"),
    "web page called safetensors": ("a.safetensors", HTML, "it is a web page"),
    "error of a storage": ("a.pth", b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is an XML document"),
    "git lfs pointer": ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
    "json": ("a.safetensors", b'{"error": "not found"}', "is JSON text"),
    "gzip": ("a.pth", gzip.compress(WHOLE), "is a gzip archive; unpack"),
    "picture": ("a.pth", b"\x89PNG\r\n\x1a\n" + bytes(64), "is a PNG image"),
    "tar": ("a.tar", bytes(257) + b"ustar" + bytes(250), "is a tar archive"),
    "zip of a file": (
        "a.pth",
        zipped({"turtle.pth": WHOLE}),
        r"zip archive that torch\.save did not write.*turtle\.pth",
    ),
    "numpy arrays": ("a.pth", zipped({"w.npy": b"x"}), r"torch\.save did not write \(it holds w\.npy\)"),
    "script": ("a.pt", zipped({"a/data.pkl": b"", "a/constants.pkl": b""}), "is a TorchScript program"),
    "compressed": ("a.pth", compressed(WHOLE), "is a compressed zip archive"),
    "cut zip": ("a.pth", WHOLE[: len(WHOLE) // 2], "is cut short: .* bytes came"),
    "cut zip at its end": ("a.pth", WHOLE[:-10], "is cut short"),
    "cut old format": ("a.pth", LEGACY[:-2000], "is cut short: its end is missing"),
    "cut old format early": ("a.pth", LEGACY[:40], "is cut short: its end is missing"),
    "cut safetensors": ("a.safetensors", own(a=torch.zeros(500))[:-100], "is cut short: .* are needed"),
    "cut safetensors in its header": ("a.safetensors", own()[:60], "is cut short"),
    "damaged pickle": ("a.pth", damaged(WHOLE), "safe loader refuses it: .*damaged"),
    "plain pickle": ("a.pth", pickle.dumps({"a": 1}, 2), r"a pickle that torch\.save did not write"),
    "safetensors called pth": ("a.pth", own(), r"is a safetensors file, .* rename it to end in \.safetensors"),
    "torch.save called safetensors": ("a.safetensors", WHOLE, r"is a torch\.save file, .* rename it to end in \.pth"),
    "code": ("a.pth", pth({"state_dict": {}, "x": _WantsList()}), "safe loader refuses it: it wants eval"),
    "numpy object": ("a.pth", pth({"state_dict": {}, "x": _NumpyObject()}), "a numpy value of type 'O8'"),
    "numpy array": ("a.pth", pth({"state_dict": {}, "x": np.zeros(2)}), "it wants numpy._core.multiarray._reconstruct"),
    "a list": ("a.pth", pth([TENSOR]), "holds a list where a state dict"),
    "a tensor": ("a.pth", pth(TENSOR), "holds a Tensor where a state dict"),
    "state dict of numbers": ("a.pth", pth({"state_dict": {"a": 1.5}}), "under 'a' lies a float"),
    "state dict that is none": ("a.pth", pth({"state_dict": None}), "holds a NoneType"),
    "empty state dict": ("a.pth", pth({"state_dict": OrderedDict()}), "holds an empty state dict"),
    "numbers as keys": ("a.pth", pth({"state_dict": {1: TENSOR}}), "under '1' lies a Tensor"),
    "sparse tensor": ("a.pth", pth({"state_dict": {"a": SPARSE}}), "'a' is sparse, quantized or without values"),
    "tensor without values": ("a.pth", pth({"a": torch.zeros(2, device="meta")}), "without values"),
    "a key twice": ("a.pth", pth({"a": TENSOR, "module.a": TENSOR}), "holds 'module.a' twice"),
    "another network": ("a.pth", pth({"state_dict": {"conv.weight": TENSOR}}), "has no class head"),
    "head without a shape": ("a.pth", head(), r"shape \(\); expected \(K, 512, 1, 1\)"),
    "head of a million classes": ("a.pth", head(10**6, 512, 1, 1), "K from 1 to 253"),
    "head of no class": ("a.pth", head(0, 512, 1, 1), "K from 1 to 253"),
    "safetensors of others": ("a.safetensors", save({"a": TENSOR}, {"format": "pt"}), "no hmsa_label.*it has format"),
    "safetensors without metadata": ("a.safetensors", save({"a": TENSOR}), "no hmsa_label.*it has nothing"),
    "header that is a list": ("a.safetensors", header(b"{[]}"), "not a safetensors checkpoint"),
    "metadata that is no json": ("a.safetensors", own("{"), "hmsa_label is no JSON"),
    "metadata that is a list": ("a.safetensors", own("[1]"), "a JSON list; expected an object"),
    "metadata of great depth": ("a.safetensors", own("[" * 10**5), "hmsa_label is no JSON"),
    "no model": ("a.safetensors", without("model"), "has none for model; expected one of"),
    "unknown model": ("a.safetensors", info(model="unet"), "says 'unet' for model; expected one of"),
    "model that is a list": ("a.safetensors", info(model=["a"]), r"says \['a'\] for model"),
    "no multi_scale": ("a.safetensors", without("multi_scale"), "has none for multi_scale; expected true or false"),
    "no trained_on": ("a.safetensors", without("trained_on"), "has none for trained_on"),
    "trained_on a number": ("a.safetensors", info(trained_on=3), "says 3 for trained_on; expected an object"),
    "trained_on half": ("a.safetensors", info(trained_on={"data": "/d"}), "has none for trained_on.split"),
    "keys that are none": ("a.safetensors", info(trained_on={**FINE, "keys": 1}), r"says 1 for trained_on\.keys"),
    "auto labels": ("a.safetensors", info(auto_labels={"store": 3}), r"says 3 for auto_labels\.store; expected str"),
    "no classes": ("a.safetensors", without("classes"), "a class table must be an object"),
    "classes without names": ("a.safetensors", classes(names=None), "'names' must be a list of strings; got None"),
    "too few colors": ("a.safetensors", classes(colours=[[0, 0, 0]]), "must be equally many"),
    "color that is a word": ("a.safetensors", classes(colours=["red"] * 19), r"'colours' must be a list of \[red"),
    "raw id too large": ("a.safetensors", classes(raw_ids=[*range(18), 300]), r"must lie in 0\.\.255"),
    "wrong tensors": ("a.safetensors", own(), r"do not fit the network: \d+ missing .* 1 unexpected \(a\)"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_is_refused_in_words_that_are_true(name):
    source, data, message = FILES[name]
    with pytest.raises(ValueError, match=rf"(?s)^cannot use the weights .*{source}: .*{message}"):
        read_network(data, source)


@pytest.mark.parametrize("name", FILES)
def test_training_does_not_start_from_it_either(name):
    source, data, _ = FILES[name]
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=rf"^cannot (use the weights|start from) .*{source}: "):
        load_start(build_labeler("hrnet_tiny_ocr", 19), data, source)
