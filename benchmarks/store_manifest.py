"""What a manifest costs by its number of rows: open, diff, one progress commit, verify; time and peak memory.

Each figure comes from a process of its own, because memory that was needed once counts for ever. Rows are made up: no
pixels are written, and none are read. So verify is told by the rows which objects there are.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from results_page import markdown, page

from hmsa_label.stores.audit import verify as verify_module
from hmsa_label.stores.audit.diff import diff
from hmsa_label.stores.audit.history import show_version
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.receipt import Receipt, StoredArray, now, to_table
from hmsa_label.stores.manifest import pixel_objects
from hmsa_label.stores.manifest.table import PROGRESS, Change, Manifest
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

HEIGHT, WIDTH, NUM_CLASSES = 1024, 2048, 19
BATCH, COMMIT_ROWS, COMMITS = 100_000, 256, 7
RELABELED = 0.01
INSTANCES = 15  # of an image of a panoptic teacher
GOALS = {"open": "3", "diff": "10", "commit": "0.5"}  # seconds at a million rows
Figures = dict[str, Any]


def run_record(split: str) -> dict[str, Any]:
    """Provenance of a made-up run."""
    settings = {"teacher_sha256": "ab" * 32, "scales": [0.5, 1.0, 2.0], "threshold": 0.9}
    return {"settings": settings, "data": {"dataset": "cityscapes", "root": "/images", "split": split}}


def begin(uri: str, split: str, relabel: bool = False) -> RunWriter:
    """A run, and the folders that its made-up rows name: a commit brings them to the disk."""
    run = RunWriter(uri, run_record(split), relabel=relabel)
    segment = Path(uri, "data", f"{run.run_id}.01234567")
    for folder in ("receipts", *(f"{HEIGHT}x{WIDTH}/{name}" for name in ARRAYS)):
        (segment / folder).mkdir(parents=True, exist_ok=True)
    return run


def things(random: np.random.Generator, count: int) -> tuple[StoredInstance, ...]:
    """A table of instances such as a teacher finds in a street."""
    scores, sides = random.random((count, 2)), random.integers(5, 300, (count, 4))
    return exact(
        StoredInstance(11 + n % 8, *score, side[2] * side[3] // 2, tuple(side))
        for n, (score, side) in enumerate(zip(scores.tolist(), sides.tolist(), strict=True))
    )


def receipt(run_id: str, number: int, random: np.random.Generator, instances: int = 0) -> Receipt:
    """A receipt such as a worker writes; of a panoptic teacher if there are instances."""
    digests = [random.bytes(32).hex() for _ in range(10)]
    class_px = random.integers(0, HEIGHT * WIDTH // 20, NUM_CLASSES)
    valid_px = int(class_px.sum())
    return Receipt(
        key=f"train_extra/city_{number // 1000:04d}/city_{number:09d}",
        height=HEIGHT,
        width=WIDTH,
        segment=f"{run_id}.01234567",
        row=number,
        arrays=(
            StoredArray("label", digests[0], digests[4], int(random.integers(20_000, 40_000))),
            StoredArray("top1", digests[1], digests[5], 20_000),
            StoredArray("code", digests[2], digests[6], 100_000),
            *([StoredArray("instance", digests[7], digests[8], 4000)] if instances else []),
        ),
        instances=things(random, instances) if instances else None,
        instance_table_sha256=digests[9] if instances else None,
        evidence_segment=f"{run_id}.01234567",
        evidence_row=number,
        source=f"leftImg8bit/train_extra/city_{number // 1000:04d}/city_{number:09d}_leftImg8bit.png",
        source_sha256=digests[3],
        source_bytes=2_300_000,
        threshold=0.9,
        class_px=tuple(class_px.tolist()),
        valid_px=valid_px,
        kept_share=valid_px / (HEIGHT * WIDTH),
        mean_confidence=float(random.random()),
        coarse_agreement=float(random.random()),
        run=run_id,
        device="cuda:NVIDIA H200",
        seconds=0.5,
        labelled_at=now(),
    )


def rows_from(table: pa.Table, first: int, random: np.random.Generator) -> pa.Table:
    """The rows again under other keys, places and digests; a million receipts one by one would take minutes."""
    numbers = np.arange(first, first + table.num_rows)
    filled = [name for name in table.column_names if table[name].null_count < table.num_rows]
    for name in (name for name in filled if name.endswith("_sha256")):
        digits = random.bytes(32 * table.num_rows).hex()
        table = put(table, name, [digits[64 * n : 64 * n + 64] for n in range(table.num_rows)])
    table = put(table, "key", [f"train_extra/city_{n // 1000:04d}/city_{n:09d}" for n in numbers])
    sources = [f"leftImg8bit/train_extra/city_{n // 1000:04d}/city_{n:09d}_leftImg8bit.png" for n in numbers]
    return put(put(put(table, "source", sources), "row", numbers), "evidence_row", numbers)


def put(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with other values in one column."""
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))


