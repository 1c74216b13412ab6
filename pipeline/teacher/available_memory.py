"""Memory that a pass may take: of a GPU, or of what the machine and its control groups leave a process.

The kernel kills a process in a container that goes beyond its group's limit, however much the machine has.
"""

import os
from collections.abc import Iterator
from pathlib import Path

GPU_SHARE = 0.9  # of a GPU's memory, for all passes on it; the rest is for what other libraries take
CPU_SHARE = 0.75  # of what is left, for all passes together; the rest is for decoding, writing and neighbors


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be taken without swapping or being killed; half of the memory where the system does not tell.

    Args:
        proc, groups: where Linux shows processes and control groups.
    """
    meminfo = proc / "meminfo"
    if not meminfo.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
    left = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0, min([left, *_left_in_groups(proc / "self" / "cgroup", groups)]))


def _left_in_groups(membership: Path, groups: Path) -> Iterator[int]:
    """What each limited group leaves, from the process's own up to the root; version 2 and version 1 of the tree."""
    lines = membership.read_text(encoding="utf-8").splitlines() if membership.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _upward(groups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            yield from _upward(root, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _upward(root: Path, path: str, limit: str, usage: str, cached: str) -> Iterator[int]:
    """Limit less usage of a group and of those above it; files that the kernel can drop do not count as used."""
    # Inside a container the path may name groups that are not to be seen there; the root then is its own group.
    group = root / path.strip("/")
    for folder in [group, *group.parents]:
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None:
            yield most - used + _statistic(folder / "memory.stat", cached)
        if folder == root:
            return


def _number(file: Path) -> int | None:
    """The number in a file; None for `max`, and where there is no such file."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic(file: Path, name: str) -> int:
    try:
        entries = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(entries.get(name, 0))


def gpu_budget(free: int, total: int, own: int, share: float) -> float:
    """Bytes that a pass of one teacher may take beside the model.

    A share of the whole GPU less what this process holds, because others may not have taken theirs yet; never more
    than is free now.

    Args:
        free, total: of the GPU. own: what this process has reserved of it. share: of this teacher, 0..1.
    """
    return max(0.0, GPU_SHARE * min(share * total - own, free))
