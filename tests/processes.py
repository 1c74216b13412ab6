"""Which processes of this machine belong together, from /proc."""

import contextlib
from pathlib import Path


def family_of(pid: int) -> list[int]:
    """A process, its children, their children and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found
