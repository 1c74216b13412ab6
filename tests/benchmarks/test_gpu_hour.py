"""The report of what a GPU says, on a CPU at small sizes, and what becomes of a section that fails."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_hour(monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_hour

    return gpu_hour


@pytest.mark.slow
def test_on_a_cpu_it_measures_small_sizes_and_writes_one_report(gpu_hour, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_hour.py", "--device", "cpu", "--output", str(tmp_path / "hour")])
    assert gpu_hour.main() == 0, capsys.readouterr().out
    found = json.loads((tmp_path / "hour.json").read_text())
    assert list(found) == ["machine", "pass", "run", "batches", "axial", "training"]
    assert found["machine"]["missing"] == []
    assert [row["precision"] for row in found["pass"]["rows"]] == ["fp32", "bf16"]
    assert all(row["seconds"] > 0 for row in found["pass"]["rows"])
    assert [row["scale"] for row in found["pass"]["trunk"]] == [0.5, 1.0, 2.0]
    assert any("conv" in row["name"] for row in found["pass"]["kernels"]["rows"])
    assert found["run"]["run_per_s"] > 0
    assert {row["batch"]: row["same_labels"] for row in found["batches"]["rows"]} == dict.fromkeys((1, 2, 4, 8, 16), 1)
    assert {row["attention"] for row in found["axial"]["rows"]} == {"plain"}
    assert [row["batch"] for row in found["training"]["rows"]] == [1, 2]
    page = (tmp_path / "hour.md").read_text()
    assert "## training: ok" in page
    assert "| bf16 | False |" in page


def test_a_section_that_fails_is_in_the_report_and_the_rest_goes_on(gpu_hour, monkeypatch, tmp_path, capsys):
    def broken(device, size):
        raise gpu_hour.sections.SectionFailed("1 of 2 | tests failed", {"rows": [{"test": "a"}, {"test": "b"}]})

    monkeypatch.setitem(gpu_hour.SECTIONS, "broken", (broken, 5, True))
    found = gpu_hour.measure(["broken", "machine"], gpu_hour.torch.device("cpu"), str(tmp_path / "new" / "hour"))
    assert [figures["ok"] for figures in found.values()] == [False, True]
    page = (tmp_path / "new" / "hour.md").read_text()
    assert "## broken: FAILED" in page
    assert "1 of 2 | tests failed" in page
    assert "| b |" in page
    assert capsys.readouterr().out.startswith("broken: FAILED")


@pytest.mark.parametrize(
    ("code", "seconds", "error"),
    [
        ("import sys; sys.exit('CUDA error: unspecified launch failure')", 60, "(1): CUDA error: unspecified launch"),
        ("import os, time; os.fork(); time.sleep(600)", 1, "(stopped after 1 s)"),
    ],
)
def test_a_process_that_dies_or_hangs_costs_its_section_alone(gpu_hour, tmp_path, code, seconds, error):
    found = gpu_hour.in_own_process([sys.executable, "-c", code], tmp_path / "answer.json", seconds)
    assert not found["ok"]
    assert error in found["error"]


def test_what_a_process_answers_counts(gpu_hour, tmp_path):
    answer = tmp_path / "answer.json"
    code = f"open({str(answer)!r}, 'w').write('{{\"ok\": true}}')"
    assert gpu_hour.in_own_process([sys.executable, "-c", code], answer, 60) == {"ok": True}


def test_an_unknown_section_is_answered_with_those_that_there_are(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu_hour.py"), "--device", "cpu", "--only", "pas"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert "no section pas; there are machine, pass, run, batches, axial, training, tests" in done.stderr


def test_the_list_of_wheels_lacks_nothing_that_one_of_them_needs():
    lines = (BENCHMARKS / "gpu_wheels.txt").read_text().splitlines()
    carried = {line for line in lines if not line.startswith("#")}
    needed = set()
    for name in carried:
        for line in importlib.metadata.distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed.add(re.sub(r"[-_.]+", "-", requirement.name).lower())
    assert needed - carried - {"numpy"} == set()