def build(uri: str, rows: int, instances: int) -> Figures:
    """A store of two finished versions: all rows, then one in a hundred labeled again.

    Args:
        instances: of each image; 0 is a semantic teacher.
    """
    from hmsa_label.labelers.taxonomy import CITYSCAPES  # loads torch, whose memory is not the manifest's

    random = np.random.default_rng(0)
    LabelStore.create(uri, CITYSCAPES.to_dict())
    run = begin(uri, "train_extra")
    sample = to_table(receipt(run.run_id, number, random, instances) for number in range(min(rows, 1000)))
    for first in range(0, rows, BATCH):
        count = min(BATCH, rows - first)
        batch = rows_from(sample.take(pa.array(np.arange(count) % sample.num_rows)), first, random)
        Manifest(uri).transact(
            lambda head, batch=batch: Change(
                commit=head.commit.successor(PROGRESS, run=run.run_id, fingerprint=run.run.fingerprint), append=batch
            )
        )
    finish_seconds, a = timed(run.finish)
    again = begin(uri, "train_extra", relabel=True)
    chosen = range(0, rows, round(1 / RELABELED))
    again.append([receipt(again.run_id, number, random, instances) for number in chosen])
    relabel_seconds, b = timed(again.finish)
    return {"versions": [a, b], "finish": finish_seconds, "relabel": relabel_seconds}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def measure_open(uri: str, rows: int) -> Figures:
    """Opening the newest version, until any label could be read."""
    seconds, store = timed(lambda: LabelStore.open(uri))
    assert len(store) == rows
    return {"seconds": seconds, "digest": timed(lambda: store.digest)[0]}


def measure_diff(uri: str, a: int, b: int) -> Figures:
    """What changed between the two versions, opening both included."""
    seconds, found = timed(lambda: diff(uri, a, b, pixels=False))
    assert len(found.relabelled) == round(RELABELED * (found.unchanged + len(found.relabelled)))
    return {"seconds": seconds}


def measure_show(uri: str) -> Figures:
    """What `audit show` tells of the newest version, opening included."""
    seconds, found = timed(lambda: show_version(LabelStore.open(uri)))
    assert found.summary.images > 0
    return {"seconds": seconds}


def measure_instances(uri: str) -> Figures:
    """The first table of instances that a reader asks for, opening included; the map of its image is not read."""
    store = LabelStore.open(uri)
    seconds, table = timed(lambda: store.table(["instances"])["instances"][0].as_py())
    assert table
    return {"seconds": seconds}


def measure_commit(uri: str, rows: int, instances: int) -> Figures:
    """Progress commits of a run on other images: the first, which reads the keys, and the median of the others."""
    random, run = np.random.default_rng(1), begin(uri, "another split")
    receipts = [receipt(run.run_id, rows + number, random, instances) for number in range(COMMITS * COMMIT_ROWS)]
    parts = [receipts[first : first + COMMIT_ROWS] for first in range(0, len(receipts), COMMIT_ROWS)]
    seconds = [timed(lambda part=part: run.append(part))[0] for part in parts]
    return {"seconds": median(seconds[1:]), "first": seconds[0]}


