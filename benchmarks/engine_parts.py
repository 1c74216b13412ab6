"""What the benchmarks of the engine share: drawn images, a driver whose events are data, and processes to kill.

    python benchmarks/engine_parts.py '{"data": "images", "store": "labels", "ms": 200}'

runs a driver and prints one JSON object per event, with the time since the epoch and the ETA that a display would show.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.engine.events import Event, ImageLabeled, Tick

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the fake teacher

from tests.fake_teacher import fake

# Ray reads these when it is imported or when it starts its processes.
RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
PATIENCE_SECONDS = 300.0


def draw_images(folder: Path, count: int, size: tuple[int, int], block_px: int = 8) -> None:
    """Random pictures of [H, W] pixels `all/00000.png` and so on; smooth over `block_px`.

    The fake teacher's labels follow the pixels, so larger blocks give labels that take fewer bytes.
    """
    (folder / "all").mkdir(parents=True, exist_ok=True)
    height, width = size
    for number in range(count):
        blocks = (height // block_px, width // block_px, 3)
        coarse = np.random.default_rng(number).integers(0, 256, blocks, dtype=np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "all" / f"{number:05d}.png"), pixels)


def config_of(run: dict[str, Any]) -> LabelConfig:
    """A run over a folder `all`, from plain data: data, store, ms; if wanted, engine and storage_options."""
    storage = run.get("storage_options", {})
    return LabelConfig(
        data=DataConfig(root=run["data"], dataset="folder", split="all", storage_options=storage),
        teacher=fake(ms=run["ms"]),
        store=run["store"],
        engine=EngineConfig(**run.get("engine", {})),
        storage_options=storage,
    )


class Driver:
    """A driver in a process of its own; what it prints arrives in `events` as long as `poll` is called."""

    def __init__(self, run: dict[str, Any], prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None):
        """Starts it; the prefix is a command that starts commands elsewhere, such as `ip netns exec NAME`."""
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(Path(__file__).resolve()), json.dumps(run)],
            env={**os.environ, **RAY_ENVIRONMENT, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._rest = ""

    def poll(self) -> list[dict[str, Any]]:
        """Events that arrived since the last call."""
        assert self.process.stdout is not None
        with contextlib.suppress(BlockingIOError, TypeError):  # TypeError: nothing there, on a text stream
            self._rest += self.process.stdout.read() or ""
        *lines, self._rest = self._rest.split("\n")
        new = [json.loads(line) for line in lines]
        self.events += new
        return new

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Returns when the condition holds.

        Raises:
            RuntimeError: if the driver ends before, or nothing happens for too long.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self.process.poll() is not None:
                self.poll()
                if condition():
                    return
                raise RuntimeError(f"the driver ended with exit code {self.process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing happened for {PATIENCE_SECONDS:g} s")
            time.sleep(0.02)
            if self.poll():
                deadline = time.monotonic() + PATIENCE_SECONDS

    def finish(self) -> dict[str, Any]:
        """The summary, once the driver has ended well."""
        self.wait_for(lambda: self.process.poll() is not None or self.seen("Summary"))
        self.process.wait(60)
        self.poll()
        if self.process.returncode != 0:
            raise RuntimeError(f"the driver ended with exit code {self.process.returncode}")
        return self.seen("Summary")[0]

    def seen(self, name: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [event for event in self.events if event["event"] == name]


def descendants(pid: int) -> list[int]:
    """Children, their children and so on; Ray puts its own into other process groups."""
    children: dict[int, list[int]] = {}
    for number, parent, _ in processes():
        children.setdefault(parent, []).append(number)
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


def processes() -> Iterator[tuple[int, int, str]]:
    """Process id, parent and command line of everything that runs."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            yield int(entry.name), parent, line


def kill(pids: list[int]) -> None:
    """SIGKILL; those that are gone already do not count."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def load() -> str:
    """What else the machine does, for result pages."""
    return f"load average {os.getloadavg()[0]:.1f} at the start on {len(os.sched_getaffinity(0))} cores"


def drive(run: dict[str, Any]) -> None:
    """A driver that prints its events, and its summary at the end."""
    from hmsa_label.pipeline.label.run import label_images
    from hmsa_label.pipeline.monitor.progress import Counter

    count, quiet_until = Counter(), 0.0

    def show(event: Event) -> None:
        nonlocal quiet_until
        count.update(event)
        if isinstance(event, Tick):
            if time.monotonic() < quiet_until:
                return  # a tick per poll is more than anybody reads
            quiet_until = time.monotonic() + 0.5
        fields = {name: value for name, value in vars(event).items() if isinstance(value, str | int | float)}
        fields |= {"info": event.info} if hasattr(event, "info") else {}
        fields |= {"left": count.seconds_left} if isinstance(event, ImageLabeled) else {}
        print(json.dumps({"at": time.time(), "event": type(event).__name__, **fields}), flush=True)

    summary = label_images(config_of(run), show)
    print(json.dumps({"at": time.time(), "event": "Summary", **asdict(summary)}), flush=True)


if __name__ == "__main__":
    drive(json.loads(sys.argv[1]))
