"""What one process that reads labels holds of a manifest of many rows, by what it asks for.

Each figure comes from a process of its own. Rows are made up (see `store_manifest.py`), no pixels are read.

    python benchmarks/store_columns.py --rows 1000000 --output benchmarks/results/store_columns.md
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results_page import markdown, page, publish

from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.versions.label_store import LabelStore


def ask_nothing(store: LabelStore) -> object:
    """Labels at their own threshold need no more than an open store."""
    return None


def ask_paths(store: LabelStore) -> object:
    """What `AutoLabelDataset` asks of the images' files."""
    return store.table(["source", "source_sha256", "threshold"])


def ask_evidence(store: LabelStore) -> object:
    """Another threshold, or weights of pixels: what is asked before the first pixel is read, which is not there."""
    with contextlib.suppress(LabelMissing):
        store.read_evidence(store.keys()[0])
    return ask_paths(store)


def ask_all(store: LabelStore) -> object:
    """All columns, which a path or evidence used to read."""
    return store.table()


QUESTIONS: dict[str, Callable[[LabelStore], object]] = {
    "an open store": ask_nothing,
    "the images' files too": ask_paths,
    "evidence too": ask_evidence,
    "all 29 columns": ask_all,
}


def held(uri: str, question: str) -> dict[str, Any]:
    """Resident memory of a process in MB (10^6 bytes): now, at most, and before the store was opened."""
    before = resident("VmRSS")
    store = LabelStore.open(uri)
    answer = QUESTIONS[question](store)  # kept, as a data set keeps it
    assert answer is None or len(store)
    return {"held": resident("VmRSS") - before, "peak": resident("VmHWM") - before, "rows": len(store)}


def resident(name: str) -> float:
    """A figure of this process's memory, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def measure(folder: str | None, rows: int) -> str:
    """The result page."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        uri, lines = f"{place}/labels.zarr", []
        build = [sys.executable, str(Path(__file__).with_name("store_manifest.py")), "build"]
        subprocess.run([*build, json.dumps(uri), json.dumps(rows)], stdout=subprocess.PIPE, check=True)
        for question in QUESTIONS:
            command = [sys.executable, __file__, "--uri", uri, "--question", question]
            found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            lines.append([question, f"{found['held']:,.0f}", f"{found['peak']:,.0f}"])
        return page(
            "Memory of a reader",
            place,
            f"{rows:,} rows. MB (10^6 bytes) that a process holds afterwards and at most, beside its imports.",
            markdown(["asked for", "held", "at most"], lines),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the store is put for a while")
    parser.add_argument("--output", help="write the result there as Markdown")
    parser.add_argument("--uri", help=argparse.SUPPRESS)
    parser.add_argument("--question", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.uri:
        print(json.dumps(held(arguments.uri, arguments.question)))
    else:
        publish(measure(arguments.folder, arguments.rows), arguments.output)


if __name__ == "__main__":
    main()
