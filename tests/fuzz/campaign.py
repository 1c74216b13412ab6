"""Runs damaged inputs of one kind in a process of its own, and watches its errors, time and memory.

One input again:  python -m tests.fuzz.campaign json_records 1234
Many:             python -m tests.fuzz.campaign json_records 0:10000
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS, GROWTH_BYTES = 10.0, 1_000_000_000  # most that one input may take
START_SECONDS = 240.0  # imports, on a machine that is busy


@dataclass
class Report:
    """What came of a campaign.

    Attributes:
        faults: one text per seed whose input ended in an error that is not the package's own, hung, crashed or grew.
        longest, most: seconds and bytes of the slowest input (seed `slowest`) and of the hungriest.
    """

    kind: str
    inputs: int = 0
    faults: dict[int, str] = field(default_factory=dict)
    longest: float = 0.0
    slowest: int | None = None
    most: int = 0

    def __str__(self) -> str:
        figures = f"{self.inputs} inputs, {len(self.faults)} faults, longest {self.longest:.2f} s (seed {self.slowest})"
        lines = [f"{self.kind}: {figures}, growth {self.most / 1e6:.0f} MB"]
        for seed, fault in self.faults.items():
            lines.append(f"seed {seed} (again: python -m tests.fuzz.campaign {self.kind} {seed}): {fault}")
        return "\n".join(lines)


def campaign(kind: str, seeds: Iterable[int], seconds: float = SECONDS, growth: int = GROWTH_BYTES) -> Report:
    """Runs the inputs of some seeds; one that hangs or crashes is named, and the rest goes on.

    Args:
        seconds, growth: most that one input may take.
    """
    report, waiting = Report(kind), iter(seeds)
    while (died := _run(report, waiting, seconds, growth)) is not None:
        report.faults[died[0]] = died[1]
    return report


def _run(report: Report, seeds: Iterator[int], seconds: float, growth: int) -> tuple[int, str] | None:
    """Runs inputs until there are no more, or one ends the process: (its seed, how)."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.child", report.kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) as child:
        try:
            if _answer(child, START_SECONDS) != "ready\n":
                raise RuntimeError(f"the process for {report.kind} did not start")
            for seed in seeds:
                report.inputs += 1
                assert child.stdin is not None
                child.stdin.write(f"{seed}\n")
                child.stdin.flush()
                answer = _answer(child, seconds)
                if not answer:
                    return seed, f"the process ended with {child.wait()}"
                if answer == "late":
                    return seed, f"no end after {seconds:g} s"
                _note(report, seed, json.loads(answer), growth)
            return None
        finally:
            child.kill()


def _answer(child: "subprocess.Popen[str]", seconds: float) -> str:
    """A line of the child's; empty if it has ended, `late` if none comes in time."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline() if ready else "late"


def _note(report: Report, seed: int, facts: dict[str, Any], growth: int) -> None:
    if facts["seconds"] > report.longest:
        report.longest, report.slowest = facts["seconds"], seed
    report.most = max(report.most, int(facts["growth"]))
    if facts["fault"]:
        report.faults[seed] = facts["fault"]
    elif facts["growth"] > growth:
        report.faults[seed] = f"grew by {facts['growth'] / 1e6:.0f} MB"


if __name__ == "__main__":
    first, _, last = sys.argv[2].partition(":")
    print(campaign(sys.argv[1], range(int(first), int(last or int(first) + 1))))
