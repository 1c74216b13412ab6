"""How many S3 requests it takes to open a store and to commit to it, as the server counts them.

A run commits one image at a time. The interval of checkpoints is varied; then several processes commit at once. With an
older checkout in PYTHONPATH, `--intervals 0` takes that checkout as it is.

    python benchmarks/store_requests.py --output benchmarks/results/store_requests.md
"""

import argparse
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from results_page import markdown, page, publish
from s3_server import s3_server
from store_commits import commit_at_once

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore

LINE = re.compile(r'"([A-Z]+) (\S+) HTTP')
KINDS = ("GET of the log", "other GET", "LIST", "HEAD", "PUT", "DELETE", "POST")


class Requests:
    """Counts requests in a server's log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Requests by kind made meanwhile; filled when the block is left."""
        found: Counter[str] = Counter()
        start = self.path.stat().st_size
        yield found
        time.sleep(0.2)  # the server writes its log after its answer
        with open(self.path) as log:
            log.seek(start)
            for line in log:
                match = LINE.search(line)
                if match:
                    found[kind_of(match[1], match[2])] += 1


def kind_of(method: str, path: str) -> str:
    """A request's kind, as in `KINDS`."""
    if method == "GET" and ("list-type" in path or "prefix=" in path):
        return "LIST"
    if method == "GET":
        return "GET of the log" if "_delta_log" in path else "other GET"
    return method


def commit_one_by_one(uri: str, commits: int) -> None:
    """One run that commits so many times, and stays unfinished."""
    LabelStore.create(uri, CITYSCAPES.to_dict())
    run = RunWriter(uri, {"settings": {"threshold": 0.9}, "data": {"split": "train"}})
    segment = SegmentWriter(uri, run.run_id, None, Rule(0.9), commits)
    label = np.zeros((8, 16), np.uint8)
    receipts = [
        segment.write(ImageFacts(key=f"{number:04d}", source="x"), {"label": label}) for number in range(commits)
    ]
    for receipt in receipts:
        run.append([receipt])


def cells(found: Counter[str], share: int = 1) -> list[str]:
    """Requests by kind, divided by `share`, for a line of a table."""
    return [f"{found[kind] / share:.1f}".removesuffix(".0") for kind in KINDS]


def measure(place: Path, commits: int, intervals: list[int], processes: int) -> list[str]:
    """Tables: opening and committing by interval, then writers at once."""
    lines, at_once = [], []
    with open(place / "requests.log", "w") as log, s3_server(log) as bucket:
        requests = Requests(place / "requests.log")
        for interval in intervals:
            if interval:
                from hmsa_label.stores.manifest import checkpoints  # older checkouts have none

                checkpoints.CHECKPOINT_INTERVAL = interval
            uri, name = f"{bucket}/every-{interval}", str(interval or "as it is")
            with requests.counted() as writing:
                commit_one_by_one(uri, commits)
            lines.append([f"commit, checkpoint every {name}", *cells(writing, commits), ""])
            for version in (commits // 2 - 1, commits - 1, commits + 1):
                started = time.monotonic()
                with requests.counted() as opening:
                    LabelStore.open(uri, version)
                    seconds = time.monotonic() - started
                lines.append([f"open version {version}", *cells(opening), f"{1000 * seconds:.0f}"])
        with requests.counted() as found:
            reported, present, *_ = commit_at_once(f"{bucket}/many", processes, 10)
        at_once.append(
            [f"{processes} writers, {reported} commits, {present} present", *cells(found, int(reported)), ""]
        )
    columns = ["what", *KINDS, "ms"]
    return [
        markdown(columns, lines),
        "Per commit, verify and the opening of all processes included:",
        markdown(columns, at_once),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=66)
    parser.add_argument("--intervals", type=int, nargs="+", default=[5, 10, 20, 50, 100])
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--output", help="write the tables there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = measure(Path(folder), arguments.commits, arguments.intervals, arguments.processes)
        note = f"Requests by kind as the server (moto on the loopback) counts them; {os.cpu_count()} cores for all."
        publish(page("S3 requests of a label store", folder, note, *tables), arguments.output)


if __name__ == "__main__":
    main()
