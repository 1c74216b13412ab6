"""Workers as Ray actors, one process each, on this machine or a cluster; the only import of ray.

Only names and receipts go through Ray. The driver hands lost work out again, not Ray: its own retries would repeat a
killing image for ever. An actor is born empty and loads its teacher in a call of its own, so that a crash while loading
is told from an actor that merely waits for a GPU.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import ray
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

import hmsa_label
from hmsa_label.pipeline.engine.events import WorkerLoading, WorkerLost, WorkerStarted
from hmsa_label.pipeline.engine.executor import Report, Task, TaskDone, Worker, unusable
from hmsa_label.pipeline.engine.ray_watch import RayWatch
from hmsa_label.pipeline.engine.ray_worker import WorkerActor
from hmsa_label.pipeline.errors import DeviceLost, EngineError

OBJECT_STORE_BYTES = 80 * 2**20  # the least that Ray takes without a warning; receipts travel inside the replies
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the driver of a submitted job
PING_AGAIN_SECONDS = 0.2
GROW_SECONDS = 2.0
REACHABLE_SECONDS = 10.0
TOLERANCE = 1e-6  # 1 / 0.1 is not quite ten shares, and Ray counts in steps of 1e-4
LOSSES = (RayActorError, NodeDiedError, OutOfMemoryError, WorkerCrashedError)
LOST = "its process ended (killed, crashed or out of memory), or its host is gone"


class RayCluster:
    """A connection to Ray for the length of a `with` block: an own one on this machine, or somebody's cluster.

    A connection that already exists in this process is used as it is and left open.

    Attributes:
        is_own: whether Ray was started here.
    """

    def __init__(self, address: str | None, min_cpus: int) -> None:
        """Connects or starts.

        Args:
            address: of a running cluster; None starts Ray on this machine, on the loopback interface alone.
            min_cpus: slots for workers that an own Ray has at least, even on fewer cores.

        Raises:
            EngineError: if there is no cluster at the address, or Ray cannot be started here.
        """
        self._is_ours = not ray.is_initialized()
        self.is_own = self._is_ours and address is None
        if not self._is_ours:
            return
        if address is None:
            _start_own(max(len(os.sched_getaffinity(0)), min_cpus))
            return
        check_reachable(address)
        try:
            ray.init(address, runtime_env=own_code(os.environ.get(JOB_CONFIG)), **QUIET)
        except ConnectionError as error:
            raise EngineError(f"no Ray cluster answers at {address}: {error}") from error

    def resources(self) -> tuple[float, float]:
        """GPUs and CPUs of the cluster as it is now."""
        hosts = _hosts()
        return sum(host.get("GPU", 0.0) for host in hosts), sum(host.get("CPU", 0.0) for host in hosts)

    def __enter__(self) -> "RayCluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours:
            ray.shutdown()


def _start_own(cpus: int) -> None:
    """Starts Ray on this machine; twice if need be, since it grants itself 30 s, which a busy machine may exceed."""
    for attempt in (1, 2):
        try:
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **QUIET)
            return
        except Exception as error:  # Ray raises a bare one
            ray.shutdown()
            if attempt == 2:
                raise EngineError(f"Ray could not be started here: {error} --executor local needs no Ray") from error


def own_code(job_config: str | None) -> dict[str, Any]:
    """The runtime environment of a run: the driver's own package, as nodes may lack it or hold another version.

    Args:
        job_config: what Ray tells the driver of a submitted job, as JSON; a job that ships modules ships ours, and
            Ray refuses a second list.
    """
    submitted = json.loads(job_config or "{}").get("runtime_env", {})
    # The folder, not the module: within a job, Ray copies this as plain data.
    return {} if "py_modules" in submitted else {"py_modules": list(hmsa_label.__path__)}


def check_reachable(address: str) -> None:
    """Asks whether anything listens at a cluster's address; Ray itself would try for minutes, without a word.

    Raises:
        EngineError: naming the address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto", or something that only Ray understands
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHABLE_SECONDS).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error}; is the head running?") from error


