"""The exit code of the real command, as a process of its own, when it ends in other ways than by coming to its end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.config import StoreConfig
from hmsa_label.pipeline.monitor.run_states import run_status
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake_arguments

PROGRAM = "from hmsa_label.cli.main import main; main()"
HANGING = (4, 5, 6)
HANGS = fake_arguments(hang="4,5,6")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., list[str]]:
    """`run(*fake_arguments())`: the line that labels five images here, of which the last one may hang."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8)
        pixels[0, 0] = HANGING if number == 4 else 0
        Image.fromarray(pixels).save(folder / f"{number}.png")
    where = ["--data", tmp_path, "--dataset", "folder", "--split", "images", "--store", tmp_path / "labels"]

    def line(*options: Any) -> list[str]:
        words = [sys.executable, "-c", PROGRAM, "run", *where, *options]
        return [str(word) for word in words]

    return line


def local(*options: Any) -> tuple[Any, ...]:
    return ("--executor", "local", "--workers", 1, "--threads", 1, *options)


def start(line: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_receipts(running: "subprocess.Popen[str]", store: Path, count: int) -> None:
    while len(list(store.glob("data/*/receipts/*"))) < count:
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)


def stop(running: "subprocess.Popen[str]", number: int) -> None:
    """Sends a signal, and waits until the run has said that it stops."""
    running.send_signal(number)
    assert running.stderr is not None
    while "stopping after the" not in running.stderr.readline():
        assert running.poll() is None


# A thread as a run has them, which never leaves torch, and a command that ends beside it.
BESIDE_A_BUSY_THREAD = """
import threading, torch
from hmsa_label.cli.main import main
def multiply():
    while True:
        torch.mm(matrix, matrix)
        begun.set()
matrix, begun = torch.ones(400, 400), threading.Event()
threading.Thread(target=multiply, daemon=True, name="hmsa-label forward").start()
begun.wait()
main()
"""


@pytest.mark.parametrize(("arguments", "expected"), [(["--version"], 0), (["run"], 2)])
def test_code_is_the_commands_own_though_a_thread_of_a_run_stays_in_torch(arguments, expected):
    line = [sys.executable, "-c", BESIDE_A_BUSY_THREAD, *arguments]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert ended.returncode == expected, ended.stderr


def test_second_signal_leaves_at_once_though_an_image_hangs(run, tmp_path):
    running = start(run(*local(*HANGS)))
    wait_for_receipts(running, tmp_path / "labels", 4)
    stop(running, signal.SIGINT)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr


def test_local_run_with_an_image_that_hangs_ends_with_2_and_keeps_the_others(run, tmp_path):
    running = start(run(*local(*HANGS, "--item-timeout", 2)))
    stdout, stderr = running.communicate(timeout=120)
    assert (running.returncode, stdout) == (2, "")
    assert "Error: worker 0 gave no result for 2 s (working on images/4.png)" in stderr
    assert len(list((tmp_path / "labels").glob("data/*/receipts/*"))) == 4


RAY_ENDS = """
from hmsa_label.pipeline.engine import ray_watch
ray_watch.HEAD_SECONDS = 5
from hmsa_label.cli.main import main
main()
"""
HEAD_LOST = "Error: the head of the Ray cluster has not answered for 5 s"


def child_of(pid: int, name: str) -> int | None:
    """A child process whose program has this name."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            program = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            if int(parent) == pid and Path(program).name == name:
                return int(entry.name)
    return None


@pytest.mark.ray
@pytest.mark.parametrize(
    ("service", "stopped", "message"),
    [
        ("gcs_server", True, HEAD_LOST),
        pytest.param("gcs_server", False, HEAD_LOST, marks=pytest.mark.slow),
        pytest.param("raylet", False, "Error: the Ray of this run has lost its only node", marks=pytest.mark.slow),
    ],
)
def test_run_whose_ray_is_killed_commits_what_is_done_and_ends_with_2(run, tmp_path, service, stopped, message):
    line = run(*HANGS, "--workers", 1, "--threads", 1)
    line[2] = RAY_ENDS
    running = start(line)
    wait_for_receipts(running, tmp_path / "labels", 4)
    if stopped:  # the handler is the run's own, though Ray has installed another one when it was started
        stop(running, signal.SIGTERM)
    victim = child_of(running.pid, service)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    stdout, stderr = running.communicate(timeout=90)
    assert (running.returncode, stdout) == (2, ""), stderr
    assert message in stderr.splitlines()[-1]
    assert len(LabelStore.open(str(tmp_path / "labels"), "head").keys()) == 4
    assert run_status(StoreConfig(uri=str(tmp_path / "labels"))).state == "failed"


@pytest.mark.slow
def test_runs_of_a_large_network_end_with_their_own_code(run, tmp_path):
    import torch

    from hmsa_label.labelers import build_labeler
    from hmsa_label.labelers.taxonomy import CITYSCAPES
    from hmsa_label.labelers.weights.checkpoints import encode_checkpoint

    torch.manual_seed(0)
    info = {"model": "hrnet_w48_ocr", "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    weights = tmp_path / "w48.safetensors"
    weights.write_bytes(encode_checkpoint(build_labeler("hrnet_w48_ocr", 19), info))
    lines = [run(*local("--weights", weights, "--store", tmp_path / f"labels{number}")) for number in range(5)]
    ended = [subprocess.run(line, capture_output=True, timeout=120) for line in lines]
    assert [run.returncode for run in ended] == [0] * 5
