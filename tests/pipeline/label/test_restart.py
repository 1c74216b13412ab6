"""Drivers killed at any moment and started again until they are done: nothing lost, doubled or half written."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake
from tests.processes import family_of

IMAGES = 24
DRIVER = """
import json, os, signal, sys
from hmsa_label.pipeline.label import receipts, run
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.engine.events import ImageLabeled
from tests.fake_teacher import fake
folder, store, executor, last, look = sys.argv[1:]
seen = []
def die_after_the_last(event):
    seen.extend([event] if isinstance(event, ImageLabeled) else [])
    if len(seen) == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
receipts.COMMIT_IMAGES = 5
summary = run.label_images(LabelConfig(
    data=DataConfig(root=folder, dataset="folder", split="all"),
    teacher=fake(ms=15, **json.loads(look)), store=store,
    engine=EngineConfig(executor=executor, workers=2)), die_after_the_last)
print(json.dumps([summary.images_done_before, summary.images_labelled, summary.interrupted]), flush=True)
"""


def start(bench: Any, executor: str, last: int = -1) -> subprocess.Popen[str]:
    """A driver in a session of its own, so that all its processes can be killed together.

    Args:
        last: number of the image after which it kills itself.
    """
    look = json.dumps(bench.fake_options)
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(bench.folder), bench.store, executor, str(last), look],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def receipts(store: str) -> int:
    return len(list(Path(store).glob("data/*/receipts/*.json")))


def kill_after(process: subprocess.Popen[str], store: str, count: int, *, everything: bool) -> bool:
    """Kills the driver once `count` more images are on disk; whether it was still there to be killed."""
    goal, deadline = receipts(store) + count, time.monotonic() + 60
    while process.poll() is None and receipts(store) < goal and time.monotonic() < deadline:
        time.sleep(0.002)
    alive = process.poll() is None
    if alive:
        for pid in family_of(process.pid) if everything else [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.communicate()
    return alive


def check_complete_images_only(store: str, expected: dict[str, np.ndarray]) -> int:
    """Every image that a reader sees now is whole and right; their number."""
    try:
        reader = LabelStore.open(store, "head")
    except NotAStore:
        return 0
    keys = reader.keys()
    for key in keys:
        np.testing.assert_array_equal(reader.read(key), expected[key])
    assert len(set(keys)) == len(keys)
    return len(keys)


def run_through_kills(bench, kills: int, executor: str, *, everything: bool = False) -> None:
    bench.draw(IMAGES)
    whole = bench.label(store=bench.store + ".whole")
    reference = LabelStore.open(bench.store + ".whole")
    expected = dict(zip(reference.keys(), map(reference.read, reference.keys()), strict=True))
    generator, seen, killed = random.Random(1), 0, 0
    for _ in range(kills):
        process = start(bench, executor)
        killed += kill_after(process, bench.store, generator.randint(0, 2 * IMAGES // kills), everything=everything)
        now = check_complete_images_only(bench.store, expected)
        assert now >= seen
        seen = now
    assert killed >= kills // 2
    last = start(bench, executor)
    output, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    done_before, labeled, _ = json.loads(output)
    assert done_before + labeled == IMAGES
    store = LabelStore.open(bench.store)
    assert store.digest == whole.digest
    assert store.keys() == reference.keys()
    assert check_complete_images_only(bench.store, expected) == IMAGES


@pytest.mark.usefixtures("both_kinds")
def test_driver_killed_and_started_again_ends_with_the_same_labels_and_labels_none_twice(bench):
    bench.draw(IMAGES)
    whole = bench.label(store=bench.store + ".whole")
    reference = LabelStore.open(bench.store + ".whole")
    expected = dict(zip(reference.keys(), map(reference.read, reference.keys()), strict=True))
    process = start(bench, "local", last=13)  # between two commits of five images or more
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, errors
    on_disk = receipts(bench.store)
    assert on_disk >= 13
    assert 5 <= check_complete_images_only(bench.store, expected) <= on_disk
    summary = bench.label(fake(ms=15))
    assert summary.images_done_before == on_disk  # the uncommitted ones too
    assert receipts(bench.store) == IMAGES
    assert summary.digest == whole.digest
    assert check_complete_images_only(bench.store, expected) == IMAGES


@pytest.mark.slow
@pytest.mark.usefixtures("both_kinds")
@pytest.mark.parametrize(("executor", "everything"), [("local", False), ("ray", False), ("ray", True)])
def test_ten_kills_end_with_the_same_labels(bench, executor, everything):
    run_through_kills(bench, 10, executor, everything=everything)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_all_processes_of_a_ray_run_drains_it(bench, number):
    bench.draw(IMAGES)
    process = start(bench, "ray")
    while receipts(bench.store) < 5 and process.poll() is None:
        time.sleep(0.005)
    # What a terminal does on Ctrl-C: everybody in the foreground group gets the signal.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    done_before, labeled, interrupted = json.loads(output)
    assert interrupted
    assert done_before == 0
    assert labeled == receipts(bench.store) == len(LabelStore.open(bench.store, "head").keys())