def _hosts() -> list[dict[str, float]]:
    """What Ray may give away on each host that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def slots(hosts: Iterable[Mapping[str, float]], options: "ActorOptions") -> int:
    """Workers that fit on hosts of such resources: none spans two hosts, and parts of a GPU lie on one GPU."""
    return sum(_slots(host, options) for host in hosts)


def _slots(host: Mapping[str, float], options: "ActorOptions") -> int:
    room = []
    if options.num_gpus:
        gpus, share = host.get("GPU", 0.0), options.num_gpus
        room.append(int(gpus / share) if share >= 1 else int(gpus) * int(1 / share + TOLERANCE))
    if options.num_cpus:
        room.append(int(host.get("CPU", 0.0) / options.num_cpus))
    return min(room)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call that an actor has not answered yet."""

    worker: int
    kind: Literal["ping", "start", "work"]


@dataclass(frozen=True, kw_only=True)
class ActorOptions:
    """What Ray reserves for one worker; `threads` is the number of images that it decodes and writes at once."""

    num_gpus: float
    num_cpus: float
    threads: int


class RayExecutor:
    """Actors that Ray restarts wherever there is room; surplus ones wait, which is what makes an autoscaler grow."""

    def __init__(
        self, build: Callable[[int], Worker], workers: int | None, options: ActorOptions, *, is_own: bool = False
    ) -> None:
        """Starts the actors.

        Args:
            build: takes a worker's number; must be picklable and small, it travels to each of them.
            workers: how many; None is as many as there is room for, and more when hosts join.
            is_own: whether this Ray was started by this process, and is of no use without a node.

        Raises:
            EngineError: if no host has room for a worker.
        """
        self.workers = 0
        self._options = options
        self._grows = workers is None
        self._build = build
        self._actor_class = ray.remote(
            num_gpus=options.num_gpus,
            num_cpus=options.num_cpus,
            max_concurrency=4,  # a call that waits for results, others that bring images, and a ping
            max_restarts=-1,
            max_task_retries=0,
        )(WorkerActor)
        self._actors: list[Any] = []
        self._calls: dict[Any, _Call] = {}
        self._ping_at: dict[int, float] = {}
        self._outbox: dict[int, list[Task]] = {}
        self._flying: dict[int, dict[str, Task]] = {}
        self._reports: list[Report] = []
        self._error: BaseException | None = None
        self._places: dict[int, str] = {}  # host of each worker
        self._watch = RayWatch(_hosts, is_own=is_own)
        self._grow_at = time.monotonic() + GROW_SECONDS
        self._add(slots(self._watch.hosts, options) if workers is None else workers)
        if not self.workers:
            self._watch.close()
            raise EngineError(
                f"no host of the cluster has room for a worker of {options.num_gpus:g} GPUs and {options.num_cpus:g} "
                "CPUs; ask for less with --gpus-per-worker or --cpus-per-worker"
            )

    def assign(self, worker: int, task: Task) -> None:
        self._outbox.setdefault(worker, []).append(task)
        self._flying.setdefault(worker, {})[task.key] = task

    def poll(self, timeout: float) -> list[Report]:
        if trouble := self._watch.trouble():
            raise trouble
        self._grow_if_due()
        self._ping_due()
        self._send()
        self._settle(self._answered(0.0 if self._reports else timeout))
        reports, self._reports = self._reports, []
        if self._error is not None and not reports:
            raise self._error
        return reports

    def restart(self, worker: int, reason: str) -> None:
        starting = any(call.worker == worker and call.kind == "start" for call in self._calls.values())
        self._lose(worker, reason, while_starting=starting)
        ray.kill(self._actors[worker], no_restart=False)

    def close(self, *, wait: bool = True) -> None:
        self._watch.close()
        for actor in self._actors:
            ray.kill(actor)

    def _grow_if_due(self) -> None:
        """Workers for hosts that joined. Those of a lost host are kept: they wait, and move to the next that comes."""
        if self._grows and time.monotonic() >= self._grow_at:
            self._grow_at = time.monotonic() + GROW_SECONDS
            self._add(slots(self._watch.hosts, self._options) - self.workers)

    def _add(self, count: int) -> None:
        for worker in range(self.workers, self.workers + count):
            self._actors.append(self._create(worker))
            self._ping_at[worker] = 0.0
        self.workers = len(self._actors)

    def _create(self, worker: int) -> Any:
        return self._actor_class.remote(self._build, worker, self._options.threads)

    def _call(self, call: _Call, *arguments: Any) -> None:
        method = getattr(self._actors[call.worker], call.kind)
        self._calls[method.remote(*arguments)] = call

    def _send(self) -> None:
        """Gives workers their new images, and asks for results where nobody waits for them."""
        waiting = {call.worker for call in self._calls.values() if call.kind == "work"}
        for worker, flying in self._flying.items():
            tasks = self._outbox.pop(worker, [])
            if tasks or (flying and worker not in waiting):
                self._call(_Call(worker=worker, kind="work"), tasks)

    def _ping_due(self) -> None:
        now = time.monotonic()
        for worker in [worker for worker, due in self._ping_at.items() if due <= now]:
            del self._ping_at[worker]
            self._call(_Call(worker=worker, kind="ping"))

    def _answered(self, timeout: float) -> list[Any]:
        """All calls that are over by now; waits for the first one."""
        if self._ping_at:
            timeout = min(timeout, PING_AGAIN_SECONDS)
        refs = list(self._calls)
        if not refs:
            time.sleep(timeout)
            return []
        ray.wait(refs, num_returns=1, timeout=timeout)
        answered, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return answered

    def _settle(self, refs: list[Any]) -> None:
        """Turns answers and errors into reports; answers first, as an error may drop its worker's calls."""
        outcomes = [(self._calls.pop(ref), *_outcome(ref)) for ref in refs]
        lost: set[int] = set()
        for call, answer, error in sorted(outcomes, key=lambda outcome: outcome[2] is not None):
            if error is None:
                self._settle_answer(call, answer)
            elif call.kind == "start" and not isinstance(error, LOSSES):
                self._reports.append(unusable(call.worker, self._places[call.worker], error))
            elif not isinstance(error, (*LOSSES, DeviceLost)):
                self._error = error
            elif call.worker not in lost:  # all its calls fail together; it is lost once
                lost.add(call.worker)
                self._settle_loss(call, error)

    def _settle_answer(self, call: _Call, answer: Any) -> None:
        if call.kind == "ping":
            self._places[call.worker] = answer
            self._call(_Call(worker=call.worker, kind="start"))
            self._reports.append(WorkerLoading(worker=call.worker))
        elif call.kind == "start":
            self._reports.append(WorkerStarted(worker=call.worker, info=answer))
        else:
            flying = self._flying[call.worker]
            self._reports += [TaskDone(worker=call.worker, task=flying.pop(key), result=done) for key, done in answer]

    def _settle_loss(self, call: _Call, error: Exception) -> None:
        if isinstance(error, DeviceLost):
            self.restart(call.worker, str(error))
            return
        is_dead = isinstance(error, ActorDiedError)  # for good: ended from outside, or it could not be created
        if is_dead and "creation task" in str(error):
            self._error = EngineError(f"a worker cannot be created: {_last_line(error)}")
        if is_dead:
            self._actors[call.worker] = self._create(call.worker)
        if call.kind == "ping" and not is_dead:
            self._forget(call.worker)  # not up yet
        else:
            self._lose(call.worker, LOST, while_starting=call.kind != "work")

    def _lose(self, worker: int, reason: str, *, while_starting: bool = False) -> None:
        self._forget(worker)
        self._reports.append(WorkerLost(worker=worker, reason=reason, while_starting=while_starting))

    def _forget(self, worker: int) -> None:
        """Drops what the worker has not answered, and asks soon whether it is up again."""
        self._calls = {ref: call for ref, call in self._calls.items() if call.worker != worker}
        self._outbox.pop(worker, None)
        self._flying.pop(worker, None)
        self._ping_at[worker] = time.monotonic() + PING_AGAIN_SECONDS


def _outcome(ref: Any) -> tuple[Any, Exception | None]:
    """Answer or error of a call that is over; an exception of our own code as it was raised there."""
    try:
        answer = ray.get(ref)
    except RayTaskError as error:
        return None, error.cause if isinstance(error.cause, Exception) else error
    except LOSSES as error:
        return None, error
    # No answer: a process without a teacher yet, in place of the one that was asked.
    return answer, RayActorError() if answer is None else None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
