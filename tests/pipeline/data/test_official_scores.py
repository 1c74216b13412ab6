"""Scores against the scripts that Cityscapes publishes, on label files that were exported from a store."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.audit.store import export_labels
from hmsa_label.pipeline.config import DataConfig, EngineConfig, EvaluateConfig, LabelConfig, StoreConfig, TeacherConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.evaluate import evaluate

ABSENT = (31, 32)  # raw ids of train and motorcycle, which no label and no prediction holds


@pytest.fixture
def official():
    """The module that scores pixel-level results; its import and its code warn of what NumPy and Python deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
        yield pytest.importorskip(module, reason="needs cityscapesscripts, which the extra 'test' installs")


@pytest.fixture
def tree(tmp_path):
    """Three validation images of 64x128 px whose labels hold every raw id but two, ignored ones among them."""
    rng = np.random.default_rng(0)
    ids = [number for number in range(34) if number not in ABSENT]
    for number in range(3):
        stem = f"val/town/town_{number:06}_000019"
        labels = rng.choice(ids, (16, 32)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        image = rng.integers(0, 256, (4, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        for path, pixels in (
            (f"leftImg8bit/{stem}_leftImg8bit.png", image),
            (f"gtFine/{stem}_gtFine_labelIds.png", labels),
        ):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / path)
    return tmp_path


@pytest.fixture
def teacher(tmp_path):
    """Random weights that predict many classes, but never those that are absent."""
    torch.manual_seed(0)
    net = build_labeler("hrnet_tiny_ocr", 19, multi_scale=False).eval()
    head, seen = net.head.class_head, []
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 128))
        handle.remove()
        head.weight.normal_(0, 1)
        head.bias.copy_(-(head.weight[:, :, 0, 0] @ seen[0].mean((0, 2, 3))))  # else the mean feature decides alone
        head.bias[[CITYSCAPES.raw_ids.index(raw) for raw in ABSENT]] = -1000.0
    info = {"model": "hrnet_tiny_ocr", "multi_scale": False, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    (tmp_path / "teacher.safetensors").write_bytes(encode_checkpoint(net, info))
    weights = str(tmp_path / "teacher.safetensors")
    return TeacherConfig(
        weights=weights, precision="fp32", device="cpu", options={"scales": (1.0,), "fusion": "single"}
    )


def test_scores_are_those_of_the_official_scripts_on_exported_files(tree, teacher, official, tmp_path):
    data = DataConfig(root=str(tree), split="val")
    scores = evaluate(EvaluateConfig(data=data, teacher=teacher))
    store, engine = str(tmp_path / "labels"), EngineConfig(executor="local", workers=1)
    label_images(LabelConfig(data=data, teacher=teacher, store=store, rule=RuleConfig(threshold=1e-6), engine=engine))
    export_labels(StoreConfig(uri=store), str(tmp_path / "exported"))
    predicted = sorted(map(str, (tmp_path / "exported").rglob("*_labelIds.png")))
    labels = sorted(map(str, (tree / "gtFine/val").rglob("*_labelIds.png")))
    assert len(predicted) == len(labels) == 3
    official.args.evalInstLevelScore, official.args.JSONOutput, official.args.quiet = False, False, True
    expected = official.evaluateImgLists(predicted, labels, official.args)
    assert set(expected["classScores"]) > set(scores.iou)
    for name, value in expected["classScores"].items():  # NaN for the classes that are left out of the evaluation
        assert scores.iou.get(name) == (None if np.isnan(value) else pytest.approx(value, abs=1e-6)), name
    assert scores.miou == pytest.approx(expected["averageScoreClasses"], abs=1e-6)
    assert sum(value is not None and value > 0 for value in scores.iou.values()) > 5
    assert scores.iou["train"] is None
