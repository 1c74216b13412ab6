"""Teachers of the user's own on the command line: what is wrong with one is one line and exit code 2."""

import hashlib
import itertools
import json
import re
import sys

import pytest

from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake_arguments
from tests.own_teacher import own_teacher

NUMBERS = itertools.count()
HEAD = """
import torch
from hmsa_label import CITYSCAPES, ClassTable, TopClass
class T:
    classes = CITYSCAPES
    def __init__(self, weights, device, **options):
        pass
"""
LOGITS = "torch.zeros(images.shape[0], 19, *images.shape[1:3])"


def predicting(result: str, attributes: str = "") -> str:
    return f"{HEAD}    {attributes}\n    def predict(self, images):\n        return {result}\n"


@pytest.fixture
def run(call, street_images, tmp_path, monkeypatch):
    """`run(source, *options)` labels one image with the class `T` of a module in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(source, *options, name="T"):
        module = f"own_{next(NUMBERS)}"
        (tmp_path / f"{module}.py").write_text(source)
        args = ["--data", street_images, "--store", tmp_path / "labels", "--executor", "local", "--workers", 1]
        return call("run", *args, "--limit", 1, "--device", "cpu", "--weights", "none", "--teacher",
                    f"{module}:{name}", *options)  # fmt: skip

    return run


def refused(result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def test_teacher_in_a_file_of_the_current_folder_labels(run):
    result = run(predicting(LOGITS))
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_package\nclass T: ...", "its module own_\\d+ needs 'no_such_package'; install it"),
        ("1 / 0", "own_\\d+:T cannot be imported: ZeroDivisionError: division by zero"),
        ("class Other: ...", "own_\\d+ has no 'T'; its classes are Other"),
        ("T = 3", "T must be a class with a method predict"),
        ("class T:\n    def __init__(self, weights, device): ...", "T must be a class with a method predict"),
        (
            "class T:\n    def __init__(self, weights, device): raise RuntimeError('no file')\n"
            "    def predict(self, images): ...",
            "T cannot be made: RuntimeError: no file",
        ),
        (predicting(LOGITS, "classes = ['road']"), "its attribute classes must be a ClassTable; it is a list"),
        (predicting(LOGITS, "gives = 'scores'"), "gives must be one of logits, probabilities, top1"),
        (predicting(LOGITS, "identity = staticmethod(lambda options: {'model': 1})"), "has 'model' in its identity"),
    ],
)
def test_teacher_that_cannot_be_made_is_refused(run, source, said):
    line = refused(run(source))
    assert re.search(said, line), line


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (predicting("None"), "a tensor [1, 19, 32, 64] of logits; it gave a NoneType"),
        (
            predicting("torch.zeros(1, 21, *images.shape[1:3])"),
            "a tensor [1, 19, 32, 64] of float logits, for its 19 classes; it gave [1, 21, 32, 64] float32",
        ),
        (predicting("torch.zeros(1, 19, 16, 32)"), "it gave [1, 19, 16, 32] float32"),
        (predicting("torch.zeros(1, 19, 32, 64, dtype=torch.int64)"), "it gave [1, 19, 32, 64] int64"),
        (
            predicting("torch.ones(1, 19, 32, 64)", "gives = 'probabilities'"),
            "sum to 1 over the classes (or say gives = 'logits'); the least is 1, the sums lie between 19 and 19",
        ),
        (predicting(LOGITS, "gives = 'top1'"), "a TopClass of two tensors [1, 32, 64]; it gave a Tensor"),
        (
            predicting("TopClass(torch.full((1, 32, 64), 19), torch.ones(1, 32, 64))", "gives = 'top1'"),
            "trainIds from 0 to 18; it gave 19 to 19",
        ),
        (
            predicting("TopClass(torch.zeros(1, 32, 64).long(), torch.full((1, 32, 64), 7.0))", "gives = 'top1'"),
            "confidence from 0 to 1; it gave 7 to 7",
        ),
    ],
)
def test_prediction_of_another_form_ends_the_run(run, source, said):
    line = refused(run(source))
    assert "T: predict must give " in line
    assert said in line


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (predicting(f"{LOGITS} / 0"), "the network gave NaN or infinite logits"),
        (predicting(f"{LOGITS} / 0", "gives = 'probabilities'"), "the network gave NaN or infinite probabilities"),
        (
            HEAD + "    def predict(self, images):\n        from hmsa_label import CannotLabel\n"
            "        raise CannotLabel('the image is too small')\n",
            "the image is too small",
        ),
        (
            HEAD + "    def predict(self, images):\n        raise RuntimeError('CUDA out of memory')\n",
            "an image of 32 x 64 px ran out of memory (CUDA out of memory)",
        ),
    ],
)
def test_image_that_it_cannot_label_is_named_and_passed_over(run, source, reason):
    result = run(source)
    assert result.exit_code in (1, 2)  # of NaN alone, all images are to blame on the teacher
    assert reason in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scales", "1.0"], "--scales is an option of the teacher hmsa, and own_"),
        (["--no-flip"], "--flip is an option of the teacher hmsa"),
        (["--fusion", "max"], "--fusion is an option of the teacher hmsa"),
        (["--precision", "bf16"], "this teacher computes in fp32, not in bf16; leave --precision away"),
        (["--max-memory", 1], "keeps to no limit of memory; leave --max-memory away"),
        (["--teacher-options", "width"], "is not a list of names and values such as tiles=4,mode=fast"),
        (
            ["--teacher", "hmas"],
            "unknown teacher 'hmas'; known are axial_deeplab, hmsa, or a class of your own as my_module:MyTeacher",
        ),
        (["--teacher", "nowhere:T"], "no module 'nowhere' for the teacher nowhere:T; it is looked for among installed"),
        (["--teacher", "hmsa"], "the teacher hmsa needs a checkpoint; give it with --weights"),
    ],
)
def test_options_that_do_not_belong_to_it_are_refused(run, options, said):
    assert said in refused(run(predicting(LOGITS), *options))


def test_options_of_another_teacher_are_refused_for_hmsa(call, street_images, tmp_path):
    args = ["--data", street_images, "--store", tmp_path / "labels", "--weights", "w.pth", "--teacher-options", "a=1"]
    line = refused(call("run", *args))
    assert "--teacher-options are for a teacher of your own; those of hmsa are --scales, --flip, --fusion" in line


def test_constructor_that_does_not_know_an_option_is_named(run):
    source = predicting(LOGITS).replace(", **options", "")
    line = refused(run(source, "--teacher-options", "width=3"))
    assert "T cannot be made: TypeError" in line
    assert "width" in line


def test_record_holds_the_class_its_source_and_its_options(call_json, street_images, tmp_path, monkeypatch):
    config = own_teacher(tmp_path, monkeypatch, "recorded_teacher")
    summary = call_json("run", "--data", street_images, "--store", tmp_path / "labels", "--executor", "local",
                        "--workers", 1, "--device", "cpu", "--weights", config.weights, "--teacher", config.teacher,
                        "--teacher-options", "width=4")  # fmt: skip
    store = LabelStore.open(summary["store"])
    record = read_run(store.root, store.commit.run).record
    source = hashlib.sha256((tmp_path / "recorded_teacher.py").read_bytes()).hexdigest()
    weights = hashlib.sha256((tmp_path / "unet.pt").read_bytes()).hexdigest()
    assert record["settings"]["teacher"] == {"class": "recorded_teacher:MyTeacher", "source_sha256": source}
    assert record["settings"]["options"] == {"width": 4}
    assert record["settings"]["teacher_sha256"] == weights
    assert record["config"]["teacher"]["options"] == {"width": 4}
    assert not {"scales", "flip", "fusion"} & {*record["settings"], *record["config"]["teacher"]}


def test_other_code_or_options_are_another_teacher_to_the_store(call, call_json, street_images, tmp_path, monkeypatch):
    where = ["--data", street_images, "--store", tmp_path / "labels", "--executor", "local", "--workers", 1]
    call_json("run", *where, *fake_arguments())
    again = call_json("run", *where, *fake_arguments(ms=1))  # which changes no label
    assert again["images_labelled"] == 0
    assert "options: {'seed': 0} there, {'seed': 1} here" in refused(call("run", *where, *fake_arguments(seed=1)))
    config = own_teacher(tmp_path, monkeypatch, "another_teacher")
    line = refused(call("run", *where, "--weights", config.weights, "--teacher", config.teacher, "--device", "cpu"))
    assert "holds labels made with other settings" in line


def test_settings_file_names_a_teacher_and_its_options(call, street_images, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "weights: none\nteacher: tests.fake_teacher:FakeTeacher\nteacher-options:\n  start: fail\n"
    )
    args = ["--data", street_images, "--store", tmp_path / "labels", "--executor", "local", "--device", "cpu"]
    assert "it was asked not to start" in refused(call("run", *args, "--config", tmp_path / "run.yaml"))


def test_evaluate_and_explain_take_a_teacher_of_the_users(call, call_json, street_images, tmp_path, monkeypatch):
    config = own_teacher(tmp_path, monkeypatch, "scored_teacher")
    teacher = ["--weights", config.weights, "--teacher", config.teacher, "--teacher-options", "width=4"]
    assert 0 <= call_json("evaluate", "--data", street_images, *teacher)["miou"] <= 1
    image = next(street_images.rglob("*_leftImg8bit.png"))
    explained = call_json("explain", image, *teacher, "--output", tmp_path / "explained.png")
    assert (explained["shares"], explained["agreement"]) == ({}, {})
    told = call("explain", image, *teacher, "--output", tmp_path / "explained.png")
    assert told.stdout.startswith("mean confidence")  # no empty table before
    assert explained["teacher"]["options"] == {"width": 4}
    assert json.dumps(explained["teacher"]["teacher"]).count("scored_teacher:MyTeacher") == 1