def measure_verify(uri: str, deep: bool) -> Figures:
    """Verify up to the pixels: log, provenance, rows, every object's size; deep also every row on its own.

    One segment holds all rows, which is the most that one listing can be.
    """
    whole, listed = Manifest(uri).head().rows(), pixel_objects.list_sizes

    def made_up(_: object, folder: str) -> dict[str, int]:
        name = folder.rpartition("/")[2]
        if name not in ARRAYS:
            return listed(_, folder)
        at, number = ARRAYS[name].place
        rows = whole.table([at, number, f"{name}_bytes"])
        rows = rows.filter(pc.equal(rows[at], folder.split("/")[-3]))
        numbers, sizes = (rows[column].to_pylist() for column in (number, f"{name}_bytes"))
        return {f"{folder}/c.{row}.0.0": size for row, size in zip(numbers, sizes, strict=True)}

    with patch.object(pixel_objects, "list_sizes", made_up), patch.object(verify_module, "image_faults", lambda *_: []):
        seconds, problems = timed(lambda: verify_module.verify(uri, deep=deep))
    assert {problem.kind for problem in problems} <= {"metadata"}, problems[:3]  # there is none
    return {"seconds": seconds}


MEASURES: dict[str, Callable[..., Figures]] = {
    "build": build,
    "open": measure_open,
    "diff": measure_diff,
    "show": measure_show,
    "instances": measure_instances,
    "commit": measure_commit,
    "verify": measure_verify,
}


def in_own_process(name: str, *arguments: str | int) -> Figures:
    """Figures of one measure, with its CPU seconds and peak resident memory in MB (10^6 bytes)."""
    command = [sys.executable, __file__, name, *map(json.dumps, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(folder: str | None, sizes: list[int]) -> str:
    """The result page."""
    lines, details = [], []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for rows, instances in [*((rows, 0) for rows in sizes), (max(sizes) // 5, INSTANCES)]:
            uri = f"{place}/{rows}-{instances}.zarr"
            built = in_own_process("build", uri, rows, instances)
            opened = in_own_process("open", uri, rows)
            compared = in_own_process("diff", uri, *built["versions"])
            verified = [in_own_process("verify", uri, deep) for deep in (False, True)]
            shown = in_own_process("show", uri)
            tables = [in_own_process("instances", uri)] if instances else []
            committed = in_own_process("commit", uri, rows, instances)
            parts = (opened, compared, committed, *verified, shown, *tables)
            cells = [f"{part['seconds']:.2f} ({part['peak_mb']:,.0f})" for part in parts]
            name = f"{rows:,}, {instances} instances each" if instances else f"{rows:,}"
            lines.append([name, *cells, *([] if tables else ["-"])])
            others = [committed["first"], opened["digest"], built["finish"], built["relabel"]]
            details.append([name, *(f"{seconds:.2f}" for seconds in others)])
        goals = ["goal at 1,000,000", *(f"{seconds} (2,000)" for seconds in GOALS.values()), *["(2,000)"] * 3, "-"]
        columns = ["rows", "open", "diff of two versions", f"commit of {COMMIT_ROWS} rows", "verify quick", "deep"]
        columns += ["show", "first table of instances"]
        return page(
            "A manifest of many rows",
            place,
            "Wall seconds, and in brackets the peak memory in MB of the process (its imports included). *verify*: log, "
            "provenance, rows and the sizes of all objects, these from a made-up listing; *deep* takes every row apart "
            "as well, but reads no pixels here.",
            markdown(columns, [*lines, goals]),
            "Besides, seconds:",
            markdown(
                ["rows", "a run's first commit", "content digest", "finish a run", "finish, 1 % relabeled"], details
            ),
        )


def main() -> None:
    name, *arguments = sys.argv[1:]
    pa.scalar("")  # imports pandas where there is one, which would count as time of the first call
    started = time.process_time()
    figures = MEASURES[name](*map(json.loads, arguments))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({**figures, "cpu_seconds": time.process_time() - started, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
