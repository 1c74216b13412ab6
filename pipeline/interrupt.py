"""How a run ends early: the first Ctrl-C or SIGTERM finishes what is on the devices, the second one leaves at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# SIGTERM is what a preempted host, a batch system and `ray job stop` send.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
THREAD_NAME = "hmsa-label"  # how the names of all threads of a run begin


@contextmanager
def drain_on_signals() -> Iterator[threading.Event]:
    """An event that the first signal sets; a second signal raises KeyboardInterrupt. Earlier handlers come back after.

    To be entered after `ray.init`, which installs a handler of its own. Outside the main thread no handler can be
    installed; the event is then never set.
    """
    stop = threading.Event()

    def ask() -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with _handling(ask):
        yield stop


@contextmanager
def _handling(ask: Callable[[], None]) -> Iterator[None]:
    """Calls `ask` for each signal; in other threads than the main one no handler can be installed, and nothing is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda number, frame: ask()) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Stopped(BaseException):
    """Work that is abandoned because somebody asked to stop; no error, so that nothing that handles these takes it."""


class StopRequest:
    """A request to stop that comes by signal: noticed between steps, or at once inside `at_once`."""

    def __init__(self) -> None:
        self._asked = self._now = False

    def is_set(self) -> bool:
        """Whether somebody asked to stop."""
        return self._asked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, a request raises `Stopped` wherever the main thread is; one that came before does so on entering."""
        self._now = True
        try:
            if self._asked:
                raise Stopped
            yield
        finally:
            self._now = False

    def ask(self) -> None:
        """What a signal does: the first asks, the second raises KeyboardInterrupt."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if self._now:
            raise Stopped


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """A request that the first Ctrl-C or SIGTERM makes; a second one raises KeyboardInterrupt."""
    stop = StopRequest()
    with _handling(stop.ask):
        yield stop


def threads_left() -> bool:
    """Whether threads of a run are still at work, because one hangs or nobody was to wait for them.

    The interpreter ends such threads in the middle of C++, which aborts the process: its exit code would be 134.
    """
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())
