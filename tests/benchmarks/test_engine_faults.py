"""Short forms of the benchmarks that kill hosts, drivers, actors and raylets; they check what is left themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NO_NAMESPACES = 3  # exit code of engine_hosts.py

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:]]
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}  # not that of the tests
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=own)


def test_a_few_kills_lose_and_double_nothing():
    done = run("chaos.py", "--kills", "5", "--images", "80")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| images lost | 0 |" in done.stdout
    assert "| images twice in a manifest | 0 |" in done.stdout


def test_hosts_die_join_and_fall_silent_and_the_labels_are_those_of_one_process():
    done = run("engine_hosts.py", "--images", "100")
    if done.returncode == NO_NAMESPACES:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 of 100, each once. Bytes equal to a single-process run on a disk: yes." in done.stdout
