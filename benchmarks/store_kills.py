"""kill -9 at random moments of label, rethreshold, rollback and gc: what is left is sound, and a restart finishes.

Each operation runs in a process of its own on a store of its own. Half of the kills come at a moment drawn from the
time that it takes undisturbed, the others from the time between its first write and its end. Then `verify --deep` looks
at the newest progress and at every finished version, the same operation is started again until its end, and the result
is compared with that of an undisturbed one.

    python benchmarks/store_kills.py --kills 30 --output benchmarks/results/store_kills.md
"""

import argparse
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import cv2
import numpy as np
from results_page import markdown, page, publish

from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig
from hmsa_label.pipeline.label_run import label_images
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.gc import gc
from hmsa_label.stores.history import store_log
from hmsa_label.stores.label_store import LabelStore
from hmsa_label.stores.manifest import EMPTY
from hmsa_label.stores.rethreshold import rethreshold
from hmsa_label.stores.rollback import rollback
from hmsa_label.stores.schema import ROOT
from hmsa_label.stores.tags import tag
from hmsa_label.stores.verify import verify

IMAGES, SIZE, SECONDS = 40, (64, 96), 120.0
CONTEXT = multiprocessing.get_context("forkserver")


def do_label(folder: str, weights: str = "fake:20ms", relabel: bool = False) -> None:
    """Labels the images of the folder with a teacher that takes its time."""
    config = LabelConfig(
        data=DataConfig(root=folder, dataset="folder", split="all"),
        teacher=TeacherConfig(weights=weights, scales=(1.0,)),
        store=f"{folder}/labels.zarr",
        engine=EngineConfig(executor="local", workers=2),
        relabel=relabel,
    )
    assert not label_images(config).images_failed


def do_rethreshold(folder: str) -> None:
    """Another threshold for all labels."""
    rethreshold(f"{folder}/labels.zarr", 0.7, threads=2)


def do_rollback(folder: str) -> None:
    """Back to the first finished version."""
    rollback(f"{folder}/labels.zarr", finished(folder)[0], "killed now and then")


def do_gc(folder: str) -> None:
    """Deletes what the newest version and the tagged one do not need."""
    gc(f"{folder}/labels.zarr", keep_last=1, apply=True)


OPERATIONS: dict[str, Callable[[str], None]] = {
    "label": do_label,
    "rethreshold": do_rethreshold,
    "rollback": do_rollback,
    "gc": do_gc,
}


@dataclass
class Tally:
    """What the kills of one operation led to.

    Attributes:
        seconds: until its first write and from there to its end, undisturbed; wanted: content digest of its result.
        finished: kills after which readers saw the result already.
        faults: what went wrong, in words.
    """

    seconds: tuple[float, float]
    wanted: str
    kills: int = 0
    finished: int = 0
    faults: list[str] = field(default_factory=list)


def finished(folder: str) -> list[int]:
    """Finished versions that can be read."""
    log = store_log(f"{folder}/labels.zarr")
    return [entry["version"] for entry in log if entry["finished"] and not entry["pruned"]]


def draw_images(folder: Path) -> None:
    """Random pictures `all/000.png` and so on."""
    (folder / "all").mkdir(parents=True)
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "all" / f"{number:03d}.png"), pixels)


def prepare(folder: Path) -> dict[str, Path]:
    """For each operation the folder that it starts from."""
    empty, whole = folder / "empty", folder / "whole"
    draw_images(empty)
    shutil.copytree(empty, whole)
    do_label(str(whole), "fake:")
    tag(f"{whole}/labels.zarr", "first")
    do_label(str(whole), "fake:?seed=1", relabel=True)
    do_label(str(whole), "fake:?seed=2", relabel=True)
    return {name: empty if name == "label" else whole for name in OPERATIONS}


