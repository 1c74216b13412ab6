"""Where a teacher of the user's own is found, which code it is, and what of it travels."""

import gc
import hashlib
import site
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hmsa_label.labelers.registry import GROUP, find, place_of
from hmsa_label.pipeline.teacher import user_code as module
from hmsa_label.pipeline.teacher.user_code import code_identity, find_teacher, user_code

CLASS = "class T:\n    def predict(self, images): ...\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def test_source_of_one_file_is_told_as_sha256sum_prints_it(folder):
    (folder / "code_of_one_file.py").write_text(CLASS)
    expected = hashlib.sha256(CLASS.encode()).hexdigest()
    assert code_identity("code_of_one_file:T") == {"class": "code_of_one_file:T", "source_sha256": expected}


def test_workers_of_one_process_read_their_teachers_code_at_the_same_time(folder):
    (folder / "code_of_all_workers.py").write_text(CLASS + "x = (1, (2, (3, (4, (5, [6]))))), {7: 8}\n" * 300)
    find_teacher("code_of_all_workers:T")

    def look(depth: int) -> list[str]:  # from as deep as threads differ
        return look(depth - 1) if depth else [code_identity("code_of_all_workers:T")["source_sha256"] for _ in range(5)]

    def pause(*_: object) -> None:
        time.sleep(0)  # another thread goes on

    gc.callbacks.append(pause)
    before = gc.get_threshold()
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert len({digest for part in pool.map(look, (0, 7, 14, 21)) for digest in part}) == 1
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(pause)


def test_package_travels_whole_with_what_it_imports_beside_it_and_nothing_else(folder):
    package = folder / "code_package"
    (package / "parts").mkdir(parents=True)
    (package / "__init__.py").write_text("from code_package.net import T\n")
    (package / "net.py").write_text(f"import torch, os\nfrom code_beside import x\n{CLASS}")
    (package / "parts" / "table.csv").write_text("1,2\n")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "net.pyc").write_text("")
    (package / ".hidden").write_text("")
    (folder / "code_beside.py").write_text("x = 1\ndef later():\n    import code_beside_later\n")
    (folder / "code_beside_later.py").write_text("")
    (folder / "not_imported.py").write_text("")
    code = user_code("code_package:T")
    assert sorted(code.files) == [
        "code_beside.py", "code_beside_later.py", "code_package/__init__.py", "code_package/net.py",
        "code_package/parts/table.csv",
    ]  # fmt: skip
    before = code.sha256
    (folder / "code_beside_later.py").write_text("y = 2\n")
    assert user_code("code_package:T").sha256 != before


def test_package_that_is_too_large_to_travel_is_refused(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    (folder / "code_large").mkdir()
    (folder / "code_large" / "__init__.py").write_text(CLASS)
    (folder / "code_large" / "weights.bin").write_bytes(bytes(2**20))
    with pytest.raises(ValueError, match=r"code_large:T has more than 1 MiB at .*; install it on every host"):
        user_code("code_large:T")


def test_installed_teacher_is_found_by_its_entry_point_and_told_by_its_version(folder, monkeypatch):
    (folder / "code_installed.py").write_text(CLASS)
    info = folder / "code_installed-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: code-installed\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("code_installed\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntold-by-name = code_installed:T\n")
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(folder)])
    assert place_of("told-by-name") == "code_installed:T"
    assert find("told-by-name").__module__ == "code_installed"
    assert user_code("told-by-name") is None
    expected = {"class": "code_installed:T", "distribution": "code-installed", "version": "1.2"}
    assert code_identity("told-by-name") == expected
    with pytest.raises(ValueError, match="unknown teacher 'nameless'; known are axial_deeplab, hmsa, told-by-name"):
        place_of("nameless")


def test_module_of_the_current_folder_hides_no_installed_one(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text(CLASS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="json has no 'T'"):
        find_teacher("json:T")
    assert str(tmp_path) not in sys.path
