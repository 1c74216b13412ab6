"""The files of the manifest's log: our record in each, and how damage to any of them shows.

Each record carries a digest of itself and of the log file before it, so every file but the newest is bound byte by byte
to what was built on it. For the newest one a mark beside the log does that: it is written right after the commit.
"""

import contextlib
import hashlib
import json
import re
from typing import Any

from hmsa_label.stores import sealed
from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot, create_bytes, join, list_names
from hmsa_label.stores.schema import COMMITS, MANIFEST
from hmsa_label.stores.sealed import is_whole

COMMIT_KEY = "hmsa_label"
LOG, LOG_FILE = f"{MANIFEST}/_delta_log", re.compile(r"\d{20}\.json")
MARK_FILE = re.compile(r"\d+\.json")
BEFORE = LOG_DIGEST = "log_sha256"  # of the log file before, in a record; of the commit's own, in a mark


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


def mark_commit(root: FileRoot, version: int) -> None:
    """Leaves a mark of a commit outside of the log; the commit stands without it, so failing to is no error."""
    filesystem, path = root.open()
    with contextlib.suppress(OSError):
        digest = hashlib.sha256(root.read(log_path(version))).hexdigest()
        mark = sealed.to_bytes({"version": version, LOG_DIGEST: digest})
        create_bytes(filesystem, join(path, mark_path(version)), mark)


def mark_path(version: int) -> str:
    """The mark of one commit, relative to the store."""
    return f"{COMMITS}/{version}.json"


def refuse_lost_end(root: FileRoot, newest: int) -> None:
    """Refuses a log whose newest file is gone: an older version would pass for the newest, and be built on.

    Args:
        newest: the version that the log seems to end with.

    Raises:
        LabelCorrupt: if the commit after it left a mark, but no log file.
    """
    # A file that is there belongs to a writer who has committed since.
    if _is_there(root, mark_path(newest + 1)) and not _is_there(root, log_path(newest + 1)):
        raise LabelCorrupt(_lost_end(newest + 1))


def _lost_end(version: int) -> str:
    return (
        f"{log_path(version)} is gone, but {mark_path(version)} says that version {version} was committed; put it back "
        f"from a copy of the store, or delete the marks from {version} on to go on without what came after "
        f"version {version - 1}"
    )


def _is_there(root: FileRoot, path: str) -> bool:
    filesystem, folder = root.open()
    try:
        filesystem.cat_file(join(folder, path))  # one request, where asking for existence takes two if there is none
    except FileNotFoundError:
        return False
    return True


def log_faults(root: FileRoot, bodies: dict[int, bytes]) -> list[str]:
    """What is wrong with the log and its marks, a line for each damaged file; `bodies` as `read_log` gives them."""
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
    return faults + _mark_faults(root, bodies)


def _mark_faults(root: FileRoot, bodies: dict[int, bytes]) -> list[str]:
    """Marks of commits that the log has lost, and the newest commit's own; the log itself binds the older ones."""
    newest = max(bodies, default=-1)
    marked = {int(name.removesuffix(".json")) for name in root.list_names(COMMITS) if MARK_FILE.fullmatch(name)}
    lost = sorted(version for version in marked if version > newest and not _is_there(root, log_path(version)))
    faults = [_lost_end(version) for version in lost]
    if newest in marked:
        path = mark_path(newest)
        try:
            digest = sealed.from_bytes(root.read(path), path).get(LOG_DIGEST)
        except LabelCorrupt as error:
            return [*faults, str(error)]
        if digest != hashlib.sha256(bodies[newest]).hexdigest():
            faults.append(f"{log_path(newest)} is not the one that {path} was written for")
    return faults
