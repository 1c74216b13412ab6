"""What runs in the process of one Ray actor: a worker, the threads that feed it, and what it has finished.

The driver gives names and takes results in the same call, several at once where images take milliseconds: a call costs
the driver about half a millisecond, whatever is in it.
"""

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hmsa_label.pipeline.engine.executor import Task, Worker
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.format.receipt import Receipt

LINGER_SECONDS = 0.05  # how long a result waits for others that go with it
Result = tuple[str, Receipt | Failure]  # of the image with this key


class WorkerActor:
    """Born empty; `start` loads the teacher, `work` takes images and brings results. Calls may overlap.

    Attributes:
        is_awaited: whether a call waits for results now.
    """

    def __init__(self, build: Callable[[int], Worker], number: int, threads: int) -> None:
        self._build = build
        self._number = number
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hmsa-label")
        self._worker: Worker | None = None
        self._changed = threading.Condition()
        self._held = 0  # images not handed back yet
        self._finished: list[Result] = []
        self._error: BaseException | None = None
        self.is_awaited = False

    def ping(self) -> str:
        """The host's name, as soon as the process is up."""
        return socket.gethostname()

    def start(self) -> dict[str, Any]:
        """Loads the teacher; tells which, and where."""
        self._worker = self._build(self._number)
        return self._worker.info

    def work(self, tasks: list[Task]) -> list[Result] | None:
        """Takes images, waits until some are finished, and returns these; at once if another call waits for them.

        None in a process that replaced the one that was meant, without a teacher yet.

        Raises:
            Exception: as the worker raised it, once what was finished before is handed back.
        """
        if self._worker is None:
            return None
        with self._changed:
            self._held += len(tasks)
            for task in tasks:
                self._threads.submit(self._label, self._worker, task)
            if self.is_awaited or not self._held:
                return []
            self.is_awaited = True
            self._changed.wait_for(lambda: self._finished or self._error)
            # Half of what is here: the other half keeps the device busy until more arrives.
            self._changed.wait_for(lambda: self._error or 2 * len(self._finished) >= self._held, LINGER_SECONDS)
            self.is_awaited = False
            if self._error is not None and not self._finished:
                raise self._error
            finished, self._finished = self._finished, []
            self._held -= len(finished)
            return finished

    def _label(self, worker: Worker, task: Task) -> None:
        try:
            result = worker.label(task)
        except BaseException as error:  # handed to the driver, whatever it is
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()
            return
        with self._changed:
            self._finished.append((task.key, result))
            self._changed.notify_all()
