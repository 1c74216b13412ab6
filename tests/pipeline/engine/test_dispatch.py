"""The dispatcher's rules, shown on a scripted executor and a scripted clock: no threads, no processes."""

import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest

from hmsa_label.pipeline.engine.crew import Limits
from hmsa_label.pipeline.engine.dispatch import DEATHS_ALONE, Dispatcher
from hmsa_label.pipeline.engine.events import (
    Draining,
    Event,
    WorkerLoading,
    WorkerLost,
    WorkerStarted,
    WorkerUnusable,
)
from hmsa_label.pipeline.engine.executor import Report, Task, TaskDone, unusable
from hmsa_label.pipeline.engine.starts import START_CRASHES
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.images.source import ImageRef


def task(key: str) -> Task:
    return Task(image=ImageRef(key=key, image=f"{key}.png"), run_id="r")


MOST_POLLS = 2000  # far more than any script needs: a dispatcher that never comes to its end fails


@dataclass
class ScriptedExecutor:
    """Finishes one image per worker and poll; images in `killers` end their worker, those in `hanging` never finish.

    Attributes:
        crashing, stuck, broken, absent: workers that die while they start, load for ever, cannot load their teacher, or
            never get a place.
        now: seconds, one for each poll.
    """

    workers: int
    killers: set[str] = field(default_factory=set)
    hanging: set[str] = field(default_factory=set)
    crashing: set[int] = field(default_factory=set)
    stuck: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)
    now: float = 0.0
    flying: dict[int, list[Task]] = field(default_factory=dict)
    most_flying: int = 0
    assigned: list[tuple[int, str]] = field(default_factory=list)
    queue: list[Report] = field(default_factory=list)
    lonely: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flying = {worker: [] for worker in range(self.workers)}
        self.starting: set[int] = set()
        for worker in range(self.workers):
            self._bear(worker)

    def _bear(self, worker: int) -> None:
        if worker in self.absent:
            return
        self.starting.add(worker)
        self.queue.append(WorkerLoading(worker=worker))
        if worker in self.crashing:
            self.queue.append(WorkerLost(worker=worker, reason="its process ended", while_starting=True))
        elif worker in self.broken:
            self.queue.append(unusable(worker, f"host{worker}", RuntimeError("No CUDA GPUs are available")))
        elif worker not in self.stuck:
            self.starting.remove(worker)
            self.queue.append(WorkerStarted(worker=worker))

    def assign(self, worker: int, task: Task) -> None:
        self.flying[worker].append(task)
        self.assigned.append((worker, task.key))
        self.most_flying = max(self.most_flying, len(self.flying[worker]))

    def restart(self, worker: int, reason: str) -> None:
        self.flying[worker] = []
        self.queue.append(WorkerLost(worker=worker, reason=reason, while_starting=worker in self.starting))
        self._bear(worker)

    def poll(self, timeout: float) -> list[Report]:
        self.now += 1
        assert self.now < MOST_POLLS, "the dispatcher polls for ever"
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
        for report in reports:
            if isinstance(report, WorkerLost) and report.worker in self.crashing:
                self._bear(report.worker)
        return reports

    def close(self, *, wait: bool = True) -> None:
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


def limits(depth: int = 3, *, item: float = 1000.0, start: float = 1000.0, worker: float = 1000.0) -> Limits:
    return Limits(in_flight=depth, item_seconds=item, start_seconds=start, worker_seconds=worker)


def dispatch(executor: ScriptedExecutor, keys: list[str], allowed: Limits | None = None) -> Outcome:
    outcome = Outcome()
    stop, events = threading.Event(), outcome.events
    dispatcher = Dispatcher(executor, allowed or limits(), stop, events.append, clock=lambda: executor.now)
    dispatcher.run([task(key) for key in keys], outcome.results.append)
    return outcome


KEYS = [f"image{number:02d}" for number in range(20)]
MANY_KEYS = [f"image{number:03d}" for number in range(200)]


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
            self._bear(self.workers)
            self.workers += 1
        return super().poll(timeout)


def test_workers_that_join_late_get_images_too() -> None:
    executor = GrowingExecutor(1)
    outcome = dispatch(executor, KEYS)
    assert outcome.keys == Counter(KEYS)
    assert {worker for worker, _ in executor.assigned} == {0, 1, 2, 3}


