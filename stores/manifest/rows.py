"""The rows of one version, read from its Parquet files; picklable, and safe in forked workers, unlike delta-rs."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA, column_fault
from hmsa_label.stores.format.forms import stays_below
from hmsa_label.stores.format.layout import MANIFEST

BATCH_ROWS = 4096
# Files of this software carry their digest in their name; those of other tools are compared by size alone.
OWN_FILE = re.compile(r"part-[0-9a-f]{16}-([0-9a-f]{64})\.zstd\.parquet")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where the rows of a version are.

    Attributes:
        root: the store.
        files: (path below the manifest's folder, size in bytes) of each Parquet file, as the log has them.
        num_classes: of the store, if it is known; then every row must count that many.
    """

    version: int
    root: FileRoot = field(repr=False)
    files: tuple[tuple[str, int], ...] = field(repr=False)
    num_classes: int | None = None

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Rows sorted by key, with the columns of `MANIFEST_SCHEMA` or those asked for.

        Raises:
            LabelCorrupt: if a file of the table is gone or damaged.
        """
        wanted = columns or MANIFEST_SCHEMA.names
        files = {path: self._open(path, size_bytes) for path, size_bytes in self.files}
        order = pc.sort_indices(self._column(files, "key"))
        # One column at a time, so that only one is held twice: a million rows take a gigabyte.
        arrays = [self._column(files, name).take(order).combine_chunks() for name in wanted]
        return pa.table(arrays, schema=pa.schema([MANIFEST_SCHEMA.field(name) for name in wanted]))

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """All rows, some thousands at a time, in no order; a million at once are more than a gigabyte.

        Args:
            columns: those of `MANIFEST_SCHEMA` that are wanted; None is all.

        Raises:
            LabelCorrupt: if a file of the table is gone or damaged.
        """
        schema = pa.schema([MANIFEST_SCHEMA.field(name) for name in columns]) if columns else MANIFEST_SCHEMA
        for path, size_bytes in self.files:
            file = self._open(path, size_bytes)
            names = [name for name in schema.names if self._has(path, file, name)]
            rows, batches = 0, file.iter_batches(BATCH_ROWS, columns=names, use_threads=False)
            while (batch := self._next(path, batches)) is not None:
                found = {name: self._checked(path, name, batch.column(name)) for name in names}
                rows += batch.num_rows
                values = [found.get(field.name, pa.nulls(batch.num_rows, field.type)) for field in schema]
                yield pa.table(values, schema=schema)
            if rows != file.metadata.num_rows:
                raise self._damaged(path, f"{rows} rows of {file.metadata.num_rows}")

    def _next(self, path: str, batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
        try:
            return next(batches, None)
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise self._damaged(path, error) from None

    def _open(self, path: str, size_bytes: int) -> Any:
        # Not by delta-rs' to_pyarrow_table: Arrow's reader threads, still there when the interpreter ends, abort 2 to
        # 3 % of short processes after all their work is done.
        try:
            if not stays_below(path):
                raise ValueError("it lies outside of the store")
            data = self.root.read(f"{MANIFEST}/{path}")
            if len(data) != size_bytes:
                raise ValueError(f"it has {len(data)} bytes, the log says {size_bytes}")
            own = OWN_FILE.fullmatch(path)
            if own and hashlib.sha256(data).hexdigest() != own[1]:
                raise ValueError("it is not what was written")
            file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
            if not 0 <= file.metadata.num_rows <= len(data):  # each row has a key and a time of its own
                raise ValueError(f"it claims {file.metadata.num_rows} rows in {len(data)} bytes")
            if fault := _table_fault(file.metadata, len(data)):
                raise ValueError(fault)
            return file
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._damaged(path, error) from None

    def _column(self, files: dict[str, Any], name: str) -> pa.ChunkedArray:
        """One column of all files, in their order."""
        parts = [self._part(path, file, name) for path, file in files.items()]
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], MANIFEST_SCHEMA.field(name).type)

    def _has(self, path: str, file: Any, name: str) -> bool:
        """Whether a file has a column; one that may be null need not be there, as in any Delta table."""
        if name in file.schema_arrow.names:
            return True
        if not MANIFEST_SCHEMA.field(name).nullable:
            raise self._damaged(path, f"it has no column {name}")
        return False

    def _part(self, path: str, file: Any, name: str) -> pa.ChunkedArray:
        """One column of one file, every value of the right type: writers spell the types of strings in several ways."""
        if not self._has(path, file, name):
            return pa.chunked_array([pa.nulls(file.metadata.num_rows, MANIFEST_SCHEMA.field(name).type)])
        try:
            read = file.read(columns=[name], use_threads=False)[name]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise self._damaged(path, error) from None
        values = self._checked(path, name, read)
        if len(values) != file.metadata.num_rows:
            raise self._damaged(path, f"{len(values)} values of {name} for {file.metadata.num_rows} rows")
        return values

    def _checked(self, path: str, name: str, values: Any) -> Any:
        """Values of a column, in its type, once they are known to be sound."""
        field = MANIFEST_SCHEMA.field(name)
        try:
            values = values.cast(field.type)
            values.validate(full=True)  # Parquet pages have no checksum; text that is no UTF-8 would fail much later
        except (pa.ArrowException, ValueError) as error:
            raise self._damaged(path, error) from None
        if values.null_count and not field.nullable:
            raise self._damaged(path, f"rows without a {name}")
        fault = column_fault(name, values, self.num_classes)
        if fault:
            raise self._damaged(path, f"{name} holds {fault}")
        return values

    def _damaged(self, path: str, reason: object) -> LabelCorrupt:
        return LabelCorrupt(f"the manifest of version {self.version} does not read: {MANIFEST}/{path}: {reason}")


def _table_fault(metadata: Any, size_bytes: int) -> str:
    """What is wrong if a file states more instances than it has bytes: equal ones compress to nothing.

    Those of a teacher differ in their scores, and no file of them comes near this bound.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = (group.column(place) for group in groups for place in range(group.num_columns))
    counts: Counter[str] = Counter()
    for column in columns:
        if column.path_in_schema.startswith("instances."):
            counts[column.path_in_schema] += column.num_values
    most = max(counts.values(), default=0)
    return f"{most:,} entries of a table of instances are claimed in {size_bytes} bytes" if most > size_bytes else ""
