"""Where teachers run: one interface, and the threads in this process (`ray_executor.py` is the other one).

An executor starts workers, hands each image to the worker it is told, and reports what came back. It decides
nothing: which worker gets which image, and what becomes of the images of a lost one, is `dispatch.py`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from hmsa_label.pipeline.engine.events import WorkerLoading, WorkerLost, WorkerStarted, WorkerUnusable
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.interrupt import THREAD_NAME
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.images.source import ImageRef

CLOSE_SECONDS = 30.0
REASON_CHARS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One image to label for one run; all that ever travels to a worker."""

    image: ImageRef
    run_id: str

    @property
    def key(self) -> str:
        return self.image.key


@dataclass(frozen=True, kw_only=True)
class TaskDone:
    """A worker answered for one image: with a receipt, or with the reason why it cannot be labeled."""

    worker: int
    task: Task
    result: Receipt | Failure


Report = WorkerLoading | WorkerUnusable | WorkerStarted | WorkerLost | TaskDone


def unusable(worker: int, host: str, error: BaseException) -> WorkerUnusable:
    """The report of a worker that cannot load its teacher."""
    text = " ".join(str(error).split())[:REASON_CHARS]
    return WorkerUnusable(worker=worker, host=host, reason=f"{type(error).__name__}: {text}", error=error)


class Worker(Protocol):
    """What an executor runs: loads on construction, then labels from several threads at once."""

    info: dict[str, Any]

    def label(self, task: Task) -> Receipt | Failure:
        """The receipt of one image that is now on storage, or why it cannot be labeled."""

    def close(self) -> None:
        """Lets go of the teacher."""


class Executor(Protocol):
    """Workers numbered 0 to workers - 1, each waiting for a place, loading, ready or unusable; `poll` may add more."""

    workers: int

    def assign(self, worker: int, task: Task) -> None:
        """Gives a ready worker one more image."""

    def poll(self, timeout: float) -> list[Report]:
        """What happened since the last call; waits up to `timeout` seconds for something to happen.

        After `WorkerLost` nothing more is reported of the images that the worker had; it is started again.

        Raises:
            Exception: as a worker raised it, if it could not go on; the run is over then.
        """

    def restart(self, worker: int, reason: str) -> None:
        """Ends a worker that hangs and starts it again; `poll` reports it as lost.

        Raises:
            EngineError: if this executor cannot end a worker.
        """

    def close(self, *, wait: bool = True) -> None:
        """Ends all workers; images in flight are dropped.

        Args:
            wait: until nothing runs any more, for half a minute at most; False leaves at once.
        """


class LocalExecutor:
    """Workers as groups of threads in this process: one thread for each image in flight, beside the forward thread.

    Threads are daemons, so that a hung one never keeps the process alive.
    """

    def __init__(self, build: Callable[[int], Worker], workers: int, threads: int) -> None:
        """Starts to build the workers, each in a thread of its own; `build` takes the worker's number."""
        self.workers = workers
        self._reports: SimpleQueue[Report | BaseException] = SimpleQueue()
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in range(workers)]
        self._threads = threads
        self._error: BaseException | None = None
        self._workers: list[Worker] = []
        self._closed = self._hangs = False
        self._serving: list[threading.Thread] = []
        self._starting = [_spawn(self._start, number, build) for number in range(workers)]

    def assign(self, worker: int, task: Task) -> None:
        self._tasks[worker].put(task)

    def poll(self, timeout: float) -> list[Report]:
        if self._error is not None:
            raise self._error
        reports: list[Report] = []
        with contextlib.suppress(Empty):
            while True:
                report = self._reports.get(timeout=0 if reports else timeout)
                if isinstance(report, BaseException):
                    self._error = report  # raised by the next call: what was finished before it still counts
                    break
                reports.append(report)
        if self._error is not None and not reports:
            raise self._error
        return reports

    def restart(self, worker: int, reason: str) -> None:
        self._hangs = True
        raise EngineError(
            f"{reason}; threads cannot be ended from outside, so the run stops here. "
            "Finished images are kept; run again with --executor ray, which restarts hung workers and names the image"
        )

    def close(self, *, wait: bool = True) -> None:
        self._closed = True
        for tasks in self._tasks:
            for _ in range(self._threads):
                tasks.put(None)
        if not wait or self._hangs:
            return
        until = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers[:]:
            worker.close()
        for threads in (self._starting, self._serving):  # in this order: a worker that is being built spawns others
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))

    def _start(self, number: int, build: Callable[[int], Worker]) -> None:
        self._reports.put(WorkerLoading(worker=number))
        try:
            worker = build(number)
        except BaseException as error:  # handed to the driver, whatever it is
            self._reports.put(unusable(number, socket.gethostname(), error))
            return
        self._workers.append(worker)
        if self._closed:
            worker.close()
            return
        self._serving += [_spawn(self._serve, number, worker) for _ in range(self._threads)]
        self._reports.put(WorkerStarted(worker=number, info=worker.info))

    def _serve(self, number: int, worker: Worker) -> None:
        while (task := self._tasks[number].get()) is not None and not self._closed:
            try:
                self._reports.put(TaskDone(worker=number, task=task, result=worker.label(task)))
            except BaseException as error:  # ends the run, from the driver
                self._reports.put(error)


def _spawn(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True, name=THREAD_NAME)
    thread.start()
    return thread
