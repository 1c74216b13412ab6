"""Which addresses the processes of a test listen on, from /proc; Linux only."""

import contextlib
import glob
import os
import re
from pathlib import Path

from tests.processes import family_of

# 127.0.0.1, the same as an IPv6 address, and ::1, as /proc spells them.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listening_sockets() -> dict[str, str]:
    """Address of every listening TCP socket of this machine by its inode."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return {fields[9]: fields[1].partition(":")[0] for fields in lines if fields[3] == "0A"}


def sockets_of(pid: int) -> set[str]:
    """Inodes of a process's sockets; none if it has ended."""
    found = set()
    for link in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            found |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
    return found


def listening_addresses(pid: int) -> list[str]:
    """Address of each socket on which a process or one below it listens, as /proc spells them."""
    listening = listening_sockets()
    return [listening[inode] for member in family_of(pid) for inode in sockets_of(member) if inode in listening]
