"""Checkpoints of the manifest's log: a short cut for those who open the store, and nothing that anybody depends on.

delta-rs writes them, for other Delta readers need them too. A note beside the log carries a checkpoint's digest. One
without its note, or that differs from it, is not used: the log says all that it says.
"""

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot, create_bytes, delete_files, join, sync_file
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.format.layout import COMMITS, LOG
from hmsa_label.stores.format.records import CHECKPOINT_NOTE, parse_sealed
from hmsa_label.stores.manifest.delta_actions import CHECKPOINT_INTERVAL, DataFile, data_file
from hmsa_label.stores.manifest.delta_options import delta_options, delta_uri
from hmsa_label.stores.manifest.log_files import digest_of, read_many

CHECKPOINT_FILE = re.compile(r"(\d{20})\.checkpoint\.parquet")
LAST = f"{LOG}/_last_checkpoint"


def checkpoint_path(version: int) -> str:
    """The checkpoint of a version, relative to the store."""
    return f"{LOG}/{version:020d}.checkpoint.parquet"


def note_path(version: int) -> str:
    """The note with the digest of a checkpoint, relative to the store."""
    return f"{COMMITS}/{version}.checkpoint.json"


def checkpoints_in(names: Iterable[str]) -> list[int]:
    """Versions that have a checkpoint, among the names in the log's folder."""
    matches = (CHECKPOINT_FILE.fullmatch(name) for name in names)
    return [int(match[1]) for match in matches if match]


def read_checkpoint(root: FileRoot, version: int) -> tuple[dict[str, DataFile], int] | None:
    """Data files by path and the writer version that a checkpoint holds; None if it is not what was written."""
    note, body = read_many(root, [note_path(version), checkpoint_path(version)])
    try:
        if note is None or body is None or _noted_digest(note, version) != digest_of(body):
            return None
        table = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False).read(["add", "protocol"], use_threads=False)
        files = [data_file(action) for action in table["add"].drop_null().to_pylist()]
        demands = [int(action["minWriterVersion"]) for action in table["protocol"].drop_null().to_pylist()]
    except (LabelCorrupt, pa.ArrowException, OSError, ValueError, TypeError, KeyError):
        return None
    return {file.path: file for file in files}, max(demands, default=0)


def write_checkpoint(root: FileRoot, version: int, files: dict[str, DataFile]) -> None:
    """Leaves a checkpoint of a version, whose data files are known; failing to is no error, as nothing depends on it.

    One that delta-rs stumbles over, or that would make it write another table than the log tells of, is removed first.
    """
    if version % CHECKPOINT_INTERVAL or not version:
        return
    with contextlib.suppress(DeltaError, OSError):
        table = _open(root, version, files)
        if table is None:
            _remove_unsound(root)
            table = _open(root, version, files)
        if table is None:
            return
        table.create_checkpoint()
        body = root.read(checkpoint_path(version))
        filesystem, path = root.open()
        for name in (checkpoint_path(version), LAST):
            sync_file(filesystem, join(path, name))
        note = self_digest.to_bytes({"version": version, "sha256": digest_of(body)})
        create_bytes(filesystem, join(path, note_path(version)), note)


def _open(root: FileRoot, version: int, files: dict[str, DataFile]) -> Any:
    """The table as delta-rs has it, None if it cannot open it or takes it for another than the log tells of."""
    options = delta_options(root.uri, root.storage_options)
    try:
        table = DeltaTable(delta_uri(root.uri), version=version, storage_options=options)
        actions = pa.table(table.get_add_actions())
    except DeltaError:
        return None
    found = dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))
    return table if found == {path: file.size_bytes for path, file in files.items()} else None


def _remove_unsound(root: FileRoot) -> None:
    """Deletes what points to the newest checkpoint, and every checkpoint that is not the one its note tells of."""
    filesystem, path = root.open()
    unsound = [version for version in checkpoints_in(root.list_names(LOG)) if read_checkpoint(root, version) is None]
    names = [LAST, *(name for version in unsound for name in (checkpoint_path(version), note_path(version)))]
    delete_files(filesystem, [join(path, name) for name in names])


def checkpoint_faults(root: FileRoot) -> list[str]:
    """What is wrong with checkpoints, a line for each; no reader of this package needs them, other Delta readers do."""
    present, faults = checkpoints_in(root.list_names(LOG)), []
    for version in present:
        note, body = read_many(root, [note_path(version), checkpoint_path(version)])
        if note is None:
            continue  # of another tool, or of a writer that was killed before its note
        try:
            if body is not None and _noted_digest(note, version) != digest_of(body):
                faults.append(f"{checkpoint_path(version)} is not the one that was written; {_remedy(version)}")
        except LabelCorrupt as error:
            faults.append(str(error))
    (last,) = read_many(root, [LAST])
    if last is not None:
        named = _version_in(last)
        if named is None:
            faults.append(f"{LAST} does not read; {_remedy(None)}")
        elif named not in present:
            faults.append(f"{checkpoint_path(named)} is gone, but {LAST} names it; {_remedy(None)}")
    return faults


def _remedy(version: int | None) -> str:
    """What to do about a damaged checkpoint."""
    names = [LAST] if version is None else [LAST, checkpoint_path(version), note_path(version)]
    return (
        "labels are read from the log instead, other Delta readers may refuse the table: delete "
        f"{' and '.join(names)}, a later commit writes a new one"
    )


def _version_in(last: bytes) -> int | None:
    try:
        return int(json.loads(last)["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _noted_digest(note: bytes, version: int) -> str:
    document = parse_sealed(note, CHECKPOINT_NOTE, note_path(version))
    if document["version"] != version:
        raise LabelCorrupt(f"{note_path(version)} is the note of version {document['version']}")
    return str(document["sha256"])
