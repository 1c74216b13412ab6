"""Golden arrays of the panoptic parts by name; `golden/panoptic/README.md` says where they come from."""

import csv
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden" / "panoptic"
WHOLE_SET = Path(__file__).parents[3] / "shared" / "reference" / "axial"
CASES = json.loads((GOLDEN / "cases.json").read_text())
THINGS = tuple(range(11, 19))


@cache
def _arrays():
    files = (WHOLE_SET / "golden_public.npz", WHOLE_SET / "golden_post_public.npz")
    chosen = dict(np.load(GOLDEN / "arrays.npz"))
    return chosen | {name: array for file in files if file.exists() for name, array in np.load(file).items()}


def golden(name):
    """The array called `name`; the test skips where only the whole set has it."""
    if name not in _arrays():
        pytest.skip(f"{name} is not among the arrays in tests/labelers/golden/panoptic; the whole set has it")
    return _arrays()[name]


def golden_tensor(name):
    return torch.from_numpy(golden(name).copy())


def decoder_state():
    """Published state dict of the decoder: key -> tensor, in its order, batch counts left out."""
    with (GOLDEN / "decoder.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["key"]: formula_tensor(**row) for row in rows}


def formula_tensor(key, shape, rule, scale, **_):
    """The tensor of the golden model under a published key: noise seeded by the key."""
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    noise = draw.standard_normal([int(n) for n in shape.split("x")])
    value = {
        "normal": noise,
        "tenth": 0.1 * noise,
        "one_plus": 1 + 0.1 * noise,
        "one_plus_abs": 1 + 0.1 * np.abs(noise),
    }[rule]
    return torch.from_numpy((value * float(scale)).astype(np.float32))
