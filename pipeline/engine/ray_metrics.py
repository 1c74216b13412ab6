"""Workers on Ray count what they do by Ray's own metrics, which each host offers to Prometheus.

Ray puts `ray_` before each name and `_total` behind those of counters, and adds the host and the session as labels.
"""

import threading
import time
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from hmsa_label.pipeline.engine.executor import Task, Worker
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.format.receipt import Receipt

LABELED, FAILED = "hmsa_label_images_labelled", "hmsa_label_images_failed"
IN_FLIGHT, SECONDS = "hmsa_label_images_in_flight", "hmsa_label_image_seconds"
BOUNDARIES_S = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0]
TAGS = ("worker",)


class MeasuredWorker:
    """A worker whose images are counted and timed; to be made in the process that Ray runs it in."""

    def __init__(self, worker: Worker, number: int) -> None:
        """Measures `worker` under its number, as the label `worker`."""
        self.info: dict[str, Any] = worker.info
        self._worker = worker
        self._flying = 0
        self._lock = threading.Lock()
        self._labeled = Counter(LABELED, "Images that are on storage with their receipt.", TAGS)
        self._failed = Counter(FAILED, "Images that cannot be labeled.", TAGS)
        self._in_flight = Gauge(IN_FLIGHT, "Images between the first byte read and the last byte written.", TAGS)
        self._seconds = Histogram(SECONDS, "Seconds from reading to writing, waiting included.", BOUNDARIES_S, TAGS)
        for metric in (self._labeled, self._failed, self._in_flight, self._seconds):
            metric.set_default_tags({"worker": str(number)})

    def label(self, task: Task) -> Receipt | Failure:
        """As the worker does."""
        began = time.monotonic()
        self._fly(1)
        try:
            result = self._worker.label(task)
        finally:
            self._fly(-1)
        self._seconds.observe(time.monotonic() - began)
        (self._failed if isinstance(result, Failure) else self._labeled).inc()
        return result

    def close(self) -> None:
        """As the worker does."""
        self._worker.close()

    def _fly(self, change: int) -> None:
        with self._lock:
            self._flying += change
            self._in_flight.set(self._flying)
