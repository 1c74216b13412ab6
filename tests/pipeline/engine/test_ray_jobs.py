"""Runs as submitted jobs: the same labels as here, and a job that is stopped keeps what it has finished."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hmsa_label
from hmsa_label.pipeline.engine.ray_executor import own_code
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake_arguments
from tests.sockets import LOOPBACK, listening_addresses

GUIDE = Path(hmsa_label.__path__[0]).parent / "docs/guides/cluster.md"


def head_of_the_guide() -> tuple[dict[str, str], list[str]]:
    """Variables and command with which the guide on clusters starts a head on one machine."""
    (block,) = (part for part in GUIDE.read_text().split("```")[1::2] if "ray start --head" in part)
    lines = [shlex.split(line) for line in block.replace("\\\n", "").splitlines()]
    exports = dict(word.split("=", 1) for line in lines if line[:1] == ["export"] for word in line[1:])
    (start,) = (line for line in lines if line[:2] == ["ray", "start"])
    return exports, start


def test_driver_ships_its_own_package_as_plain_data():
    assert json.loads(json.dumps(own_code(None))) == {"py_modules": list(hmsa_label.__path__)}
    assert own_code('{"runtime_env": {"working_dir": "gcs://code.zip"}}') == own_code(None)


def test_driver_leaves_the_code_to_a_job_that_ships_modules():
    assert own_code('{"runtime_env": {"py_modules": ["gcs://code.zip"]}}') == {}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Dashboard address of a head as the guide starts it, without a token, with two slots for workers."""
    address, folder = f"http://127.0.0.1:{free_port()}", tempfile.mkdtemp(prefix="ray")  # sockets want a short path
    ports = {name: free_port() for name in ("port", "ray-client-server-port", "dashboard-agent-listen-port")}
    exports, start = head_of_the_guide()
    command = [*start, "--block"]
    command += [f"--dashboard-port={address.rpartition(':')[2]}", f"--temp-dir={folder}", "--num-cpus=2"]
    command += [f"--object-store-memory={80 * 2**20}", *(f"--{name}={port}" for name, port in ports.items())]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},  # not that of the tests
        **exports,
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with (
        open(f"{folder}/head.log", "w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: answers(address) or process.poll() is not None, 120)
            assert process.poll() is None, Path(log.name).read_text()
            HEADS[address] = process.pid
            yield address
        finally:
            process.terminate()  # Ray ends what it has started
            process.wait(60)
            shutil.rmtree(folder, ignore_errors=True)


HEADS: dict[str, int] = {}  # dashboard address -> process


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def job(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job ARGUMENTS`, as a user types it."""
    command = [str(Path(sys.executable).parent / "ray"), "job", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def run_command(bench: Any, ms: int, store: str) -> list[str]:
    source = ["--data", str(bench.folder), "--dataset", "folder", "--split", "all"]
    here = f"PYTHONPATH={GUIDE.parents[2]}"  # of the driver alone: workers get the fake teacher from it
    return ["env", here, "hmsa-label", "run", *source, *fake_arguments(ms=ms), "--store", store, "--json"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads the sockets of processes from /proc")
def test_head_of_the_guide_is_closed_to_the_outside(head):
    wait_until(lambda: len(listening_addresses(HEADS[head])) >= 9, 60)  # the agents come last
    assert set(listening_addresses(HEADS[head])) <= LOOPBACK


@pytest.mark.ray
@pytest.mark.slow
def test_submitted_run_ends_with_the_same_labels(drawn, head, tmp_path):
    here = drawn.label()
    done = job("submit", "--address", head, "--", *run_command(drawn, 20, str(tmp_path / "there")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.digest in done.stdout
    assert LabelStore.open(str(tmp_path / "there")).digest == here.digest


@pytest.mark.ray
@pytest.mark.slow
def test_stopped_job_finishes_what_is_in_flight_and_the_next_one_the_rest(drawn, head, tmp_path):
    there = str(tmp_path / "there")
    # One worker, four images of 1.5 s in flight: longer than the 3 s that Ray would wait.
    command = [*run_command(drawn, 1500, there), "--workers", "1"]
    job("submit", "--address", head, "--no-wait", "--submission-id", "stopped", "--", *command)
    wait_until(lambda: list(Path(there).glob("data/*/receipts/*.json")), 60)
    job("stop", "--address", head, "stopped")
    logs = job("logs", "--address", head, "stopped").stdout
    assert "stopping after the" in logs
    assert '"interrupted": true' in logs
    on_disk = len(list(Path(there).glob("data/*/receipts/*.json")))
    assert on_disk >= 5
    assert len(LabelStore.open(there, "head").keys()) == on_disk  # committed, not left to the next run to find
    again = job("submit", "--address", head, "--submission-id", "stopped", "--", *command)
    assert "already exists" in again.stdout + again.stderr  # an id names one job for ever
    rest = job("submit", "--address", head, "--submission-id", "the-rest", "--", *run_command(drawn, 0, there))
    assert f'"images_done_before": {on_disk}' in rest.stdout
    assert LabelStore.open(there).digest == drawn.label().digest


@pytest.mark.ray
@pytest.mark.slow
def test_job_that_is_submitted_twice_shares_the_work(drawn, head, tmp_path):
    there = str(tmp_path / "there")
    command = [*run_command(drawn, 300, there), "--workers", "1", "--cpus-per-worker", "1"]
    names = ("first", "second")
    for name in names:
        job("submit", "--address", head, "--no-wait", "--submission-id", name, "--", *command)
    logs = [job("logs", "--follow", "--address", head, name).stdout for name in names]  # until each has ended
    assert all(drawn.label(store=str(tmp_path / "here")).digest in log for log in logs), logs
    assert len(list(Path(there).glob("data/*/receipts/*.json"))) == 20
    assert any('"images_labelled_elsewhere": 0' not in log for log in logs)
