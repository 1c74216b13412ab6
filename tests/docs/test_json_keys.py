"""The page of JSON keys names every key that a command prints, and none that it does not."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner

from hmsa_label.cli.main import main
from tests.docs.pages import ROOT
from tests.docs.session import Session

IMAGE = "train_extra/birkenau/birkenau_000000_000000"
TEACHER = "--weights teacher/best.safetensors --scales 0.5,1.0"
PANOPTIC = '--weights none --teacher tests.fake_teacher:FakeTeacher --teacher-options {"instances":true}'
# Heading of the page -> calls, in an order in which each finds what it needs.
CALLS = {
    "run, rethreshold, import": [
        f"run --data streets {TEACHER} --store labels",
        "rethreshold --store labels --threshold 0.5",
        "import streets/gtCoarse --label-files {name}_gtCoarse_labelIds.png --data streets --store imported",
    ],
    "evaluate": [f"evaluate --data streets --split val {teacher}" for teacher in (TEACHER, PANOPTIC)],
    "calibrate": [f"calibrate --data streets {TEACHER} --target-precision 0.9 --resamples 100 --output calibrated"],
    "explain": [f"explain photos/drive1/0001.jpg {TEACHER} --output explained.png"],
    "train-teacher, train-student, train-trunk": ["train-teacher --data streets --output second"],
    "compare": ["compare --data streets --store labels --output compared --seeds 0 --resamples 100"],
    "runs": ["runs --store labels"],
    "status": ["status --store labels"],
    "export": ["export --store labels exported"],
    "audit log": ["audit log --store labels"],
    "audit show": ["audit show --store labels", f"audit show --store labels {IMAGE}"],
    "audit verify": ["audit verify --store labels"],
    "audit diff": ["audit diff --store labels 3 5"],
    "audit card": ["audit card --store labels"],
    "audit trace": ["audit trace student/last.safetensors"],
    "audit tag": ["audit tag --store labels first"],
    "audit rollback": ["audit rollback --store labels 3"],
    "audit gc": ["audit gc --store labels"],
}


def documented() -> dict[str, set[str]]:
    """Heading -> keys in the first columns of the tables below it."""
    _, *sections = re.split(r"^### ", (ROOT / "docs/reference/json.md").read_text(), flags=re.MULTILINE)
    rows = {part.partition("\n")[0]: re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for part in sections}
    return {heading: {key for row in found for key in re.findall(r"`(\w+)`", row)} for heading, found in rows.items()}


def test_every_heading_has_a_call():
    assert set(documented()) == set(CALLS)


@pytest.mark.slow
def test_page_names_the_keys_that_commands_print(given, tmp_path, monkeypatch):
    for name in ("student", "photos"):
        shutil.copytree(given(name), tmp_path, dirs_exist_ok=True)
    Session(tmp_path, monkeypatch)  # goes there, with settings for seconds
    printed = {heading: set().union(*map(keys, calls)) for heading, calls in CALLS.items()}
    assert printed == documented()


def keys(call: str) -> set[str]:
    """Keys of the object that a call prints."""
    result = CliRunner().invoke(main, [*call.split(), "--json"])
    assert result.exit_code == 0, result.output
    return set(json.loads(result.stdout))
