"""Golden arrays of axial attention by name; `golden/axial/README.md` says where they come from."""

import csv
import gzip
import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden" / "axial"
WHOLE_SET = Path(__file__).parents[3] / "shared" / "reference" / "axial" / "golden_public.npz"
CASES = json.loads((GOLDEN / "cases.json").read_text())
TOLERANCE = 2e-5  # what the public code's float32 differs from float64 is below 1e-5


@cache
def _arrays():
    chosen = dict(np.load(GOLDEN / "arrays.npz"))
    return chosen | (dict(np.load(WHOLE_SET)) if WHOLE_SET.exists() else {})


def golden(name):
    """The array called `name`, as a tensor; the test skips where only the whole set has it."""
    if name not in _arrays():
        pytest.skip(f"{name} is not among the arrays in tests/labelers/golden/axial; the whole set has it")
    return torch.from_numpy(_arrays()[name].copy())


def formula_tensor(key, shape, rule, scale):
    """The tensor of the golden model under a published key: noise seeded by the key."""
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    noise = draw.standard_normal(shape)
    value = {
        "normal": noise,
        "tenth": 0.1 * noise,
        "one_plus": 1 + 0.1 * noise,
        "one_plus_abs": 1 + 0.1 * np.abs(noise),
        "index": noise,
    }[rule]
    return torch.from_numpy((value * scale).astype(np.float32))


@cache
def _rows():
    with gzip.open(GOLDEN / "state_dict.tsv.gz", "rt") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def published_state(prefix):
    """Published state dict of one case: key without the prefix -> tensor."""
    return {
        row["key"].removeprefix(prefix): formula_tensor(
            row["key"], [int(n) for n in row["shape"].split("x")], row["rule"], float(row["scale"])
        )
        for row in _rows()
        if row["key"].startswith(prefix)
    }


def assert_golden(ours, name):
    """Holds that a tensor is the golden array of this name."""
    np.testing.assert_allclose(ours.detach().numpy(), golden(name).numpy(), rtol=0, atol=TOLERANCE)
