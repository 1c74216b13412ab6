"""Golden arrays of the published architecture: weights and inputs are rebuilt from a formula, nothing is downloaded.

A choice of them lies in `golden/` (its README says where they come from); the whole set is used where it lies beside
the checkout.
"""

import csv
import gzip
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.weights.checkpoints import from_published_key, load_strict

GOLDEN = Path(__file__).parent / "golden"
WHOLE_SET = Path(__file__).parents[3] / "shared" / "reference" / "hmsa" / "golden_public.npz"
WEIGHT_OFFSET = 4
GAINS = (  # batch-norm scales and final convolutions whose spread keeps activations sane
    (r"(branches\.\d\.\d\.bn2|layer\d\.\d\.bn3)\.weight$", 0.3),
    (r"fuse_layers", 0.5),
    (r"f_object\.3\.0", 2.0),
)
CONV_GAINS = ((r"(cls_head|final\.6)\.weight$", 5.0), (r"(aux_head\.2|scale_attn\.conv2|scale_attn\.6)\.weight$", 2.5))


def _gain(table, key):
    return next((gain for pattern, gain in table if re.search(pattern, key)), 1.0)


def golden_tensor(key, shape):
    """The tensor of the golden model under the published `key` (with or without `module.`)."""
    key = key.removeprefix("module.")
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    seed = (zlib.crc32(key.encode()) + WEIGHT_OFFSET) % 2**32
    noise = np.random.RandomState(seed).standard_normal(shape)
    if key.endswith("running_var"):
        value = 1.0 + 0.1 * np.abs(noise)
    elif key.endswith(("running_mean", "bias")):
        value = 0.1 * noise
    elif len(shape) == 1:
        value = _gain(GAINS, key) * (1.0 + 0.1 * noise)
    else:
        noise = noise - noise.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        value = _gain(CONV_GAINS, key) * noise * np.sqrt(2.0 / np.prod(shape[1:]))
    return torch.from_numpy(value.astype(np.float32))


def golden_shapes(table):
    """Shapes of one of the `.tsv` tables by published key (with `module.`)."""
    with gzip.open(GOLDEN / f"{table}.gz", "rt") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["key"]: tuple(int(n) for n in row["shape"].split(",") if n) for row in rows}


def golden_state(table):
    """Published state dict of one of the `.tsv` tables: key (with `module.`) -> tensor."""
    return {key: golden_tensor(key, shape) for key, shape in golden_shapes(table).items()}


def golden_image(seed, count, height, width):
    """[N, H, W, 3] uint8: blocks of 16 px with noise."""
    random = np.random.RandomState(seed)
    blocks = random.randint(0, 256, (count, -(-height // 16), -(-width // 16), 3))
    blocks = blocks.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    return np.clip(blocks + random.randint(-40, 41, (count, height, width, 3)), 0, 255).astype(np.uint8)


def golden_labels(seed, count, height, width, num_classes=19, ignore=255, block=8):
    """[N, H, W] int64: blocks of one class with a tenth of the pixels ignored."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, num_classes, (count, -(-height // block), -(-width // block)))
    labels = labels.repeat(block, 1).repeat(block, 2)[:, :height, :width].copy()
    labels[random.random_sample((count, height, width)) < 0.1] = ignore
    return torch.from_numpy(labels.astype(np.int64))


def golden_logits(seed, count, classes, height, width):
    """[N, K, H, W] float32."""
    noise = np.random.RandomState(seed).standard_normal((count, classes, height, width))
    return torch.from_numpy((3.0 * noise).astype(np.float32))


def _remember(forward):
    """`forward` that sees no batch twice: the golden cases share most of their scaled inputs."""
    seen = {}

    def remembered(x, *, aux=False, attention=False):
        if not torch.is_inference_mode_enabled():
            return forward(x, aux=aux, attention=attention)
        key = (tuple(x.shape), zlib.crc32(x.contiguous().numpy().tobytes()))
        if key not in seen:
            seen[key] = forward(x, aux=True, attention=True)
        return seen[key]

    return remembered


class Golden:
    """Arrays by name, and the functions that rebuild what they were made from."""

    image, labels, logits = staticmethod(golden_image), staticmethod(golden_labels), staticmethod(golden_logits)
    shapes, state = staticmethod(golden_shapes), staticmethod(golden_state)

    def __init__(self):
        self.chosen = np.load(GOLDEN / "arrays.npz")
        self.arrays = np.load(WHOLE_SET) if WHOLE_SET.exists() else self.chosen

    def __getitem__(self, name):
        if name not in self.arrays:
            pytest.skip(f"{name} is not among the arrays in tests/labelers/golden; the whole set has it")
        return self.arrays[name]

    def net(self, name, table):
        """The network `name` in inference mode with the golden weights of a `.tsv` table."""
        net = build_labeler(name, 19)
        load_strict(net, {from_published_key(key): value for key, value in self.state(table).items()})
        if net.fusion == "hierarchical":
            net.forward = _remember(net.forward)
        return net.eval()


@pytest.fixture(scope="session")
def golden():
    return Golden()


@pytest.fixture(scope="session")
def golden_net(golden):
    """The published network with golden weights, in inference mode."""
    return golden.net("hrnet_w48_ocr", "state_dict.tsv")
