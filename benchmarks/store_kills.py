"""kill -9 at random moments of every verb that writes, on a disk and on S3 behind a proxy that loses answers.

Each operation runs in a process of its own on a store of its own. On a disk half of the kills come at a moment drawn
from the time that it takes undisturbed, the others from the time between its first write and its end; on S3 at a moment
drawn from the whole time. Then `verify` looks at every version, the same operation is started again at once until its
end, and what is there is compared with an undisturbed operation: nothing may be lost, doubled, torn or blocked.

    python benchmarks/store_kills.py --output benchmarks/results/store_kills.md
"""

import argparse
import json
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from kill_places import OUT, STORE, Disk, Site, behind_a_proxy
from results_page import markdown, page, publish

from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig, TeacherConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.audit.verify import verify_store
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.exports.cityscapes_tree import export_cityscapes
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.format.layout import ROOT
from hmsa_label.stores.manifest.table import EMPTY, Manifest
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, tags
from tests.fake_teacher import fake

IMAGES, SIZE, SECONDS = 8, (64, 96), 240.0
CONTEXT = multiprocessing.get_context("forkserver")
SLOW = fake(ms=20)
FIRST = "first"  # tag of the first finished version


def do_label(site: Site, teacher: TeacherConfig = SLOW, relabel: bool = False) -> None:
    """Labels the images with a teacher that takes its time."""
    config = LabelConfig(
        data=DataConfig(root=site.images, dataset="folder", split="all"),
        teacher=teacher,
        store=site.store,
        engine=EngineConfig(executor="local", workers=2),
        relabel=relabel,
        storage_options=site.options,
    )
    assert not label_images(config).images_failed


def do_relabel(site: Site) -> None:
    """All labels anew, by another teacher."""
    do_label(site, fake(ms=20, seed=3), relabel=True)


def do_rethreshold(site: Site) -> None:
    """Another threshold for all labels."""
    rethreshold(site.store, 0.7, threads=2, storage_options=site.options)


def do_tag(site: Site) -> None:
    """A name for the newest version."""
    tag(site.store, "killed", message="now and then", storage_options=site.options)


def do_rollback(site: Site) -> None:
    """Back to the first finished version."""
    rollback(site.store, FIRST, "killed now and then", storage_options=site.options)


def do_gc(site: Site) -> None:
    """Deletes what the newest version and the tagged one do not need."""
    gc(site.store, keep_last=1, apply=True, storage_options=site.options)


def do_export(site: Site) -> None:
    """PNG files of the newest version, and of the first one a dense array."""
    newest, first = (LabelStore.open(site.store, name, storage_options=site.options) for name in (None, FIRST))
    for export, store, place in ((export_cityscapes, newest, "png"), (export_zarr, first, "dense")):
        try:
            export(store, f"{site.out}/{place}", storage_options=site.options)
        except ValueError as error:
            if "is not empty" not in str(error):  # finished before the kill; what is unfinished is gone on with
                raise


OPERATIONS: dict[str, Callable[[Site], None]] = {
    "label": do_label,
    "relabel": do_relabel,
    "rethreshold": do_rethreshold,
    "tag": do_tag,
    "rollback": do_rollback,
    "gc": do_gc,
    "export": do_export,
}


@dataclass(frozen=True)
class Result:
    """What an operation leaves: content digest, tags, number of readable versions, hashes of exported files."""

    digest: str
    tags: tuple[str, ...]
    versions: int
    exported: dict[str, int]


@dataclass
class Tally:
    """What the kills of one operation led to.

    Attributes:
        seconds: until its first write and from there to its end, undisturbed; wanted: its result then.
        finished: kills after which the result was there already.
        faults: what went wrong, in words.
    """

    seconds: tuple[float, float]
    wanted: Result
    kills: int = 0
    finished: int = 0
    faults: list[str] = field(default_factory=list)


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
    site = Site(images=str(whole), base=str(whole))
    do_label(site, fake())
    tag(site.store, FIRST)
    do_label(site, fake(seed=1), relabel=True)
    do_label(site, fake(seed=2), relabel=True)
    return {name: empty if name == "label" else whole for name in OPERATIONS}


def run(name: str, site: Site, sender: "multiprocessing.connection.Connection") -> None:
    """One operation, in a process of its own."""
    sender.send("begins")
    try:
        OPERATIONS[name](site)
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}")
        sys.exit(2)


