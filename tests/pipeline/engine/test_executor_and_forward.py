"""Threads around one forward thread: reports, batches, errors."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.engine.events import WorkerLoading, WorkerStarted
from hmsa_label.pipeline.engine.executor import LocalExecutor, Task, TaskDone
from hmsa_label.pipeline.errors import DeviceLost, EngineError
from hmsa_label.pipeline.interrupt import threads_left
from hmsa_label.pipeline.label.forward_thread import ForwardThread
from hmsa_label.pipeline.records import Failure, LabeledImage, Wanted
from hmsa_label.stores.images.source import BadImage, ImageRef

WANTED = Wanted(thresholds=np.array([0.5, 0.9], np.float32))


class Recorder:
    """A teacher that notes its batches and threads; the first `failures` calls raise `error`."""

    def __init__(self, error: Exception | None = None, failures: int = 99) -> None:
        self.classes, self.info = CITYSCAPES, {"model": "recorder"}
        self.batches: list[list[tuple[int, ...]]] = []
        self.threads: set[int] = {threading.get_ident()}
        self.hold: Callable[[], None] = lambda: None  # what each pass begins with
        self._error, self._failures = error, failures

    def evidence(self, images, wanted):
        self.threads.add(threading.get_ident())
        self.batches.append([image.shape for image in images])
        self.hold()
        if self._error is not None and len(self.batches) <= self._failures:
            raise self._error
        return [LabeledImage(arrays={"label": image[..., 0].copy()}, mean_confidence=1.0) for image in images]


def hold_the_first_pass(teacher: Recorder, forward: ForwardThread, images: int) -> None:
    """The first pass of `teacher` lasts until all images are in it or wait behind it."""

    def hold() -> None:
        while len(teacher.batches) == 1 and len(teacher.batches[0]) + waiting() < images:
            threading.Event().wait(0.001)

    def waiting() -> int:
        return len(forward._waiting) + forward._queue.qsize()

    teacher.hold = hold


def label_at_once(forward: ForwardThread, images: list[np.ndarray]) -> list[np.ndarray]:
    """Labels of all images, each asked for from a thread of its own at about the same time."""
    labels: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        labels[number] = forward.label(images[number])[0].label

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    return [labels[number] for number in range(len(images))]


def images(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    return [np.full((*size, 3), number, np.uint8) for number, size in enumerate(sizes)]


def test_teacher_is_built_and_called_in_one_thread_which_is_not_ours():
    teachers: list[Recorder] = []

    def load() -> Recorder:
        teachers.append(Recorder())
        return teachers[0]

    forward = ForwardThread(load, WANTED, 1)
    label_at_once(forward, images([(2, 3)] * 5))
    assert len(teachers[0].threads) == 1
    assert threading.get_ident() not in teachers[0].threads
    forward.close()


def test_batches_hold_images_of_one_size_and_everybody_gets_his_own_labels():
    teacher = Recorder()
    forward = ForwardThread(lambda: teacher, WANTED, 3)
    asked = images([(2, 3), (4, 5), (2, 3), (4, 5), (2, 3), (2, 3), (2, 3), (4, 5)])
    hold_the_first_pass(teacher, forward, 8)
    labels = label_at_once(forward, asked)
    for image, label in zip(asked, labels, strict=True):
        np.testing.assert_array_equal(label, image[..., 0])
    assert all(len(set(batch)) == 1 and len(batch) <= 3 for batch in teacher.batches)
    assert max(len(batch) for batch in teacher.batches) > 1
    forward.close()


def test_batch_of_one_never_joins_images():
    teacher = Recorder()
    forward = ForwardThread(lambda: teacher, WANTED, 1)
    hold_the_first_pass(teacher, forward, 6)
    label_at_once(forward, images([(2, 3)] * 6))
    assert [len(batch) for batch in teacher.batches] == [1] * 6
    forward.close()


def test_error_while_loading_reaches_the_caller():
    def load() -> Recorder:
        raise ValueError("these weights are for another network")

    with pytest.raises(ValueError, match="another network"):
        ForwardThread(load, WANTED, 1)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("odd size"), ValueError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceLost),
    ],
)
def test_error_of_the_teacher_reaches_the_caller_and_the_thread_goes_on(error, expected):
    forward = ForwardThread(lambda: Recorder(error=error, failures=1), WANTED, 1)
    (image,) = images([(2, 3)])
    with pytest.raises(expected):
        forward.label(image)
    assert forward.label(image)[0].label.shape == (2, 3)
    forward.close()


def test_of_a_batch_only_the_image_that_does_not_fit_fails():
    class Tight(Recorder):
        def evidence(self, images, wanted):
            labeled = super().evidence(images, wanted)
            if any(image[0, 0, 0] == 1 for image in images):
                raise BadImage("an image of 2 x 3 px ran out of memory")
            return labeled

    teacher = Tight()
    forward = ForwardThread(lambda: teacher, WANTED, 3)
    hold_the_first_pass(teacher, forward, 4)
    outcomes: dict[int, object] = {}

    def ask(number: int, image: np.ndarray) -> None:
        try:
            outcomes[number] = forward.label(image)[0].label[0, 0]
        except BadImage as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(images([(2, 3)] * 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert outcomes == {0: 0, 1: "an image of 2 x 3 px ran out of memory", 2: 2, 3: 3}
    assert max(len(batch) for batch in teacher.batches) > 1
    forward.close()


class SlowToFree(Recorder):
    """A teacher that takes a moment to be freed, as a real network does."""

    def __init__(self, freed: list[str], **options) -> None:
        super().__init__(**options)
        self._freed = freed

    def __del__(self) -> None:
        threading.Event().wait(0.1)
        self._freed.append("freed")


def test_closing_waits_until_the_teacher_is_freed():
    freed: list[str] = []
    forward = ForwardThread(lambda: SlowToFree(freed), WANTED, 1)
    label_at_once(forward, images([(2, 3)] * 2))
    forward.close()
    assert freed == ["freed"]
    forward.close()  # once more does nothing


class Gate(Recorder):
    """A teacher whose passes begin and end under control."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.opened = threading.Event(), threading.Event()

    def evidence(self, *arguments):
        self.begun.set()
        assert self.opened.wait(10)
        return super().evidence(*arguments)


