"""Which process is at a run: told on its own machine from the process itself, elsewhere by how long it is silent."""

import contextlib
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEAT_SECONDS = 30.0  # a live run shows a sign of life this often
LIVE_SECONDS = 3 * BEAT_SECONDS  # silence of more than this is taken for death
GONE = "ZX"  # states of a process that has ended, but was not collected yet


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process, so that it is known again.

    Attributes:
        machine: the boot of the machine and the namespace of process ids; empty where the system does not tell.
        started: when the process began, in ticks since the boot; ids are used again.
    """

    host: str
    pid: int
    machine: str = ""
    started: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Any) -> "Process":
        """The process that `to_dict` described; fields that do not read are unknown."""
        known = document if isinstance(document, dict) else {}
        pid = known.get("pid")
        texts = {name: str(known.get(name) or "") for name in ("host", "machine", "started")}
        return cls(pid=pid if isinstance(pid, int) else 0, **texts)

    @property
    def is_alive(self) -> bool | None:
        """Whether it still runs; None if that cannot be told from here: it is on another machine."""
        if not self.machine or self.machine != this_machine():
            return None
        return self.started != "" and _started(self.pid) == self.started


def this_process() -> Process:
    """The process that asks."""
    pid = os.getpid()
    return Process(host=socket.gethostname(), pid=pid, machine=this_machine(), started=_started(pid))


def this_machine() -> str:
    """Differs from machine to machine, and between containers that do not see each other's processes."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def seconds_since(time: str | None) -> float:
    """Seconds since a time in ISO spelling; endless if it does not read."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(time))).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def _started(pid: int) -> str:
    """When a process began; empty if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in GONE else fields[19]
    except (OSError, IndexError):
        return ""
