"""Several processes commit to one store at once: every commit that was reported is there."""

import multiprocessing
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

PROCESSES, COMMITS = 3, 4


def label_some(uri: str, number: int) -> None:
    run = {"settings": {"threshold": 0.9}, "data": {"split": f"split {number}"}}
    writer = RunWriter(uri, run)
    segment = SegmentWriter(uri, writer.run_id, None, Rule(0.9), COMMITS)
    for commit in range(COMMITS):
        label = np.full((2, 2), number, np.uint8)
        writer.append([segment.write(ImageFacts(key=f"{number}/{commit}", source="x"), {"label": label})])
    writer.finish()


@pytest.mark.timeout(120)
def test_no_commit_of_concurrent_processes_is_lost(uri: str, classes: dict[str, Any]) -> None:
    LabelStore.create(uri, classes)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=label_some, args=(uri, number)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    store = LabelStore.open(uri)
    assert store.keys() == sorted(f"{n}/{c}" for n in range(PROCESSES) for c in range(COMMITS))
    assert all(store.read(key)[0, 0] == int(key[0]) for key in store)
    head = LabelStore.open(uri, "head")
    assert head.commit.open_runs == ()
    # One commit creates the table; each process begins, appends and finishes (or closes, if another's finishing commit
    # has published its rows already).
    assert head.version == PROCESSES * (COMMITS + 2)


def create(uri: str, classes: dict[str, Any], queue: Any) -> None:
    queue.put(LabelStore.create(uri, classes).identity.uuid)


@pytest.mark.timeout(120)
def test_processes_that_create_a_store_at_once_agree_on_one(uri: str, classes: dict[str, Any]) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=create, args=(uri, classes, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert len({queue.get(timeout=60) for _ in processes}) == 1
    for process in processes:
        process.join(10)
