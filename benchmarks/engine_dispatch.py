"""What one image costs the dispatcher itself, with few workers and with many: no Ray, no threads, no images.

python benchmarks/engine_dispatch.py --output benchmarks/results/engine_dispatch.md
"""

import argparse
import threading
import time
from collections import deque

from results_page import markdown, page, publish

from hmsa_label.pipeline.engine.crew import Limits
from hmsa_label.pipeline.engine.dispatch import Dispatcher
from hmsa_label.pipeline.engine.events import WorkerStarted
from hmsa_label.pipeline.engine.executor import Report, Task, TaskDone
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.images.source import ImageRef

IN_FLIGHT = 4
LIMITS = Limits(in_flight=IN_FLIGHT, item_seconds=1e9, start_seconds=1e9, worker_seconds=1e9)


class Instant:
    """Workers that are done with an image as soon as they are asked; `at_once` results come with each poll."""

    def __init__(self, workers: int, at_once: int) -> None:
        self.workers = workers
        self._at_once = at_once
        self._begun = False
        self._flying: deque[tuple[int, Task]] = deque()

    def assign(self, worker: int, task: Task) -> None:
        self._flying.append((worker, task))

    def poll(self, timeout: float) -> list[Report]:
        if not self._begun:
            self._begun = True
            return [WorkerStarted(worker=worker) for worker in range(self.workers)]
        done = [self._flying.popleft() for _ in range(min(self._at_once, len(self._flying)))]
        return [TaskDone(worker=n, task=task, result=Failure(key=task.key, reason="")) for n, task in done]

    def restart(self, worker: int, reason: str) -> None:
        raise AssertionError(reason)

    def close(self, *, wait: bool = True) -> None:
        """Nothing to end."""


def seconds_per_image(workers: int, images: int, at_once: int) -> float:
    """Time of the dispatcher for one image once all workers are busy."""
    tasks = [Task(image=ImageRef(key=str(n), image=f"{n}.png"), run_id="r") for n in range(images)]
    dispatcher = Dispatcher(Instant(workers, at_once), LIMITS, threading.Event(), lambda event: None)
    dispatcher.wait_for_worker()
    began = time.perf_counter()
    dispatcher.run(tasks, lambda result: None)
    return (time.perf_counter() - began) / images


def measure(images: int, rounds: int) -> str:
    """The result page; sizes take turns, and the fastest round of each counts."""
    rows = []
    for at_once, words in ((1, "one result"), (100, "100 results")):
        best = dict.fromkeys((4, 40, 400, 4000), 1e9)
        for _ in range(rounds):
            for workers in best:
                best[workers] = min(best[workers], seconds_per_image(workers, images, at_once))
        cells = [f"{1e6 * seconds:.1f}" for seconds in best.values()]
        rows.append([words, *cells, f"{best[4000] / best[40]:.2f}"])
    columns = ["each poll brings", *(f"{n} workers, us" for n in (4, 40, 400, 4000)), "4000 over 40"]
    about = f"{images} images, {IN_FLIGHT} in flight per worker, the fastest of {rounds} rounds."
    return page("What an image costs the dispatcher", ".", about, markdown(columns, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    publish(measure(arguments.images, arguments.rounds), arguments.output)


if __name__ == "__main__":
    main()
