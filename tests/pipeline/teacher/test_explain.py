"""The picture and the numbers of one image's prediction."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import ExplainConfig, TeacherConfig
from hmsa_label.pipeline.records import Explanation, PredictionPart
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.explain import GAP_PX, TITLE_PX, draw, explain_image
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of a tiny network with hierarchical and one with explicit attention."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("hrnet_tiny_ocr", "hrnet_tiny_ocr_explicit"):
        torch.manual_seed(0)
        info = {"model": name, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
        (folder / f"{name}.safetensors").write_bytes(encode_checkpoint(build_labeler(name, 19), info))
    return folder


@pytest.fixture
def street(tmp_path):
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8))
    return str(path)


def config(weights, tmp_path, name="hrnet_tiny_ocr", **options):
    chosen = TeacherConfig(weights=str(weights / f"{name}.safetensors"), device="cpu", options=options)
    return ExplainConfig(teacher=chosen, output=str(tmp_path / "explained.png"))


@pytest.mark.parametrize("fusion", ["hierarchical", "average", "max"])
def test_shares_of_the_scales_add_up_to_the_result(weights, street, tmp_path, fusion):
    summary = explain_image(street, config(weights, tmp_path, fusion=fusion))
    assert list(summary.shares) == list(summary.agreement) == ["0.5", "1", "2"]
    assert sum(summary.shares.values()) == pytest.approx(1, abs=1e-5)
    assert sum(summary.classes.values()) == pytest.approx(1)
    assert summary.teacher["fusion"] == fusion


def test_one_scale_agrees_with_itself(weights, street, tmp_path):
    summary = explain_image(street, config(weights, tmp_path, scales=(1.0,)))
    assert summary.agreement == {"1": 1.0}
    assert summary.shares == {"1": 1.0}


def test_explicit_attention_is_explained_by_its_weights(weights, street, tmp_path):
    name = "hrnet_tiny_ocr_explicit"
    summary = explain_image(street, config(weights, tmp_path, name, fusion="explicit"))
    assert list(summary.shares) == ["0.5", "1", "2"]


def test_explanation_follows_the_whole_rule(tmp_path, street):
    mask = np.zeros((32, 64), np.uint8)
    mask[-8:] = 1
    cv2.imwrite(str(tmp_path / "hood.png"), mask)
    asked = RuleConfig(threshold=0, ego_mask=tmp_path / "hood.png", border_px="4,0,0,0", polygons="trust")
    explain = ExplainConfig(teacher=fake(), output=str(tmp_path / "e.png"), rule=asked)
    summary = explain_image(street, explain)
    assert summary.kept_share == 20 / 32
    assert (summary.threshold, sorted(summary.rule or {})) == (0.0, ["border_px", "mask", "polygons"])
    assert summary.warnings[-1] == "this is about the image alone: polygons have no say in it"
    labels = cv2.imread(str(tmp_path / "e.png"))[2 * TITLE_PX + 256 + GAP_PX :, 512 + 3 * GAP_PX :][:256, :512]
    white = (labels == 255).all(axis=(1, 2))
    assert np.flatnonzero(white).tolist() == [*range(4 * 8), *range(24 * 8, 32 * 8)]
    with pytest.raises(ValueError, match="--best-share looks at all images of a run"):
        explain_image(street, replace(explain, rule=RuleConfig(best_share=0.5)))


def test_picture_shows_every_map_in_its_place(weights):
    top1 = np.array([[0, 13]], np.uint8).repeat(2, 0)  # road left, car right
    share = np.array([[1.0, 0.0]], np.float32).repeat(2, 0)
    explanation = Explanation(
        parts=[PredictionPart(name="1", title="1x", top1=top1[:, ::-1], share=share)],
        top1=top1,
        confidence=np.array([[0.95, 0.5]], np.float32).repeat(2, 0),
        label=np.array([[0, 255]], np.uint8).repeat(2, 0),
    )
    picture = draw(np.zeros((2, 2, 3), np.uint8), explanation, CITYSCAPES, Rule(0.9))
    column_px, row_px = 512 + 2 * GAP_PX, TITLE_PX + 512 + GAP_PX
    road, car, white, black = CITYSCAPES.colors[0], CITYSCAPES.colors[13], (255,) * 3, (0,) * 3

    def cell(column, row):
        y, x = row * row_px + TITLE_PX + 100, column * column_px + GAP_PX
        return tuple(picture[y, x + 100]), tuple(picture[y, x + 400])

    assert cell(0, 0) == (black, black)
    assert cell(0, 1) == ((242,) * 3, (127,) * 3)
    assert cell(1, 0) == (car, road)
    assert cell(1, 1) == (white, black)
    assert cell(2, 0) == (road, car)
    assert cell(2, 1) == (road, white)


def test_picture_must_be_named_as_png(weights, street, tmp_path):
    chosen = config(weights, tmp_path).teacher
    with pytest.raises(ValueError, match=r"ends in \.png, not .*explained\.jpg"):
        explain_image(street, ExplainConfig(teacher=chosen, output=str(tmp_path / "explained.jpg")))


def test_a_file_that_is_no_image_is_named(weights, tmp_path):
    path = tmp_path / "notes.png"
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read .*notes\.png"):
        explain_image(str(path), config(weights, tmp_path))
