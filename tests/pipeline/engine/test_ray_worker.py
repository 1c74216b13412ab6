"""What a Ray worker's process does with names and results, without Ray."""

import threading
from typing import Any

import pytest

from hmsa_label.pipeline.engine import ray_worker
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.pipeline.engine.ray_worker import WorkerActor
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.images.source import ImageRef


def task(key: str) -> Task:
    return Task(image=ImageRef(key=key, image=f"{key}.png"), run_id="r")


class Gated:
    """A worker whose images finish when their gate is opened; `bad` raises."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {"model": "gated"}
        self.gates = {key: threading.Event() for key in ("a", "b", "c", "d", "bad")}

    def label(self, task: Task) -> Failure:
        assert self.gates[task.key].wait(10)
        if task.key == "bad":
            raise EngineError("the storage stays away")
        return Failure(key=task.key, reason="done")

    def close(self) -> None:
        """Nothing to let go."""


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def actor(gated: Gated) -> WorkerActor:
    actor = WorkerActor(lambda number: gated, 0, threads=4)
    assert actor.start() == {"model": "gated"}
    return actor


def keys(results: Any) -> list[str]:
    return sorted(key for key, _ in results)


def test_process_without_a_teacher_takes_nothing(gated):
    assert WorkerActor(lambda number: gated, 0, threads=1).work([task("a")]) is None


def test_results_that_come_together_are_brought_together(actor, gated, monkeypatch):
    monkeypatch.setattr(ray_worker, "LINGER_SECONDS", 10.0)
    for key in ("a", "b"):
        gated.gates[key].set()
    assert keys(actor.work([task(key) for key in "abcd"])) == ["a", "b"]
    for key in ("c", "d"):
        gated.gates[key].set()
    brought = keys(actor.work([]))
    assert brought in (["c"], ["d"], ["c", "d"])  # one is half of what is left


def test_one_slow_image_does_not_hold_a_finished_one_back(actor, gated):
    gated.gates["a"].set()
    assert keys(actor.work([task(key) for key in "abcd"])) == ["a"]


def test_call_that_brings_images_returns_while_another_waits_for_results(actor, gated):
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.extend(actor.work([task("a")])))
    waiting.start()
    while not actor.is_awaited:
        pass
    assert actor.work([task("b")]) == []
    for key in ("a", "b"):
        gated.gates[key].set()
    waiting.join(10)
    late = [] if len(results) == 2 else actor.work([])
    assert keys([*results, *late]) == ["a", "b"]


def test_error_is_raised_after_what_was_finished_before_it(actor, gated):
    gated.gates["a"].set()
    assert keys(actor.work([task("a"), task("bad"), task("b")])) == ["a"]
    gated.gates["bad"].set()
    with pytest.raises(EngineError, match="the storage stays away"):
        actor.work([])


def test_nothing_to_do_is_answered_at_once(actor):
    assert actor.work([]) == []