def start(name: str, site: Site) -> tuple[BaseProcess, "multiprocessing.connection.Connection"]:
    """A process that has just begun the operation."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=run, args=(name, site, sender))
    process.start()
    sender.close()
    receiver.recv()
    return process, receiver


def run_to_end(name: str, site: Site) -> tuple[float, float]:
    """Seconds of an operation that nobody disturbs until its first write, and from there to its end.

    Raises:
        RuntimeError: if it fails or does not come to its end.
    """
    before = written(site)
    process, receiver = start(name, site)
    began = time.monotonic()
    wait_for_write(process, site, before)
    wrote = time.monotonic()
    process.join(SECONDS)
    if process.exitcode != 0:
        said = receiver.recv() if receiver.poll() else "no word"
        process.kill()
        raise RuntimeError(f"did not finish, exit code {process.exitcode}: {said}")
    return wrote - began, time.monotonic() - wrote


def written(site: Site) -> list[int]:
    """When something was last written to the folders that operations begin with, in nanoseconds; not known on S3."""
    names = ("", "runs", "manifest", "manifest/_delta_log", "tags", f"../{OUT}")
    places = [] if site.options else [Path(site.store) / name for name in names]
    return [place.stat().st_mtime_ns if place.exists() else 0 for place in places]


def wait_for_write(process: BaseProcess, site: Site, before: list[int]) -> None:
    """Returns when the operation has written something, or has ended; on S3 at once."""
    while before and process.is_alive() and written(site) == before:
        pass


def result_in(folder: Path) -> Result:
    """What is in a store and in an export now."""
    uri = f"{folder}/{STORE}"
    exported = {
        str(path.relative_to(folder)): hash(path.read_bytes())
        for path in (folder / OUT).rglob("*")
        if path.is_file() and path.parent.name != "dense"  # which tells of the time and place of the store
    }
    try:
        digest = LabelStore.open(uri).digest
    except NotAStore:
        return Result(EMPTY, (), 0, exported)
    names = tuple(sorted(entry.name for entry in tags(uri)))
    return Result(digest, names, len(readable(uri)), exported)


def difference(found: Result, wanted: Result) -> str:
    """What differs between two results."""
    there, asked = asdict(found), asdict(wanted)
    parts = [
        f"{name} {there[name]}, not {asked[name]}"
        for name in asked
        if name != "exported" and there[name] != asked[name]
    ]
    files = sorted({name for name, _ in found.exported.items() ^ wanted.exported.items()})
    return "; ".join([*parts, *(f"exported {name}" for name in files)])


def readable(uri: str) -> list[int]:
    """Finished versions that can be read."""
    return [entry.version for entry in store_log(uri) if entry.finished and not entry.pruned]


def problems_of(folder: Path) -> list[str]:
    """What `audit verify --all` finds; a store not yet begun is sound."""
    uri = f"{folder}/{STORE}"
    if not Path(uri, ROOT).exists():
        return []
    return [f"{problem.kind} {problem.key} {problem.detail}" for problem in verify_store(uri, every=True).problems]


def left_behind(name: str, folder: Path) -> list[str]:
    """What must not be there once an operation has ended: open runs, images labeled twice, an unfinished export."""
    uri, found = f"{folder}/{STORE}", []
    if runs := Manifest(uri).head().commit.open_runs:
        found.append(f"runs are open: {runs}")
    if name in ("label", "relabel"):
        run_id = str(LabelStore.open(uri).commit.run)
        paths = Path(uri).glob(f"data/{run_id}.*/receipts/*.json")
        counts = Counter(json.loads(path.read_bytes())["key"] for path in paths)
        found += [f"{key} was labeled {count} times" for key, count in counts.items() if count > 1]
    found += [f"{path} is there" for path in (folder / OUT).glob("*/UNFINISHED.json")]
    return found


def kill_once(name: str, place: Any, origin: Path, random: Random, tally: Tally, number: int) -> None:
    """One kill and all that follows; draws another moment if the operation was over before."""
    for turn in range(100):
        site = place.fresh(origin, 100 * number + turn)
        before, unwritten = result_in(place.look(site)), written(site)
        process, _ = start(name, site)
        if unwritten and random.random() < 0.5:
            wait_for_write(process, site, unwritten)
            time.sleep(random.uniform(0, tally.seconds[1]))
        else:
            time.sleep(random.uniform(0, sum(tally.seconds)))
        alive = process.is_alive()
        process.kill()
        process.join()
        if alive and process.exitcode == -signal.SIGKILL:
            break
    tally.kills += 1
    folder = place.look(site)
    now = result_in(folder)
    was_there = now == tally.wanted != before
    tally.finished += was_there
    tally.faults += [f"after the kill: {problem}" for problem in problems_of(folder)]
    if now.digest not in (before.digest, tally.wanted.digest):
        tally.faults.append("after the kill: readers see neither the old labels nor the new ones")
    try:
        run_to_end(name, site)
    except RuntimeError as error:
        tally.faults.append(f"the restart {error}")
        return
    folder = place.look(site)
    tally.faults += [f"after the restart: {problem}" for problem in [*problems_of(folder), *left_behind(name, folder)]]
    # Labeling everything again, once it is done, is another version with the same labels.
    wanted = replace(tally.wanted, versions=tally.wanted.versions + (name == "relabel" and was_there))
    if result_in(folder) != wanted:
        tally.faults.append(f"after the restart other than without a kill: {difference(result_in(folder), wanted)}")


def measure(arguments: argparse.Namespace) -> tuple[str, bool]:
    """The result page, and whether nothing went wrong; what is known is published after every kill."""
    CONTEXT.set_forkserver_preload(["hmsa_label.pipeline.label.run", "hmsa_label.stores.exports.dense_zarr", "s3fs"])
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder) as work,
        behind_a_proxy(Path(work) / "s3", arguments.share, arguments.seed) as s3,
    ):
        origins, random = prepare(Path(work)), Random(arguments.seed)
        places = [Disk(Path(work) / "disk")] * arguments.kills + [s3] * arguments.s3_kills
        tallies: dict[tuple[str, str], Tally] = {}
        for number, place in enumerate(places):
            name = arguments.only[number % len(arguments.only)]
            if (name, place.name) not in tallies:
                site = place.fresh(origins[name], 100_000 + number)
                tallies[name, place.name] = Tally(run_to_end(name, site), result_in(place.look(site)))
            tally = tallies[name, place.name]
            kill_once(name, place, origins[name], random, tally, number)
            text = page_of(work, tallies, s3.faults())
            if arguments.output:
                Path(arguments.output).write_text(text)
            print(f"{number + 1}/{len(places)} {name} {place.name} {tally.faults}", file=sys.stderr, flush=True)
    return text, not any(tally.faults for tally in tallies.values())


def page_of(work: str, tallies: dict[tuple[str, str], Tally], proxy: str) -> str:
    """The result page."""
    rows = [row_of(*key, tally) for key, tally in tallies.items()]
    columns = ["operation", "storage", "seconds undisturbed", "kills", "result was there", "problems"]
    faults = [f"- {name}, {place}: {fault}" for (name, place), tally in tallies.items() for fault in tally.faults]
    total = sum(tally.kills for tally in tallies.values())
    about = f"{total} kills. {explanation()} Faults of the proxy: {proxy}."
    return page("kill -9 at random moments", work, about, markdown(columns, rows), *faults)


def explanation() -> str:
    """What the table counts."""
    return (
        f"{IMAGES} images, a store of its own for every kill. *result was there*: kills after the finishing commit. "
        "*problems*: what `audit verify --all` finds after the kill or after the restart; restarts refused or "
        "failed; labels, tags, versions or exported files other than those of an undisturbed operation; open runs, "
        "images labeled twice and unfinished exports after the restart."
    )


def row_of(name: str, place: str, tally: Tally) -> list[str]:
    """A line of the table."""
    seconds, kills = f"{sum(tally.seconds):.2f}", str(tally.kills)
    return [name, place, seconds, kills, str(tally.finished), str(len(tally.faults))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=84, help="on a disk; the operations take turns")
    parser.add_argument("--s3-kills", type=int, default=28, help="on S3, where everything takes longer")
    parser.add_argument("--only", nargs="+", choices=OPERATIONS, default=list(OPERATIONS), help="these operations")
    parser.add_argument("--share", type=float, default=0.1, help="of the requests to S3 that fail in some way, 0..1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the stores are put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    arguments = parser.parse_args()
    text, sound = measure(arguments)
    publish(text, arguments.output)
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
