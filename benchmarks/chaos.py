"""SIGKILL at random moments for the driver, an actor or a host's raylet of a run: what is left is whole, once, right.

A cluster of three Ray nodes on this machine: a head, and two hosts with room for one worker each. `hmsa-label run` is
started again whenever it ends; a killed raylet is replaced. When a run is done before the kills are, the next one
begins with an empty store. Every store is compared with an undisturbed run, and looked at by `audit verify --deep`.

    python benchmarks/chaos.py --kills 100 --output benchmarks/results/chaos.md
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from engine_parts import RAY_ENVIRONMENT, config_of, descendants, draw_images, kill, load, processes
from results_page import markdown, page, publish

from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake_arguments

ROOT = Path(__file__).resolve().parents[1]
SIZE, MS = (24, 40), 60  # per image
# A dead host is noticed in seconds; Ray's own default is a minute.
HEALTH = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
PAUSE_SECONDS = (0.2, 4.0)  # before a kill at any moment, be it while a driver starts
FLOW_SECONDS = (0.0, 1.5)  # before a kill once images are labeled again
STUCK_SECONDS = 180.0
ADDING_ATTEMPTS = 5
TARGETS = ("driver", "actor", "raylet")


@dataclass
class Tally:
    """What the kills led to.

    Attributes:
        starts: of `hmsa-label run`; gave_up: those that ended with an error of their own, by its last line.
        written: images that were written to a store, and `kept` those of them that are part of its manifest.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    gave_up: Counter[str] = field(default_factory=Counter)
    stores: int = 0
    images: int = 0
    lost: int = 0
    duplicated: int = 0
    written: int = 0
    faults: list[str] = field(default_factory=list)


class Nodes:
    """The cluster; hosts are replaced when their raylet is gone."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.hosts: list[Any] = [self._add() for _ in range(2)]
        self.cluster.wait_for_nodes()

    def _add(self) -> Any:
        """Another host; Ray grants it 30 s to start, which a busy machine may exceed."""
        for attempt in range(ADDING_ATTEMPTS):
            try:
                return self.cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
            except Exception as error:  # Ray raises a bare one
                print(f"attempt {attempt} to add a host failed: {error}", file=sys.stderr)
        raise RuntimeError("no host can be added to the cluster")

    def raylet_pid(self, host: Any) -> int:
        """Process id of a host's raylet."""
        (info,) = host.all_processes["raylet"]
        return int(info.process.pid)

    def kill_raylet(self, random: Random) -> None:
        """SIGKILL of one raylet; the host's workers notice by themselves, and another host comes."""
        host = random.choice(self.hosts)
        kill([self.raylet_pid(host)])
        self.hosts.remove(host)
        self.cluster.remove_node(host, allow_graceful=False)
        self.hosts.append(self._add())

    def actors(self) -> list[int]:
        """Processes of our workers, whose names Ray sets."""
        ours = {pid for host in self.hosts for pid in descendants(self.raylet_pid(host))}
        return [pid for pid, _, line in processes() if pid in ours and line.startswith("ray::WorkerActor")]

    def close(self) -> None:
        """Ends all."""
        self.cluster.shutdown()


class Run:
    """`hmsa-label run`, started again and again on one store."""

    def __init__(self, folder: Path, store: Path, address: str, tally: Tally) -> None:
        self.store = store
        self._tally = tally
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the run
        source = ["--data", str(folder), "--dataset", "folder", "--split", "all", *fake_arguments(ms=MS)]
        program = str(Path(sys.executable).parent / "hmsa-label")
        self._command = [program, "run", *source, "--store", str(store), "--ray-address", address]
        self._command += ["--workers", "2", "--json"]
        self.start()

    def start(self) -> None:
        """Begins, or goes on."""
        self._tally.starts += 1
        self._errors.seek(0)
        self._errors.truncate()
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._errors, cwd=ROOT)

    def is_done(self) -> bool:
        """Whether it has ended well; if it ended otherwise, it is started again, and what it said is counted."""
        code = self.process.poll()
        if code is None or code == 0:
            return code == 0
        if code > 0:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or [""])[-1]
            self._tally.gave_up[f"exit code {code}: {last[:200]}"] += 1
        self.start()
        return False

    def receipts(self) -> int:
        """Images written so far."""
        return sum(1 for _ in self.store.glob("data/*/receipts/*.json"))

    def end(self) -> None:
        """Ends the driver, whatever it does."""
        kill([self.process.pid])
        self.process.wait()


def strike(run: Run, nodes: Nodes, random: Random, tally: Tally) -> None:
    """One kill; none if an actor is drawn and there is none yet."""
    target = random.choice(TARGETS)
    if target == "raylet":
        nodes.kill_raylet(random)
    elif target == "driver":
        run.end()
    elif actors := nodes.actors():
        kill([random.choice(actors)])
    else:
        return
    tally.kills[target] += 1


