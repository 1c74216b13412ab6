"""Event logs of attempts: JSON lines beside the provenance, in numbered parts because object stores cannot append.

A part is written once and never changed, `runs/<run>/<attempt>.<number>.jsonl`. Logs are for people and programs that
watch runs: no label depends on them, nothing is sealed, and a store without them is whole.
"""

import contextlib
import json
from typing import Any

from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format.forms import parse_json
from hmsa_label.stores.format.layout import RUNS
from hmsa_label.stores.format.records import STATE as STATE_RECORD

SUFFIX = ".jsonl"
STATE = "state"  # the event that sums up all before it


def write_part(root: FileRoot, run_id: str, attempt: str, number: int, lines: list[dict[str, Any]]) -> None:
    """Stores lines as part `number` of an attempt's log.

    Raises:
        OSError: if the storage fails; the same part may be written again.
    """
    filesystem, path = root.open()
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    # Only one process writes a log: a part that is there already is this one, and the answer to it got lost.
    with contextlib.suppress(FileExistsError):
        create_bytes(filesystem, join(path, RUNS, run_id, f"{attempt}.{number:06}{SUFFIX}"), body)


def list_logs(root: FileRoot, run_id: str) -> dict[str, list[str]]:
    """Paths of the parts of each attempt's log, relative to the store; attempts and parts oldest first."""
    logs: dict[str, list[str]] = {}
    for name in root.list_names(f"{RUNS}/{run_id}"):
        if name.endswith(SUFFIX):
            logs.setdefault(name.partition(".")[0], []).append(f"{RUNS}/{run_id}/{name}")
    return logs


def read_part(root: FileRoot, path: str) -> list[dict[str, Any]]:
    """The lines of one part; a line that does not read is left out."""
    lines = []
    for line in root.read(path).splitlines():
        with contextlib.suppress(ValueError):
            lines.append(parse_json(line))
    return [line for line in lines if isinstance(line, dict)]


def last_state(root: FileRoot, parts: list[str]) -> dict[str, Any]:
    """The sum at the end of an attempt's log; of the part before, if the last one does not read."""
    for path in reversed(parts):
        with contextlib.suppress(OSError):
            if lines := [line for line in read_part(root, path) if _is_state(line)]:
                return lines[-1]
    return {}


def _is_state(line: dict[str, Any]) -> bool:
    return line.get("event") == STATE and not STATE_RECORD.fault(line, "")
