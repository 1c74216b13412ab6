"""The one thread of a worker that touches its teacher.

It has a thread of its own because cuDNN keeps its tuned plans per thread, and inference mode, autocast and the number
of OpenMP threads are per thread too: forwards from many threads would tune, and set all that, once each.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from hmsa_label.labelers.device_errors import is_device_lost, one_line
from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.errors import DeviceLost, EngineError
from hmsa_label.pipeline.interrupt import THREAD_NAME
from hmsa_label.pipeline.records import U8, LabeledImage, Wanted
from hmsa_label.stores.images.source import BadImage

CLOSE_SECONDS = 30.0
CLOSED = "the worker was closed before the image had its turn"


class AnyTeacher(Protocol):
    """What the thread needs of a teacher."""

    classes: ClassTable
    info: dict[str, Any]

    def evidence(self, images: list[U8], wanted: Wanted) -> list[LabeledImage]:
        """What it says of [H, W, 3] uint8 RGB images of one size."""


@dataclass(frozen=True, kw_only=True, eq=False)  # arrays have no one truth value: only the object itself is equal
class _Waiting:
    """An image that waits for the device, and where its labels and seconds go."""

    image: U8
    answer: Future[tuple[LabeledImage, float]] = field(default_factory=Future)


class ForwardThread:
    """Loads a teacher in a thread of its own and asks it there about what other threads bring.

    Images that wait at the same time and are equal in size share a batch of up to `batch_size`; the device never waits
    for a batch to fill.

    Attributes:
        is_closed: whether it takes no images any more.
    """

    def __init__(self, load: Callable[[], AnyTeacher], wanted: Wanted, batch_size: int) -> None:
        """Returns once the teacher is loaded.

        Raises:
            Exception: whatever `load` raised.
        """
        self._wanted = wanted
        self._batch_size = batch_size
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._waiting: deque[_Waiting] = deque()
        self.is_closed = False
        self._closing = threading.Lock()
        loaded: Future[AnyTeacher] = Future()
        name = f"{THREAD_NAME} forward"
        self._thread = threading.Thread(target=self._serve, args=(load, loaded), daemon=True, name=name)
        self._thread.start()
        teacher = loaded.result()
        self.classes, self.info = teacher.classes, teacher.info

    def label(self, image: U8) -> tuple[LabeledImage, float]:
        """What the teacher says of one [H, W, 3] uint8 RGB image, and the seconds that it took; waits its turn.

        Raises:
            DeviceLost: if the device cannot be used by this process any more.
            EngineError: if the thread is closed.
            BadImage: if this image alone cannot be labeled, such as one that is too large for the memory.
            Exception: as the teacher raised it.
        """
        waiting = _Waiting(image=image)
        with self._closing:
            if self.is_closed:
                raise EngineError(CLOSED)
            self._queue.put(waiting)
        return waiting.answer.result()

    def close(self) -> None:
        """Drops what waits and lets the teacher go; returns when it is gone, or after 30 s if a pass takes longer.

        A process that ends while its teacher is being freed is aborted (exit code 134): the thread comes back from
        torch, finds no interpreter, and is ended where C++ allows no such end.
        """
        with self._closing:
            self.is_closed = True
            self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _serve(self, load: Callable[[], AnyTeacher], loaded: Future[AnyTeacher]) -> None:
        try:
            teacher = load()
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(teacher)
        del loaded
        while batch := self._take_batch():
            for part in self._answer(teacher, batch):
                self._answer(teacher, [part])

    def _take_batch(self) -> list[_Waiting]:
        """The image that waits longest and others of its size; empty when the thread is to end."""
        with contextlib.suppress(Empty):
            while True:
                item = self._queue.get(block=not self._waiting)
                if item is None:
                    for waiting in self._waiting:
                        waiting.answer.set_exception(EngineError(CLOSED))
                    return []
                self._waiting.append(item)
        size = self._waiting[0].image.shape
        batch = [waiting for waiting in self._waiting if waiting.image.shape == size][: self._batch_size]
        for waiting in batch:
            self._waiting.remove(waiting)
        return batch

    def _answer(self, teacher: AnyTeacher, batch: list[_Waiting]) -> list[_Waiting]:
        """Answers all of a batch; or none of it, and returns it, if one of several images is at fault."""
        try:
            self._forward(teacher, batch)
        except Exception as error:
            if isinstance(error, BadImage) and len(batch) > 1:
                return batch
            for waiting in batch:
                waiting.answer.set_exception(_translate(error))
        return []

    def _forward(self, teacher: AnyTeacher, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        labeled = teacher.evidence([waiting.image for waiting in batch], self._wanted)
        seconds = (time.perf_counter() - started) / len(batch)
        for waiting, part in zip(batch, labeled, strict=True):
            waiting.answer.set_result((part, seconds))


def _translate(error: Exception) -> Exception:
    """The error to hand on: one that says so if only a new process can use the device again."""
    if not is_device_lost(error):
        return error
    return DeviceLost(f"the device failed, a new process is needed to use it again: {one_line(error)}")
