"""The files of the manifest's log and the marks beside it, and how damage to any of them shows.

Each record carries a digest of itself and of the log file before it, so every file but the newest is bound byte by byte
to what was built on it. For the newest one a mark beside the log does that: it is written right after the commit.
"""

import contextlib
import hashlib
import re
from collections.abc import Container, Iterable, Iterator
from itertools import islice

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot, create_bytes, join
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.format.layout import COMMITS, LOG, LOG_FILE, log_path
from hmsa_label.stores.format.records import COMMIT_MARK, parse_sealed
from hmsa_label.stores.manifest.delta_actions import BEFORE, LogFile, parse, way_out
from hmsa_label.stores.parallel import map_threads

MARK_FILE = re.compile(r"\d+\.json")
DIGEST = "log_sha256"  # in a mark: of the commit's own log file
THREADS = 16  # reading is waiting
MOST_GONE = 100  # log files that are named as gone


def read_many(root: FileRoot, paths: Iterable[str]) -> list[bytes | None]:
    """The files at some paths below the store, None for each that is not there; one request each."""
    filesystem, top = root.open()

    def read(path: str) -> bytes | None:
        # Not by `root.read`, which asks once more for a folder where there is no file.
        try:
            return bytes(filesystem.cat_file(join(top, path)))
        except FileNotFoundError:
            return None

    paths = list(paths)
    return list(map_threads(read, paths, 1 if root.is_local else min(THREADS, len(paths))))


def versions_in(names: Iterable[str]) -> list[int]:
    """Versions that have a log file, among the names in the log's folder, ascending."""
    return sorted(int(name.removesuffix(".json")) for name in names if LOG_FILE.fullmatch(name))


def read_log(root: FileRoot) -> dict[int, bytes]:
    """Every log file of a store by its version, ascending."""
    versions = versions_in(root.list_names(LOG))
    bodies = read_many(root, map(log_path, versions))
    return {version: body for version, body in zip(versions, bodies, strict=True) if body is not None}


def digest_of(body: bytes) -> str:
    """Hex sha256 of a file."""
    return hashlib.sha256(body).hexdigest()


def mark_commit(root: FileRoot, version: int, log_sha256: str) -> None:
    """Leaves a mark of a commit outside of the log; the commit stands without it, so failing to is no error."""
    filesystem, path = root.open()
    with contextlib.suppress(OSError):
        create_bytes(
            filesystem, join(path, mark_path(version)), self_digest.to_bytes({"version": version, DIGEST: log_sha256})
        )


def mark_path(version: int) -> str:
    """The mark of one commit, relative to the store."""
    return f"{COMMITS}/{version}.json"


def marked_digest(body: bytes, version: int) -> str:
    """The digest of a commit's log file, as its mark says it.

    Raises:
        LabelCorrupt: if the mark is damaged, or another's.
    """
    mark = parse_sealed(body, COMMIT_MARK, mark_path(version))
    if mark["version"] != version:
        raise LabelCorrupt(f"{mark_path(version)} is the mark of version {mark['version']}")
    return str(mark[DIGEST])


def refuse_changed(file: LogFile, mark: bytes | None, successor: LogFile | None) -> None:
    """Refuses a log file that is not the one that was committed, as its mark and the commit after it tell.

    A mark that is damaged itself says nothing; `verify` names it.

    Raises:
        LabelCorrupt: naming the file and the way out.
    """
    marked = None
    with contextlib.suppress(LabelCorrupt):
        marked = marked_digest(mark, file.version) if mark is not None else None
    if marked not in (None, file.sha256):
        raise LabelCorrupt(changed(file.version, f"{mark_path(file.version)} was written for"))
    if successor is not None:
        refuse_other_base(file.version, file.sha256, successor)


def refuse_other_base(version: int, sha256: str, successor: LogFile) -> None:
    """Refuses a log file that is not the one that the commit after it was built on.

    Raises:
        LabelCorrupt: naming the file and the way out.
    """
    if successor.record is not None and successor.record[BEFORE] != sha256:
        raise LabelCorrupt(changed(version, f"version {successor.version} was built on"))


def changed(version: int, witness: str) -> str:
    """What is said of a log file that is not the one a witness tells of."""
    return f"{log_path(version)} is not the one that {witness}; {way_out(version)}"


def gone(version: int) -> str:
    """What is said of a log file that is not there."""
    return f"{log_path(version)} is gone; {way_out(version)}"


def lost_end(version: int) -> str:
    """What is said of the newest commit if it left a mark, but no log file."""
    return (
        f"{log_path(version)} is gone, but {mark_path(version)} says that version {version} was committed; "
        f"{way_out(version)}"
    )


def missing_below(version: int, present: Container[int], first: int = 0) -> Iterator[int]:
    """Versions from `first` on, below another, that have no log file; lazily, as a stray file may have any number."""
    return (number for number in range(first, version) if number not in present)


def log_faults(root: FileRoot, bodies: dict[int, bytes]) -> list[str]:
    """What is wrong with the log and its marks, a line for each damaged file; `bodies` as `read_log` gives them."""
    faults = [gone(version) for version in islice(missing_below(max(bodies, default=0), bodies), MOST_GONE)]
    for version, body in bodies.items():
        try:
            file = parse(body, version, digest_of(body))
            if version - 1 in bodies:
                refuse_other_base(version - 1, digest_of(bodies[version - 1]), file)
        except LabelCorrupt as error:
            faults.append(str(error))
    return list(dict.fromkeys(faults + _mark_faults(root, bodies)))


def _mark_faults(root: FileRoot, bodies: dict[int, bytes]) -> list[str]:
    """Marks of commits that the log has lost, marks that are damaged, and log files that are not those marked."""
    newest, faults = max(bodies, default=-1), []
    names = [name for name in root.list_names(COMMITS) if MARK_FILE.fullmatch(name)]
    marked = sorted(int(name.removesuffix(".json")) for name in names)
    for version, mark in zip(marked, read_many(root, map(mark_path, marked)), strict=True):
        try:
            digest = marked_digest(mark or b"", version)
        except LabelCorrupt as error:
            faults.append(str(error))
            digest = None
        if version in bodies:
            if digest not in (None, digest_of(bodies[version])):
                faults.append(changed(version, f"{mark_path(version)} was written for"))
        elif version > newest and read_many(root, [log_path(version)])[0] is None:  # else committed since
            faults.append(lost_end(version))
    return faults
