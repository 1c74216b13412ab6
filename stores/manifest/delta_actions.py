"""One file of the Delta log, read and written: which data files a commit adds and removes, and our record of it.

Written here and not by delta-rs, so that one create-if-absent makes a commit on every storage, its bytes are on the
disk before anything refers to them, and an answer that was lost is told from a lost race. The format is that of the
Delta protocol for tables without partitions, reader version 1 and writer version 2.
"""

import json
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from deltalake import Schema

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA
from hmsa_label.stores.format.layout import COMMITS, LOG, log_path
from hmsa_label.stores.format.records import COMMIT
from hmsa_label.stores.format.self_digest import is_whole

COMMIT_KEY = "hmsa_label"
ENGINE = "hmsa-label"
BEFORE = "log_sha256"  # in a record: of the log file before
# What another tool's commit does to a table; one that does nothing of it is no commit but a damaged file.
TABLE_ACTIONS = frozenset({"add", "remove", "metaData", "protocol", "txn", "domainMetadata", "cdc"})
READER_VERSION, WRITER_VERSION = 1, 2

# The log is the audit trail: it never expires, and a foreign `vacuum` finds nothing old enough to delete.
CHECKPOINT_INTERVAL = 10  # commits; measured, benchmarks/results/store_requests.md
MANIFEST_CONFIGURATION = {
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A Parquet file of the table.

    Attributes:
        path: below the manifest's folder.
        rows: how many it holds; None if the tool that wrote it did not say.
    """

    path: str
    size_bytes: int
    rows: int | None


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """What one file of the log does.

    Attributes:
        sha256: hex digest of the file.
        record: ours of the commit; None if another tool made it.
        writer_version: what the commit demands of writers from now on, None if it does not say.
    """

    version: int
    sha256: str
    record: dict[str, Any] | None = field(repr=False)
    added: tuple[DataFile, ...] = ()
    removed: tuple[str, ...] = ()
    writer_version: int | None = None


def way_out(version: int) -> str:
    """What to do about a log file that cannot be trusted."""
    back = "put it back from a copy of the store"
    if version == 0:
        return f"{back}, nothing can be read without it"
    return (
        f"{back}, or go on from version {version - 1}: move away what is numbered {version} or higher in {LOG} and "
        f"{COMMITS}"
    )


def parse(body: bytes, version: int, sha256: str) -> LogFile:
    """What a log file does.

    Raises:
        LabelCorrupt: naming the file, if it does not read, does nothing, or its record is not the one that was written.
    """
    where = f"{log_path(version)} (version {version} of the manifest)"
    try:
        actions = [json.loads(line) for line in body.splitlines() if line]
        record = _record(actions, version)
        found = {name for action in actions for name in action}
        added = tuple(data_file(action["add"]) for action in actions if "add" in action)
        removed = tuple(unquote(action["remove"]["path"]) for action in actions if "remove" in action)
        demands = [int(action["protocol"]["minWriterVersion"]) for action in actions if "protocol" in action]
    except LabelCorrupt as error:
        raise LabelCorrupt(f"{where}: {error}; {way_out(version)}") from None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise LabelCorrupt(f"{where} does not read: {type(error).__name__}: {error}; {way_out(version)}") from None
    if record is None and not found & TABLE_ACTIONS:
        raise LabelCorrupt(
            f"{where} is no commit: it holds neither our record nor any change of the table; {way_out(version)}"
        )
    return LogFile(
        version=version,
        sha256=sha256,
        record=record,
        added=added,
        removed=removed,
        writer_version=max(demands, default=None),
    )


def _record(actions: list[dict[str, Any]], version: int) -> dict[str, Any] | None:
    """Our record among the actions of one commit."""
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    record: dict[str, Any] | None = info.get(COMMIT_KEY)
    if record is None:
        if info.get("engineInfo") == ENGINE:
            raise LabelCorrupt("its record is gone")
        return None
    if not is_whole(record):
        raise LabelCorrupt("its record was changed")
    if fault := COMMIT.fault(record, ""):
        raise LabelCorrupt(f"its record is badly formed: {fault}")
    if record["version"] != version:
        raise LabelCorrupt(f"it is that of version {record['version']}")
    if version and not record.get(BEFORE):
        raise LabelCorrupt("its record does not say what it was built on")
    return record


def data_file(action: dict[str, Any]) -> DataFile:
    """The file that an `add` action adds.

    Raises:
        LabelCorrupt: if it lies outside of the table, or some of its rows are deleted by a vector beside it.
        ValueError, TypeError, KeyError: if the action is badly formed.
    """
    path, size_bytes = unquote(action["path"]), int(action["size"])
    if "://" in path or path.startswith("/") or ".." in path.split("/") or not path:
        raise LabelCorrupt(f"it adds a file outside of the table: {path!r}")
    if action.get("deletionVector") is not None:
        raise LabelCorrupt(f"it deletes rows of {path} by a deletion vector, which this package does not read")
    rows = json.loads(action.get("stats") or "{}").get("numRecords")
    return DataFile(path=path, size_bytes=size_bytes, rows=None if rows is None else int(rows))


def commit_body(record: dict[str, Any], added: Iterable[DataFile] = (), removed: Iterable[DataFile] = ()) -> bytes:
    """The log file of a commit; `record` is sealed."""
    moment = _milliseconds()
    gone, new = list(removed), list(added)
    mode = "Overwrite" if gone else "Append"
    lines: list[dict[str, Any]] = [_info(record, moment, "WRITE", {"mode": mode, "partitionBy": "[]"})]
    for file in gone:
        facts = {"extendedFileMetadata": True, "partitionValues": {}, "size": file.size_bytes}
        lines.append({"remove": {"path": file.path, "deletionTimestamp": moment, "dataChange": True, **facts}})
    for file in new:
        stats = json.dumps({"numRecords": file.rows})
        facts = {"partitionValues": {}, "size": file.size_bytes, "modificationTime": moment, "stats": stats}
        lines.append({"add": {"path": file.path, "dataChange": True, **facts}})
    return _lines(lines)


def creation_body(record: dict[str, Any]) -> bytes:
    """The first log file: an empty table with the manifest's columns and properties."""
    moment = _milliseconds()
    table = {
        "id": str(uuid.uuid4()),
        "name": "hmsa-label manifest",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": Schema.from_arrow(MANIFEST_SCHEMA).to_json(),
        "partitionColumns": [],
        "configuration": MANIFEST_CONFIGURATION,
        "createdTime": moment,
    }
    protocol = {"minReaderVersion": READER_VERSION, "minWriterVersion": WRITER_VERSION}
    info = _info(record, moment, "CREATE TABLE", {"mode": "ErrorIfExists"})
    return _lines([info, {"protocol": protocol}, {"metaData": table}])


def _info(record: dict[str, Any], moment: int, operation: str, parameters: dict[str, str]) -> dict[str, Any]:
    facts = {"timestamp": moment, "operation": operation, "operationParameters": parameters, "engineInfo": ENGINE}
    return {"commitInfo": {**facts, COMMIT_KEY: record}}


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _lines(actions: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions).encode()
