"""Several processes that commit to one store at once: every commit that was reported is there, on disk and on S3."""

import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
from results_page import markdown, page
from s3_server import s3_server

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

THRESHOLD = 0.9


def label_some(uri: str, number: int, commits: int, start: float) -> None:
    """One process: a run of its own, one image and one commit at a time, from a common moment on."""
    run = RunWriter(uri, {"settings": {"threshold": THRESHOLD}, "data": {"split": f"part {number}"}})
    segment = SegmentWriter(uri, run.run_id, None, Rule(THRESHOLD), commits)
    time.sleep(max(0.0, start - time.time()))
    for commit in range(commits):
        label = np.full((8, 16), number, np.uint8)
        run.append([segment.write(ImageFacts(key=f"{number}/{commit:03d}", source="made up"), {"label": label})])
    run.finish()


def commit_at_once(uri: str, processes: int, commits: int) -> list[str]:
    """Cells of the table: commits that were reported, present, problems found, seconds."""
    LabelStore.create(uri, CITYSCAPES.to_dict())
    context = multiprocessing.get_context("spawn")
    start = time.time() + 5.0
    workers = [context.Process(target=label_some, args=(uri, n, commits, start)) for n in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.time() - start
    reported = sum(commits for worker in workers if worker.exitcode == 0)
    store = LabelStore.open(uri)
    right = sum(int((store.read(key) == int(key.partition("/")[0])).all()) for key in store)
    return [str(reported), str(right), str(len(verify(uri))), f"{seconds:.1f}"]


def measure(folder: str | None, processes: int, commits: int) -> str:
    """The result page."""
    with tempfile.TemporaryDirectory(dir=folder) as place, s3_server() as bucket:
        rows = [
            ["disk", *commit_at_once(str(Path(place) / "labels.zarr"), processes, commits)],
            ["S3 (moto on the loopback)", *commit_at_once(f"{bucket}/labels.zarr", processes, commits)],
        ]
        return page(
            "Processes that commit at once",
            place,
            f"{processes} processes, {commits} commits each, to one store. *present*: images of the finished version "
            "whose label is the one written; *problems*: what `verify --deep` finds.",
            markdown(["storage", "commits reported", "present", "problems", "seconds"], rows),
        )
