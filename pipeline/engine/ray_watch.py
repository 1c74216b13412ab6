"""Whether the Ray that a run works on is still there: its head, and a host at least where the Ray is our own.

A question to a head that is gone comes back after Ray's own patience only, and Ray then ends the driver with exit code
1, which means another thing here. So a thread of its own asks, and the driver looks at when the last answer came.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.interrupt import THREAD_NAME

ASK_SECONDS = 1.0
HEAD_SECONDS = 30.0
CLOSE_SECONDS = 1.0
AGAIN = "what is finished is kept, and the same command goes on"

Hosts = Sequence[Mapping[str, float]]


class RayWatch:
    """Asks the head for its hosts again and again.

    Attributes:
        hosts: what Ray may give away on each host that is alive, by the last answer.
    """

    def __init__(self, ask: Callable[[], Hosts], *, is_own: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Asks for the first time, and waits for the answer.

        Args:
            is_own: whether this Ray was started by this process; then it is of no use without a host.
        """
        self._ask = ask
        self._is_own = is_own
        self._clock = clock
        self.hosts = ask()
        self._answered_at = clock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name=f"{THREAD_NAME} watch")
        self._thread.start()

    def trouble(self) -> EngineError | None:
        """Why the run cannot go on; None if it can."""
        if self._clock() - self._answered_at > HEAD_SECONDS:
            return EngineError(f"the head of the Ray cluster has not answered for {HEAD_SECONDS:g} s; {AGAIN}")
        if self._is_own and not self.hosts:
            return EngineError(
                f"the Ray of this run has lost its only node (its raylet process is gone); {AGAIN}. If the memory was "
                "too small, try fewer --workers"
            )
        return None

    def close(self) -> None:
        """Asks no more."""
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)  # it may be waiting for an answer that never comes

    def _serve(self) -> None:
        while not self._closed.wait(ASK_SECONDS):
            with contextlib.suppress(Exception):  # no answer, and that is all there is to know
                self.hosts = self._ask()
                self._answered_at = self._clock()