def run_through(run: Run, nodes: Nodes, random: Random, tally: Tally, kills: int) -> None:
    """Kills until they are used up or the run is done, and lets it come to its end.

    Raises:
        RuntimeError: if nothing is written any more, though nothing is killed.
    """
    moment, seen, seen_at = Moment(random), -1, time.monotonic()
    while not run.is_done():
        time.sleep(0.05)
        if (written := run.receipts()) != seen:
            moment.images_flow(seen < 0)
            seen, seen_at = written, time.monotonic()
        if tally.kills.total() < kills and moment.has_come():
            strike(run, nodes, random, tally)
            print(f"{tally.kills.total()} of {kills} kills, {written} images", file=sys.stderr)
            moment, seen_at = Moment(random), time.monotonic()
        if time.monotonic() - seen_at > STUCK_SECONDS:
            raise RuntimeError(f"stuck at {seen} images for {STUCK_SECONDS:g} s")


class Moment:
    """When to kill next: half of the times whatever is going on, half of them a little after images are labeled."""

    def __init__(self, random: Random) -> None:
        now, self._at = time.monotonic(), float("inf")
        if random.random() < 0.5:
            self._at = now + random.uniform(*PAUSE_SECONDS)
        self._flow = random.uniform(*FLOW_SECONDS)

    def images_flow(self, at_first: bool) -> None:
        """Images were labeled since the last kill; what was there at first does not count."""
        if not at_first:
            self._at = min(self._at, time.monotonic() + self._flow)

    def has_come(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._at


def check(run: Run, images: int, wanted: str, tally: Tally) -> None:
    """Counts what one finished store holds."""
    store = LabelStore.open(str(run.store))
    keys = store.keys()
    tally.stores += 1
    tally.images += images
    tally.lost += images - len(set(keys))
    tally.duplicated += len(store.table()) - len(set(keys))
    tally.written += run.receipts()
    tally.faults += [f"{problem.kind} {problem.key} {problem.detail}" for problem in verify(str(run.store))]
    if store.digest != wanted:
        tally.faults.append("other labels than those of an undisturbed run")


def measure(folder: str | None, images: int, kills: int, seed: int) -> tuple[str, bool]:
    """The result page, and whether nothing was lost, doubled or damaged."""
    busy, began, random, tally = load(), time.monotonic(), Random(seed), Tally()
    with tempfile.TemporaryDirectory(dir=folder) as name, contextlib.ExitStack() as stack:
        place = Path(name)
        draw_images(place, images, SIZE)
        whole = {"data": name, "store": f"{name}/whole", "ms": 0, "engine": {"executor": "local"}}
        wanted = label_images(config_of(whole)).digest
        nodes = Nodes()
        stack.callback(nodes.close)
        while tally.kills.total() < kills or not tally.stores:
            run = Run(place, place / f"labels{tally.stores}", nodes.cluster.address, tally)
            try:
                run_through(run, nodes, random, tally, kills)
            finally:
                run.end()
            check(run, images, wanted, tally)
        text = page("SIGKILL of drivers, actors and raylets", name, explanation(images, busy), *results(tally, began))
    return text, not (tally.faults or tally.lost or tally.duplicated)


def explanation(images: int, busy: str) -> str:
    """What was done."""
    return (
        f"{images} images of {SIZE[0]}x{SIZE[1]} per store, fake teacher of {MS} ms, two workers. Half of the "
        f"kills come {PAUSE_SECONDS[0]:g} to {PAUSE_SECONDS[1]:g} s after the last one, whatever is going on, half of "
        f"them up to {FLOW_SECONDS[1]:g} s after the first image that is labeled since. {busy}."
    )


def results(tally: Tally, began: float) -> list[str]:
    """The table, and what there is to say beside it."""
    rows = [[f"SIGKILL: {target}", str(tally.kills[target])] for target in TARGETS]
    rows += [
        ["starts of the driver", str(tally.starts)],
        ["drivers that ended with an error of their own", str(tally.gave_up.total())],
        ["stores, each finished", str(tally.stores)],
        ["images asked for", str(tally.images)],
        ["images lost", str(tally.lost)],
        ["images twice in a manifest", str(tally.duplicated)],
        ["images labeled again after a kill, and not kept", str(tally.written - tally.images)],
        ["problems found by `audit verify --deep`, other labels", str(len(tally.faults))],
        ["seconds in all", f"{time.monotonic() - began:.0f}"],
    ]
    errors = [f"- {count} times {what}" for what, count in tally.gave_up.items()]
    return [markdown(["", "count"], rows), *(f"- {fault}" for fault in tally.faults), *errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--images", type=int, default=2000, help="per store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the stores are put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    os.environ.update({**RAY_ENVIRONMENT, **HEALTH})
    text, sound = measure(arguments.folder, arguments.images, arguments.kills, arguments.seed)
    publish(text, arguments.output)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
