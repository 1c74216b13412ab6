"""`compare` and `audit trace`: tiny students through the whole commands."""

import shutil

import pytest

from hmsa_label.stores.versions.label_store import LabelStore

TINY = ("--model", "hrnet_tiny_ocr", "--max-steps", 1, "--batch-size", 2, "--crop", "32x64", "--loss", "ce",
        "--low-scale", "none", "--device", "cpu", "--cpu-threads", 1, "--class-uniform", 0)  # fmt: skip


@pytest.fixture
def street(labeled_tree, tmp_path):
    """A tree with a store `labels` in it, and no coarse labels."""
    shutil.copytree(labeled_tree, tmp_path / "street")
    return tmp_path / "street"


def compared(street):
    return ("compare", "--data", street, "--store", street / "labels", "--output", street / "compared",
            "--seeds", "0,1", "--resamples", 100, *TINY)  # fmt: skip


def test_comparison_prints_arms_and_their_difference_and_each_student_can_be_traced(call, call_json, street):
    found = call_json(*compared(street))
    keys = {"page", "arms", "seeds", "steps", "miou", "iou", "differences", "cost", "labels", "students"}
    assert set(found) >= keys
    assert (found["arms"], found["seeds"], found["steps"]) == (["fine", "auto"], [0, 1], 1)
    assert (street / "compared/compare.html").exists()
    table = call(*compared(street))
    assert "auto - fine" in table.stdout
    assert f"{found['miou']['auto']['mean']:.4f}" in table.stdout
    auto = next(entry for entry in found["students"] if entry["arm"] == "auto")
    chain = call_json("audit", "trace", auto["checkpoint"])
    keys = {"student", "version", "digest", "store", "threshold", "teacher_sha256", "teacher_trained_on", "ok"}
    assert set(chain) >= keys | {"problems"}
    assert (chain["ok"], chain["problems"]) == (True, [])
    assert chain["digest"] == LabelStore.open(str(street / "labels")).digest == found["labels"]["digest"]


def test_broken_chain_is_named_and_the_exit_code_is_1(call, call_json, street):
    found = call_json(*compared(street), "--arms", "auto", "--seeds", 3)
    checkpoint = found["students"][0]["checkpoint"]
    whole = call("audit", "trace", checkpoint)
    assert whole.exit_code == 0
    assert "not checked" in whole.stdout  # the fake teacher has no weights file
    next((street / "labels/runs").glob("*.json")).unlink()
    broken = call("audit", "trace", checkpoint)
    assert broken.exit_code == 1
    assert "broken" in broken.stdout.splitlines()[-1]
    chain = call_json("audit", "trace", checkpoint, exit_code=1)
    assert {problem["part"] for problem in chain["problems"]} == {"labels", "run"}


def test_unknown_arm_is_one_line(call, street):
    result = call(*compared(street), "--arms", "fine,pseudo")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "fine, coarse, auto" in result.stderr
