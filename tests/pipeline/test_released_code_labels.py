"""The presets `released-code-*` give the hard labels that the reference gives, compared with numbers of its own."""

from pathlib import Path

import numpy as np
import pytest

from hmsa_label.pipeline.rule_presets import PRESETS
from hmsa_label.stores.format.evidence import DEFAULT_GRID, code_of, level_of

GOLDEN = Path(__file__).parent / "golden" / "released_code_labels.npz"
REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "hmsa" / "golden_public.npz"
PARTS = {"released-code-0.5": 128, "released-code-0.9": 230}  # least trunc(255 p) that is kept


def labels(confidence: np.ndarray, classes: np.ndarray, preset: str) -> np.ndarray:
    """What a rethreshold of stored codes gives at the threshold of a preset."""
    level = level_of(PRESETS[preset].rule["threshold"], DEFAULT_GRID)
    return np.where(code_of(confidence, DEFAULT_GRID) >= level, classes, 255)


@pytest.mark.parametrize(("preset", "golden"), [("released-code-0.5", "t05"), ("released-code-0.9", "t09")])
def test_a_preset_keeps_the_pixels_that_the_reference_keeps(preset: str, golden: str) -> None:
    numbers = np.load(GOLDEN)
    near = np.isin(numbers["prob_png"], [PARTS[preset] - 1, PARTS[preset]])
    assert near.sum() > 200  # where another threshold would differ
    assert np.array_equal(labels(numbers["prob"], numbers["pred"], preset), numbers[golden])


@pytest.mark.skipif(not REFERENCE.exists(), reason="the whole arrays of the reference are not here")
@pytest.mark.parametrize(("preset", "golden"), [("released-code-0.5", "t0.5"), ("released-code-0.9", "t0.9")])
def test_a_preset_gives_whole_label_maps_of_the_reference(preset: str, golden: str) -> None:
    arrays = np.load(REFERENCE)
    for case in ("a", "c"):
        prob, pred, expected = (arrays[f"{case}/ms3_flip_{name}"] for name in ("prob", "pred", f"autolabel_{golden}"))
        assert np.array_equal(labels(prob, pred, preset), expected)


@pytest.mark.parametrize("arithmetic", [np.float32, np.float64])
def test_a_part_of_255_as_a_threshold_is_exact_in_either_arithmetic(arithmetic: type) -> None:
    """trunc(255 p) >= k is p >= float32(k / 255): both sides change at the same float32 p, for every k.

    The product grows with p, so the two neighbors of the threshold decide about all others; more are looked at anyway.
    """
    parts = np.arange(1, 256)
    threshold = (parts / 255).astype(np.float32)
    around = threshold.copy()
    for _ in range(4):
        around = np.nextafter(around, np.float32(0))
    for _ in range(9):
        stored = np.trunc(arithmetic(255) * around.astype(arithmetic))
        assert np.array_equal(stored >= parts, around >= threshold)
        around = np.nextafter(around, np.float32(2))


def test_plain_thresholds_would_keep_other_pixels() -> None:
    numbers = np.load(GOLDEN)
    for plain, golden in ((0.5, "t05"), (0.9, "t09")):
        label = np.where(numbers["prob"] >= np.float32(plain), numbers["pred"], 255)
        assert not np.array_equal(label, numbers[golden])