def test_no_worker_holds_more_than_the_depth() -> None:
    executor = ScriptedExecutor(2)
    dispatch(executor, KEYS, limits(4))
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
    outcome = dispatch(ScriptedExecutor(2, hanging={"image03"}), KEYS, limits(item=5.0))
    assert outcome.keys == Counter(KEYS)
    assert list(outcome.given_up) == ["image03"]
    assert "gave no result for 5 s (working on image03)" in outcome.given_up["image03"]


def restarts(outcome: Outcome) -> list[str]:
    return [event.reason for event in outcome.events if isinstance(event, WorkerLost)]


def test_worker_that_gives_results_is_not_hung_however_long_it_works():
    executor = ScriptedExecutor(1)
    assert restarts(dispatch(executor, KEYS, limits(item=3.0))) == []
    assert executor.now > 3 * 3.0


class Later:
    """Work that somebody else had claimed until a given time."""

    def __init__(self, executor: ScriptedExecutor, tasks: list[Task], at: float) -> None:
        self._executor, self._tasks, self._at = executor, tasks, at

    @property
    def left(self) -> int:
        return len(self._tasks)

    def take(self, wanted: int) -> list[Task]:
        if self._executor.now < self._at:
            return []
        tasks, self._tasks = self._tasks, []
        return tasks


class Slow(ScriptedExecutor):
    """Finishes images at every third poll."""

    def poll(self, timeout: float) -> list[Report]:
        if self.now % 3:
            self.now += 1
            reports, self.queue = self.queue, []
            return reports
        return super().poll(timeout)


def test_worker_that_had_nothing_to_do_for_long_is_not_hung_when_it_gets_an_image():
    executor, outcome = Slow(2), Outcome()
    stop, events = threading.Event(), outcome.events
    dispatcher = Dispatcher(executor, limits(item=5.0), stop, events.append, clock=lambda: executor.now)
    dispatcher.run(Later(executor, [task(key) for key in KEYS], at=29.0), outcome.results.append)
    assert outcome.keys == Counter(KEYS)
    assert restarts(outcome) == []


def test_worker_that_crashes_while_starting_ends_the_run() -> None:
    executor = ScriptedExecutor(2, crashing={0, 1})
    with pytest.raises(EngineError, match=f"lost {START_CRASHES} times in a row while it loaded its teacher"):
        dispatch(executor, KEYS)
    assert executor.assigned == []


def test_worker_that_hangs_while_it_loads_is_restarted_and_ends_the_run_in_the_end():
    executor = ScriptedExecutor(2, stuck={1})
    with pytest.raises(EngineError, match=rf"worker 1 was lost {START_CRASHES} times .* did not load .* within 4 s"):
        dispatch(executor, MANY_KEYS, limits(start=4.0))
    assert {worker for worker, _ in executor.assigned} == {0}


def test_worker_that_hangs_while_it_loads_is_noticed_before_the_first_one_is_ready():
    executor = ScriptedExecutor(1, stuck={0})
    with pytest.raises(EngineError, match="did not load its teacher within 4 s"):
        first_ready(executor, limits(start=4.0))
    assert executor.now < 30


def first_ready(executor: ScriptedExecutor, allowed: Limits, events: list[Event] | None = None) -> WorkerStarted | None:
    watch = (events if events is not None else []).append
    return Dispatcher(executor, allowed, threading.Event(), watch, clock=lambda: executor.now).wait_for_worker()


def test_run_without_any_worker_ends_after_the_limit():
    executor = ScriptedExecutor(2, absent={0, 1})
    with pytest.raises(EngineError, match=r"no worker for 60 s \(--worker-timeout\): no host has room"):
        first_ready(executor, limits(worker=60.0))
    assert 60 < executor.now < 65


class Deserted(ScriptedExecutor):
    """Loses all workers for good at the 40th poll, and gets one again at the 85th."""

    def poll(self, timeout: float) -> list[Report]:
        if self.now == 40:
            self.absent = set(range(self.workers))
            for worker in self.absent:
                self.restart(worker, "its host is gone")
        if self.now == 85:
            self.absent = set()
            self._bear(0)
        return super().poll(timeout)


