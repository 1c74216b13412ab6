"""The process that takes the damaged inputs: `python -m tests.fuzz.child`, one input per line, one answer per line.

A process of its own, because a hang, a crash or a gigabyte of memory must not take the tests with it.
"""

import importlib
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

MEMORY_BYTES = 6_000_000_000  # above what it has at the start; beyond it an input gets a MemoryError


def _status(name: str) -> int:
    """A line of the process' status in bytes, such as VmHWM, the most memory that it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


def _forget_peak() -> int:
    """Memory held now; the peak counts from here on, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def main() -> None:
    kind = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")  # what a library prints must not be taken for an answer
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        os.chdir(folder)
        target = importlib.import_module(f"tests.fuzz.{kind}").Target(Path(folder))
        with suppress(ValueError, OSError):
            limit = _status("VmSize") + MEMORY_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            before, started, fault = _forget_peak(), time.monotonic(), ""
            try:
                target.run(int(line))
            except BaseException as error:  # a panic in Rust is no Exception
                fault = f"{type(error).__name__}: {str(error)[:300]}\n{''.join(traceback.format_exc()[-1500:])}"
            seconds, growth = time.monotonic() - started, _status("VmHWM") - before
            print(json.dumps({"fault": fault, "seconds": seconds, "growth": growth}), file=answers, flush=True)


if __name__ == "__main__":
    main()
