"""The files of the manifest's log: our record in each, and how damage to any of them shows.

Each record carries a digest of itself and of the log file before it. So every file but the newest is bound byte by byte
to what was built on it, and the newest one's record cannot change unseen.
"""

import hashlib
import json
import re
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot, join, list_names
from hmsa_label.stores.schema import MANIFEST
from hmsa_label.stores.sealed import is_whole

COMMIT_KEY = "hmsa_label"
LOG, LOG_FILE = f"{MANIFEST}/_delta_log", re.compile(r"\d{20}\.json")
BEFORE = "log_sha256"


def log_path(version: int) -> str:
    """The log file of one commit, relative to the store."""
    return f"{LOG}/{version:020d}.json"


def read_log(root: FileRoot) -> dict[int, bytes]:
    """Every log file of a store by its version, ascending."""
    filesystem, path = root.open()
    folder = join(path, LOG)
    names = [name for name in list_names(filesystem, folder) if LOG_FILE.fullmatch(name)]
    bodies = filesystem.cat([join(folder, name) for name in names])
    found = {int(place.rpartition("/")[2].removesuffix(".json")): body for place, body in bodies.items()}
    return {version: found[version] for version in sorted(found)}


def record_in(body: bytes, version: int) -> dict[str, Any] | None:
    """Our record in one log file; None if another tool made the commit.

    Raises:
        LabelCorrupt: naming the file, if it does not read or the record is not the one that was written.
    """
    try:
        actions = [json.loads(line) for line in body.splitlines()]
        record: dict[str, Any] | None = next(
            (action["commitInfo"].get(COMMIT_KEY) for action in actions if "commitInfo" in action), None
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise LabelCorrupt(f"{log_path(version)} (version {version} of the manifest) does not read: {error}") from None
    if record is None:
        return None
    if not is_whole(record):
        raise LabelCorrupt(f"{log_path(version)} (version {version} of the manifest): its record was changed")
    if record.get("version", version) != version:
        raise LabelCorrupt(f"{log_path(version)} (version {version} of the manifest) is that of {record['version']}")
    return record


def log_faults(root: FileRoot) -> list[str]:
    """What is wrong with the log, a line for each damaged file."""
    bodies = read_log(root)
    faults = [f"{log_path(version)} is gone" for version in range(max(bodies, default=0)) if version not in bodies]
    for version, body in bodies.items():
        try:
            record = record_in(body, version)
        except LabelCorrupt as error:
            faults.append(str(error))
            continue
        before = (record or {}).get(BEFORE)
        if before is not None and version - 1 in bodies and hashlib.sha256(bodies[version - 1]).hexdigest() != before:
            faults.append(f"{log_path(version - 1)} is not the one that version {version} was built on")
    return faults
