"""Result files of the store benchmarks: what was run, when, on what machine, and the tables."""

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path


def page(title: str, folder: str, *parts: str) -> str:
    """Markdown of one result: title, command, machine, date, then the parts."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    facts = f"`{command}`  \n{machine(folder)}, {datetime.now(UTC):%Y-%m-%d}"
    return "\n\n".join([f"# {title}", facts, *parts]) + "\n"


def machine(folder: str) -> str:
    """The machine in words: cores, processor, the filesystem a folder is on."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} {'cores' if cores > 1 else 'core'} of {processor()}, {filesystem_of(folder)}"


def processor() -> str:
    """The processor's name as the system gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


def filesystem_of(folder: str) -> str:
    """Type of the filesystem below a folder, such as ext4."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    path = os.path.realpath(folder)
    above = [mount for mount in mounts if os.path.commonpath([path, mount[0]]) == mount[0]]
    return max(above, key=lambda mount: len(mount[0]))[1]


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    lines = ["| " + " | ".join(columns) + " |", "| --- " + "| ---: " * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def publish(text: str, output: str | None) -> None:
    """Prints a result, and writes it to a file if one is given."""
    print(text)
    if output:
        Path(output).write_text(text)