def start(name: str, folder: Path) -> tuple[BaseProcess, float]:
    """A process that has just begun the operation, and when it did."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=run, args=(name, str(folder), sender))
    process.start()
    receiver.recv()
    return process, time.monotonic()


def run(name: str, folder: str, sender: "multiprocessing.connection.Connection") -> None:
    """One operation, in a process of its own."""
    sender.send("begins")
    OPERATIONS[name](folder)


def run_to_end(name: str, folder: Path) -> tuple[float, float]:
    """Seconds of an operation that nobody disturbs until its first write, and from there to its end.

    Raises:
        RuntimeError: if it fails or does not come to its end.
    """
    before = written(folder)
    process, began = start(name, folder)
    wait_for_write(process, folder, before)
    wrote = time.monotonic()
    process.join(SECONDS)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"{name} did not finish; exit code {process.exitcode}")
    return wrote - began, time.monotonic() - wrote


def written(folder: Path) -> list[int]:
    """When something was last written to the folders that every operation begins with, in nanoseconds."""
    places = [folder / "labels.zarr" / name for name in ("", "runs", "manifest", "manifest/_delta_log")]
    return [place.stat().st_mtime_ns if place.exists() else 0 for place in places]


def wait_for_write(process: BaseProcess, folder: Path, before: list[int]) -> None:
    """Returns when the operation has written something, or has ended."""
    while process.is_alive() and written(folder) == before:
        pass


def digest_of(folder: Path) -> str:
    """Content digest of the newest finished version; that of no labels if there is no store yet."""
    try:
        return LabelStore.open(f"{folder}/labels.zarr").digest
    except NotAStore:
        return EMPTY


def problems_of(folder: Path) -> list[str]:
    """What verify finds in the newest progress and in every finished version; a store not yet begun is sound."""
    uri = f"{folder}/labels.zarr"
    if not Path(uri, ROOT).exists():
        return []
    found = [problem for version in ("head", None, *finished(str(folder))) for problem in verify(uri, version)]
    return [f"{problem.kind} {problem.key} {problem.detail}" for problem in found]


def kill_once(name: str, origin: Path, work: Path, random: Random, tally: Tally) -> None:
    """One kill and all that follows; draws another moment if the operation was over before."""
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(origin, work)
        before = digest_of(work)
        unwritten = written(work)
        process, _ = start(name, work)
        if random.random() < 0.5:
            wait_for_write(process, work, unwritten)
            time.sleep(random.uniform(0, tally.seconds[1]))
        else:
            time.sleep(random.uniform(0, sum(tally.seconds)))
        alive = process.is_alive()
        process.kill()
        process.join()
        if alive and process.exitcode == -signal.SIGKILL:
            break
    tally.kills += 1
    tally.finished += digest_of(work) == tally.wanted != before
    tally.faults += [f"after the kill: {problem}" for problem in problems_of(work)]
    if digest_of(work) not in (before, tally.wanted):
        tally.faults.append("after the kill: readers see neither the old labels nor the new ones")
    try:
        run_to_end(name, work)
    except RuntimeError as error:
        tally.faults.append(str(error))
    tally.faults += [f"after the restart: {problem}" for problem in problems_of(work)]
    if digest_of(work) != tally.wanted:
        tally.faults.append("after the restart: other labels than without a kill")


def measure(folder: str | None, kills: int, seed: int) -> tuple[str, bool]:
    """The result page, and whether nothing went wrong."""
    CONTEXT.set_forkserver_preload(["hmsa_label.pipeline.label_run", "hmsa_label.stores.rethreshold"])
    random = Random(seed)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        origins = prepare(Path(place))
        tallies: dict[str, Tally] = {}
        for name, origin in origins.items():
            work = Path(place) / name
            shutil.copytree(origin, work)
            tallies[name] = Tally(run_to_end(name, work), digest_of(work))
        for number in range(kills):
            name = list(OPERATIONS)[number % len(OPERATIONS)]
            kill_once(name, origins[name], Path(place) / name, random, tallies[name])
        rows = [row_of(name, tally) for name, tally in tallies.items()]
        columns = ["operation", "seconds, of these writing", "kills", "result was there", "problems"]
        faults = [f"- {name}: {fault}" for name, tally in tallies.items() for fault in tally.faults]
        text = page("kill -9 at random moments", place, explanation(), markdown(columns, rows), *faults)
    return text, not faults


def explanation() -> str:
    """What the table counts."""
    return (
        f"{IMAGES} images, a store of its own for every kill. *result was there*: kills after the finishing commit (gc "
        "changes no labels). *problems*: what `verify --deep` finds after the kill or after the restart in the newest "
        "progress and in every finished version, failed restarts, labels other than those of an undisturbed operation."
    )


def row_of(name: str, tally: Tally) -> list[str]:
    """A line of the table."""
    return [
        name,
        f"{sum(tally.seconds):.2f}, {tally.seconds[1]:.2f}",
        str(tally.kills),
        str(tally.finished),
        str(len(tally.faults)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30, help="in all; the operations take turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the stores are put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    text, sound = measure(arguments.folder, arguments.kills, arguments.seed)
    publish(text, arguments.output)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
