"""How a run ends early: the first Ctrl-C or SIGTERM finishes what is on the devices, the second one leaves at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # None: a handler that was not installed from Python cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def threads_left() -> bool:
    """Whether threads of a run are still at work, because one hangs or nobody was to wait for them.

    The interpreter ends such threads in the middle of C++, which aborts the process: its exit code would be 134.
    """
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())
