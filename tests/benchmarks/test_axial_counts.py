"""The benchmark that counts multiply-adds: its figures against the paper's, and its rule on a network by hand."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from hmsa_label.labelers.axial_deeplab.models import build_axial_deeplab
from hmsa_label.labelers.layers.axial_attention import AttentionSettings, AxialAttention

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def axial_counts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import axial_counts

    return axial_counts


def test_multiply_adds_are_within_three_percent_of_the_paper(axial_counts: ModuleType) -> None:
    found = axial_counts.counts(lambda: build_axial_deeplab("axial_deeplab_s", 19), (1025, 2049))
    assert found.multiply_adds == pytest.approx(220.8e9, rel=0.03)


def test_layer_counts_what_its_products_multiply(axial_counts: ModuleType) -> None:
    settings = AttentionSettings(span=5)
    # a parent, as the layer is replaced in it
    found = axial_counts.counts(lambda: nn.Sequential(nn.Conv2d(3, 16, 1), _layer(settings)), (6, 3))
    pixels, keys, heads, key_depth, value_depth = 18, 5, 8, 2, 4
    projections = pixels * (3 * 16 + 16 * 64)
    assert found.multiply_adds == projections + pixels * keys * heads * (3 * key_depth + 2 * value_depth + 3)
    assert found.parameters == 3 * 16 + 16 + sum(parameter.numel() for parameter in _layer(settings).parameters())


def _layer(settings: AttentionSettings) -> nn.Module:
    with torch.device("meta"):
        return AxialAttention(16, 32, "height", settings)