def test_closing_drops_what_waits_and_takes_nothing_more():
    teacher = Gate()
    forward = ForwardThread(lambda: teacher, WANTED, 1)
    outcomes: dict[int, str] = {}

    def ask(number: int) -> None:
        try:
            forward.label(images([(2, 3)])[0])
            outcomes[number] = "labeled"
        except EngineError as error:
            outcomes[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    threads[0].start()
    assert teacher.begun.wait(10)
    threads[1].start()
    closing = threading.Thread(target=forward.close)
    closing.start()
    while not forward.is_closed:
        pass
    teacher.opened.set()
    for thread in [*threads, closing]:
        thread.join(10)
    assert outcomes == {0: "labeled", 1: "the worker was closed before the image had its turn"}
    assert len(teacher.batches) == 1
    with pytest.raises(EngineError, match="was closed"):
        forward.label(images([(2, 3)])[0])


class Echo:
    """A worker that fails every image, naming it; or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.info = {"model": "echo"}
        self.closed = False
        self._error = error

    def label(self, task: Task) -> Failure:
        if self._error is not None:
            raise self._error
        return Failure(key=task.key, reason="echo")

    def close(self) -> None:
        self.closed = True


def collect(executor: LocalExecutor, enough: Callable[[list[object]], bool]) -> list[object]:
    reports: list[object] = []
    deadline = time.monotonic() + 10
    while not enough(reports) and time.monotonic() < deadline:
        reports += executor.poll(0.1)
    return reports


def task(key: str) -> Task:
    return Task(image=ImageRef(key=key, image=key), run_id="r")


def test_local_executor_reports_starts_and_results_and_lets_go_at_the_end():
    workers = [Echo(), Echo()]
    executor = LocalExecutor(lambda worker: workers[worker], workers=2, threads=2)
    began = collect(executor, lambda reports: len(reports) == 4)
    assert {report.worker for report in began if isinstance(report, WorkerStarted)} == {0, 1}
    assert {report.worker for report in began if isinstance(report, WorkerLoading)} == {0, 1}
    for number in range(10):
        executor.assign(number % 2, task(str(number)))
    results = collect(executor, lambda reports: len(reports) == 10)
    assert {report.result.key: report.worker for report in results if isinstance(report, TaskDone)} == {
        str(number): number % 2 for number in range(10)
    }
    executor.close()
    assert all(worker.closed for worker in workers)


def test_local_executor_raises_what_a_worker_raised_after_what_was_finished_before():
    executor = LocalExecutor(lambda worker: Echo(EngineError("the storage is gone")), workers=1, threads=1)
    began = collect(executor, lambda reports: len(reports) == 2)
    assert began == [WorkerLoading(worker=0), WorkerStarted(worker=0, info={"model": "echo"})]
    executor.assign(0, task("a"))
    with pytest.raises(EngineError, match="the storage is gone"):
        collect(executor, bool)
    executor.close()


def test_local_executor_cannot_restart_a_worker_and_says_what_can():
    executor = LocalExecutor(lambda worker: Echo(), workers=1, threads=1)
    with pytest.raises(EngineError, match=r"worker 0 hangs; .*--executor ray"):
        executor.restart(0, "worker 0 hangs")
    executor.close()


class Loading:
    """Builds workers once it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.built = threading.Event(), threading.Event(), Echo()

    def __call__(self, worker: int) -> Echo:
        self.begun.set()
        assert self.go_on.wait(10)
        return self.built


def test_closing_waits_for_a_worker_that_still_loads():
    loading, before = Loading(), set(threading.enumerate())
    executor = LocalExecutor(loading, workers=1, threads=2)
    assert loading.begun.wait(10)
    closing = threading.Thread(target=executor.close)
    closing.start()
    loading.go_on.set()
    closing.join(10)
    assert loading.built.closed
    assert set(threading.enumerate()) - {closing} <= before


def test_closing_without_waiting_leaves_a_worker_that_still_loads_behind():
    loading, before = Loading(), set(threading.enumerate())
    executor = LocalExecutor(loading, workers=1, threads=1)
    assert loading.begun.wait(10)
    executor.close(wait=False)
    assert threads_left()
    loading.go_on.set()
    executor.close()
    assert loading.built.closed
    assert set(threading.enumerate()) <= before
