"""A teacher in a file of the user's reaches Ray's workers, which run in other folders."""

import sys

import pytest

from hmsa_label.pipeline.config import TeacherConfig
from hmsa_label.stores.runs.record import read_run
from tests.own_teacher import own_teacher

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

TEACHER = """
import ray_teacher_parts.tables as tables
from ray_teacher_beside import top1_of
from hmsa_label import CITYSCAPES
class T:
    classes = CITYSCAPES
    gives = "top1"
    def __init__(self, weights, device):
        self.about = {"files": [__file__, tables.__file__, top1_of.__code__.co_filename]}
    def predict(self, images):
        return top1_of(images)
"""
BESIDE = """
from hmsa_label import TopClass
def top1_of(images):
    return TopClass(images[..., 0] // 16, images[..., 1] / 255)
"""
LACKING = """
if "hmsa-label-teacher-" in __file__:
    import a_package_of_the_driver_alone
class T:
    def predict(self, images): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The driver's folder; its workers were started in another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.slow
def test_guide_s_teacher_labels_the_same_on_ray_and_on_threads(drawn, folder, monkeypatch):
    config = own_teacher(folder, monkeypatch, "ray_teacher_of_the_guide")
    here = drawn.label(config, store=str(folder / "here"), workers=1)
    there = drawn.label(config, executor="ray", workers=1)
    assert (there.images_labelled, there.digest) == (20, here.digest)


def test_workers_get_what_a_teacher_imports_beside_it(drawn, folder):
    (folder / "ray_teacher.py").write_text(TEACHER)
    (folder / "ray_teacher_beside.py").write_text(BESIDE)
    (folder / "ray_teacher_parts").mkdir()
    for name in ("__init__", "tables"):
        (folder / "ray_teacher_parts" / f"{name}.py").write_text("")
    config = TeacherConfig(weights=None, teacher="ray_teacher:T", device="cpu")
    assert drawn.label(config, executor="ray", workers=1).images_labelled == 20
    record = read_run(drawn.open().root, drawn.open().commit.run).record
    files = record["teacher"]["files"]
    assert len(files) == 3
    assert all("hmsa-label-teacher-" in file for file in files)


def test_import_that_fails_on_a_worker_says_what_to_do(drawn, folder):
    (folder / "ray_teacher_lacking.py").write_text(LACKING)
    config = TeacherConfig(weights=None, teacher="ray_teacher_lacking:T", device="cpu")
    with pytest.raises(ValueError, match=r"needs 'a_package_of_the_driver_alone'.*install the rest on every host"):
        drawn.label(config, executor="ray", workers=1)
