"""The dispatcher's rules, shown on a scripted executor: no threads, no processes, no clock."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest

from hmsa_label.pipeline.dispatch import DEATHS_ALONE, START_CRASHES, Dispatcher, Limits
from hmsa_label.pipeline.events import Event, WorkerLost, WorkerStarted
from hmsa_label.pipeline.executor import EngineError, Report, Task, TaskDone
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.images import ImageRef
from hmsa_label.stores.receipt import Receipt


def task(key: str) -> Task:
    return Task(image=ImageRef(key=key, image=f"{key}.png"), run_id="r")


@dataclass
class ScriptedExecutor:
    """Finishes one image per worker and poll; images in `killers` end their worker, those in `hanging` never finish."""

    workers: int
    killers: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    crashing: set[int] = field(default_factory=set)
    flying: dict[int, list[Task]] = field(default_factory=dict)
    most_flying: int = 0
    assigned: list[tuple[int, str]] = field(default_factory=list)
    queue: list[Report] = field(default_factory=list)
    lonely: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flying = {worker: [] for worker in range(self.workers)}
        self.queue = [self._born(worker) for worker in range(self.workers)]

    def _born(self, worker: int) -> Report:
        if worker in self.crashing:
            return WorkerLost(worker=worker, reason="its process ended", while_starting=True)
        return WorkerStarted(worker=worker)

    def assign(self, worker: int, task: Task) -> None:
        self.flying[worker].append(task)
        self.assigned.append((worker, task.key))
        self.most_flying = max(self.most_flying, len(self.flying[worker]))

    def restart(self, worker: int, reason: str) -> None:
        self.flying[worker] = []
        self.queue += [WorkerLost(worker=worker, reason=reason), self._born(worker)]

    def poll(self, timeout: float) -> list[Report]:
        reports, self.queue = self.queue, []
        lost = {report.worker for report in reports}
        for worker, tasks in self.flying.items():
            if not tasks or worker in lost:
                continue
            if any(task.key in self.killers for task in tasks):
                self.lonely += [tasks[0].key] * (len(tasks) == 1)
                self.restart(worker, "its process ended")
            elif free := [task for task in tasks if task.key not in self.hanging]:
                tasks.remove(free[0])
                reports.append(TaskDone(worker=worker, task=free[0], result=Failure(key=free[0].key, reason="done")))
        self.queue += [self._born(report.worker) for report in reports if isinstance(report, WorkerLost)]
        return reports

    def close(self) -> None:
        pass


@dataclass
class Outcome:
    results: list[Receipt | Failure] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def keys(self) -> Counter[str]:
        return Counter(result.key for result in self.results)

    @property
    def given_up(self) -> dict[str, str]:
        failures = [result for result in self.results if isinstance(result, Failure)]
        return {failure.key: failure.reason for failure in failures if failure.reason != "done"}


def dispatch(executor: ScriptedExecutor, keys: list[str], *, depth: int = 3, item_timeout: float = 1000.0) -> Outcome:
    outcome = Outcome()
    limits = Limits(in_flight=depth, item_seconds=item_timeout)
    dispatcher = Dispatcher(executor, limits, threading.Event(), outcome.events.append)
    dispatcher.run([task(key) for key in keys], outcome.results.append)
    return outcome


KEYS = [f"image{number:02d}" for number in range(20)]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_image_is_reported_once(workers: int) -> None:
    executor = ScriptedExecutor(workers)
    outcome = dispatch(executor, KEYS)
    assert outcome.keys == Counter(KEYS)
    assert {worker for worker, _ in executor.assigned} == set(range(workers))


class GrowingExecutor(ScriptedExecutor):
    """Gets one more worker with every poll, up to four."""

    def poll(self, timeout: float) -> list[Report]:
        if self.workers < 4:
            self.flying[self.workers] = []
            self.queue.append(self._born(self.workers))
            self.workers += 1
        return super().poll(timeout)


def test_workers_that_join_late_get_images_too() -> None:
    executor = GrowingExecutor(1)
    outcome = dispatch(executor, KEYS)
    assert outcome.keys == Counter(KEYS)
    assert {worker for worker, _ in executor.assigned} == {0, 1, 2, 3}


def test_no_worker_holds_more_than_the_depth() -> None:
    executor = ScriptedExecutor(2)
    dispatch(executor, KEYS, depth=4)
    assert executor.most_flying == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_only_the_image_that_kills_workers_is_given_up(workers: int) -> None:
    executor = ScriptedExecutor(workers, killers={"image05"})
    outcome = dispatch(executor, KEYS)
    assert outcome.keys == Counter(KEYS)
    assert list(outcome.given_up) == ["image05"]
    assert "2 times with nothing else in flight: its process ended" in outcome.given_up["image05"]
    assert executor.lonely == ["image05"] * DEATHS_ALONE


def test_two_killing_images_in_flight_together_are_both_found() -> None:
    outcome = dispatch(ScriptedExecutor(2, killers={"image00", "image01"}), KEYS)
    assert outcome.keys == Counter(KEYS)
    assert sorted(outcome.given_up) == ["image00", "image01"]


def test_hanging_image_is_given_up_after_the_time_limit() -> None:
    outcome = dispatch(ScriptedExecutor(2, hanging={"image03"}), KEYS, item_timeout=0.001)
    assert outcome.keys == Counter(KEYS)
    assert "gave no result for 0.001 s" in outcome.given_up["image03"]
    assert "image03" in outcome.given_up["image03"]


def test_worker_that_crashes_while_starting_ends_the_run() -> None:
    executor = ScriptedExecutor(2, crashing={0, 1})
    with pytest.raises(EngineError, match=f"died {START_CRASHES} times in a row while it loaded its teacher"):
        dispatch(executor, KEYS)
    assert executor.assigned == []


def test_first_ready_worker_is_reported_before_any_image() -> None:
    executor = ScriptedExecutor(2)
    dispatcher = Dispatcher(executor, Limits(in_flight=2, item_seconds=9.0), threading.Event(), lambda event: None)
    started = dispatcher.wait_for_worker()
    assert started == WorkerStarted(worker=0)
    assert executor.assigned == []


def test_stop_finishes_what_is_in_flight_and_feeds_nothing_more() -> None:
    executor, stop = ScriptedExecutor(2), threading.Event()
    results: list[Receipt | Failure] = []

    def on_result(result: Receipt | Failure) -> None:
        results.append(result)
        stop.set()

    dispatcher = Dispatcher(executor, Limits(in_flight=3, item_seconds=9.0), stop, lambda event: None)
    dispatcher.run([task(key) for key in KEYS], on_result)
    assert sorted(result.key for result in results) == sorted(key for _, key in executor.assigned)
    assert len(results) == 6
    assert dispatcher.left == 14
    assert dispatcher.in_flight == 0


def test_stop_before_any_worker_is_ready_returns_nothing() -> None:
    stop = threading.Event()
    stop.set()
    dispatcher = Dispatcher(ScriptedExecutor(1), Limits(in_flight=1, item_seconds=9.0), stop, lambda event: None)
    assert dispatcher.wait_for_worker() is None


def test_lost_worker_while_draining_drops_its_images() -> None:
    executor, stop = ScriptedExecutor(1, killers={"image02"}), threading.Event()
    dispatcher = Dispatcher(executor, Limits(in_flight=3, item_seconds=9.0), stop, lambda event: stop.set())
    results: list[Receipt | Failure] = []
    dispatcher.run([task(key) for key in KEYS], results.append)
    assert results == []
    assert dispatcher.left == len(KEYS)
