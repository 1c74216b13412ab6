"""`run`: from images to a store, with the stand-in teacher and the local executor."""

import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from hmsa_label.cli.commands.label import show_summary
from hmsa_label.pipeline.records import LabelSummary
from tests.fake_teacher import fake_arguments

KEYS = {
    "store", "version", "digest", "images_total", "images_done_before", "images_labelled", "images_failed", "failed",
    "kept_share", "images_per_second", "seconds",
}  # fmt: skip


@pytest.fixture
def asked(street_images, tmp_path):
    """Arguments of a run over the five images of train_extra."""
    return ("run", "--data", street_images, "--store", tmp_path / "labels", *fake_arguments(), "--executor", "local",
            "--workers", 1)  # fmt: skip


def test_run_labels_every_image_once(call_json, asked, tmp_path):
    first = call_json(*asked)
    assert set(first) >= KEYS
    assert (first["images_total"], first["images_labelled"], first["images_failed"]) == (5, 5, 0)
    assert 0 < first["kept_share"] < 1
    again = call_json(*asked)
    assert (again["images_done_before"], again["images_labelled"]) == (5, 0)
    assert again["digest"] == first["digest"]


def test_table_tells_the_same_as_json(call, asked, tmp_path):
    result = call(*asked)
    assert result.exit_code == 0, result.stderr
    assert "5 labeled, 0 failed, 0 done before, of 5" in result.stdout
    assert f"store    {tmp_path / 'labels'}" in result.stdout


def test_share_of_zero_is_shown_as_a_share(capsys):
    counts = {"images_total": 3, "images_done_before": 0, "images_labelled": 3, "images_failed": 0}
    summary = LabelSummary(store="s", version=3, digest="0" * 64, threshold=0.9, kept_share=0.0, **counts)
    with click.Context(click.Command("run")):
        show_summary(summary, as_json=False)
    assert "kept     0.0 % of pixels at threshold 0.9\n" in capsys.readouterr().out


def test_unreadable_image_is_listed_and_ends_with_exit_code_1(call_json, call, asked, street_images):
    broken = street_images / "leftImg8bit/train_extra/town/town_000002_000019_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:100])
    summary = call_json(*asked, exit_code=1)
    assert (summary["images_labelled"], summary["images_failed"]) == (4, 1)
    assert [failure["key"] for failure in summary["failed"]] == ["train_extra/town/town_000002_000019"]
    assert summary["failed"][0]["reason"]
    table = call(*asked)
    assert table.exit_code == 1
    assert "town_000002_000019: " in table.stdout


def test_dry_run_shows_the_plan_and_writes_nothing(call_json, call, asked, tmp_path):
    plan = call_json(*asked, "--dry-run", "--limit", 3)
    assert (plan["images_total"], plan["images_to_do"]) == (3, 3)
    assert not (tmp_path / "labels").exists()
    assert "images" in call(*asked, "-n").stdout
    assert not (tmp_path / "labels").exists()


def test_other_threshold_on_the_same_store_is_refused_with_the_way_out(call, asked):
    assert call(*asked).exit_code == 0
    result = call(*asked, "--threshold", 0.8)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--relabel" in result.stderr or "rethreshold" in result.stderr


def test_relabel_makes_a_new_version(call_json, asked):
    first = call_json(*asked)
    second = call_json(*asked, "--relabel", *fake_arguments(seed=1))
    assert second["images_labelled"] == 5
    assert second["version"] > first["version"]
    assert second["digest"] != first["digest"]


def test_unknown_split_is_one_line(call, asked):
    result = call(*asked, "--split", "tarin")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "train_extra" in result.stderr


@pytest.mark.parametrize(
    ("executor", "number"),
    [
        ("local", signal.SIGINT),
        pytest.param("local", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, marks=[pytest.mark.ray, pytest.mark.slow]),
    ],
)
def test_interrupted_run_ends_with_130_and_its_json_and_is_resumed(asked, call_json, tmp_path, executor, number):
    slow = [*map(str, asked), *fake_arguments(ms=400), "--executor", executor]
    line = [sys.executable, "-c", "from hmsa_label.cli.main import main; main()", *slow, "--threads", "1", "--json"]
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())
    while running.poll() is None and not list((tmp_path / "labels").glob("data/*/receipts/*")):
        time.sleep(0.05)
    running.send_signal(number)
    stdout, stderr = running.communicate(timeout=30)
    assert running.returncode == 130, stderr
    done = json.loads(stdout)["images_labelled"]
    assert 0 < done < 5
    rest = call_json(*asked, *fake_arguments(ms=400))
    assert (rest["images_done_before"], rest["images_labelled"]) == (done, 5 - done)