def test_run_that_loses_all_workers_waits_for_others_as_long_as_it_may():
    outcome = dispatch(Deserted(2), MANY_KEYS, limits(worker=60.0))
    assert outcome.keys == Counter(MANY_KEYS)
    with pytest.raises(EngineError, match="no worker for 30 s"):
        dispatch(Deserted(2), MANY_KEYS, limits(worker=30.0))


def test_worker_that_cannot_load_its_teacher_is_named_and_left_out_while_others_work():
    executor = ScriptedExecutor(3, broken={0, 2})
    outcome = dispatch(executor, KEYS)
    assert outcome.keys == Counter(KEYS)
    assert {worker for worker, _ in executor.assigned} == {1}
    named = [event for event in outcome.events if isinstance(event, WorkerUnusable)]
    assert [(event.worker, event.host) for event in named] == [(0, "host0"), (2, "host2")]
    assert named[0].reason == "RuntimeError: No CUDA GPUs are available"


def test_error_is_the_runs_if_no_worker_can_load_its_teacher():
    events: list[Event] = []
    with pytest.raises(EngineError, match="worker 0 on host0 cannot load its teacher: RuntimeError: No CUDA GPUs"):
        first_ready(ScriptedExecutor(2, broken={0, 1}), limits(), events)
    assert not any(isinstance(event, WorkerUnusable) for event in events)


def test_worker_that_cannot_load_its_teacher_is_judged_once_those_that_still_load_are_done():
    executor = ScriptedExecutor(2, broken={0}, stuck={1})
    with pytest.raises(EngineError, match=f"worker 1 was lost {START_CRASHES} times in a row"):
        first_ready(executor, limits(start=4.0))


def test_error_is_the_runs_if_the_other_workers_have_no_place_yet():
    with pytest.raises(EngineError, match=r"^worker 0 on host0 cannot load its teacher"):
        first_ready(ScriptedExecutor(2, broken={0}, absent={1}), limits())


def test_first_ready_worker_is_reported_before_any_image() -> None:
    executor = ScriptedExecutor(2)
    dispatcher = Dispatcher(executor, limits(2), threading.Event(), lambda event: None)
    started = dispatcher.wait_for_worker()
    assert started == WorkerStarted(worker=0)
    assert executor.assigned == []


def test_stop_finishes_what_is_in_flight_and_feeds_nothing_more() -> None:
    executor, stop = ScriptedExecutor(2), threading.Event()
    results: list[Receipt | Failure] = []

    def on_result(result: Receipt | Failure) -> None:
        results.append(result)
        stop.set()

    dispatcher = Dispatcher(executor, limits(3), stop, lambda event: None)
    dispatcher.run([task(key) for key in KEYS], on_result)
    assert sorted(result.key for result in results) == sorted(key for _, key in executor.assigned)
    assert len(results) == 6
    assert dispatcher.left == 14
    assert dispatcher.in_flight == 0


@pytest.mark.parametrize("depth", [1, 3])
def test_stop_is_told_once_even_if_nothing_is_in_flight_any_more(depth: int) -> None:
    executor, stop, events = ScriptedExecutor(1), threading.Event(), list[Event]()

    def on_result(result: Receipt | Failure) -> None:
        stop.set()

    dispatcher = Dispatcher(executor, limits(depth), stop, events.append)
    dispatcher.run([task(key) for key in KEYS], on_result)
    assert [event for event in events if isinstance(event, Draining)] == [Draining(images_in_flight=depth - 1)]


def test_stop_before_any_worker_is_ready_returns_nothing() -> None:
    stop = threading.Event()
    stop.set()
    dispatcher = Dispatcher(ScriptedExecutor(1), limits(1), stop, lambda event: None)
    assert dispatcher.wait_for_worker() is None


def test_lost_worker_while_draining_drops_its_images() -> None:
    executor, stop = ScriptedExecutor(1, killers={"image02"}), threading.Event()
    dispatcher = Dispatcher(executor, limits(3), stop, lambda event: stop.set())
    results: list[Receipt | Failure] = []
    dispatcher.run([task(key) for key in KEYS], results.append)
    assert results == []
    assert dispatcher.left == len(KEYS)
