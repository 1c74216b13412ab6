"""Reading a label store at one pinned version.

Signatures, for those who build on them:
    LabelStore.create(uri, classes, *, storage_options=None, single_writer=False) -> LabelStore
    LabelStore.open(uri, version=None, *, storage_options=None) -> LabelStore
        version: number (3 or "v3"), tag, "head" for progress, None for the last finished one
    .uri .version .digest .classes .commit .identity; len(store); key in store
    .keys() .read(key) .read_evidence(key) .read_crop(key, y, x, height, width) .table(columns=None) .receipt(key)
    .grid(segment)
    runs/writer.py: RunWriter(store_uri, run, *, relabel=False, kind=None, storage_options=None)
    runs/segment.py: SegmentWriter(store_uri, run_id, grid, threshold, capacity, storage_options=None)
        .write(facts, arrays, *, evidence_of=None) -> Receipt
    format/receipt.py: ImageFacts, Receipt
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreError
from hmsa_label.stores.files import FileRoot, create_bytes, join, public_uri
from hmsa_label.stores.format import schema
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    CHUNK_SHA256,
    CODE,
    LABEL,
    SHA256,
    TOP1,
    Bounds,
    Pixels,
    evidence_arrays,
)
from hmsa_label.stores.format.chunks import decode_checked
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA
from hmsa_label.stores.format.identity import (
    Identity,
    check_classes,
    read_identity,
    refuse_lost_identity,
    write_identity,
)
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.format.records import thresholds_in
from hmsa_label.stores.format.schema import U8
from hmsa_label.stores.format.zarr_metadata import group_metadata
from hmsa_label.stores.manifest.table import Commit, Manifest, Snapshot, content_digest
from hmsa_label.stores.versions.probe import probe_storage
from hmsa_label.stores.versions.tags import read_mark, refuse_other_than_tagged, version_number

HEAD = "head"
# Columns that reading labels needs, and the digest of a version.
EAGER = ["key", "height", "width", "segment", "row"]
EAGER += [a.column(part) for a in ARRAYS.values() for part in (SHA256, CHUNK_SHA256) if a.required or a.in_digest]
# Columns that reading evidence needs besides.
EVIDENCE = ["evidence_segment", "evidence_row", *(array.column(CHUNK_SHA256) for array in evidence_arrays())]


class LabelStore:
    """A store at one version, which never changes under the reader; picklable, and safe in forked workers.

    Opening reads what reading labels needs of the manifest; its other columns are read when they are asked for.
    """

    def __init__(self, root: FileRoot, identity: Identity, snapshot: Snapshot) -> None:
        self.root = root
        self.identity = identity
        self.commit: Commit = snapshot.commit
        self.version = snapshot.version
        self.rows = replace(snapshot.rows(), num_classes=identity.num_classes)
        self._eager = _arrays(self.rows.table(EAGER))
        self._whole: dict[str, pa.Array] | None = None
        self._places = {key: place for place, key in enumerate(self._eager["key"].to_pylist())}
        self._grids: dict[str, tuple[float, ...]] = {}

    @classmethod
    def create(
        cls,
        uri: str,
        classes: dict[str, Any],
        *,
        storage_options: dict[str, Any] | None = None,
        single_writer: bool = False,
    ) -> "LabelStore":
        """A new store, or the one that is there already if it holds the same classes.

        Args:
            classes: class table as `ClassTable.to_dict` gives it; `names` in trainId order.

        Raises:
            UnsafeStorage: if the storage breaks create-if-absent and `single_writer` is not set.
            StoreConflict: if there is a store with other classes.
        """
        root = FileRoot(uri, dict(storage_options or {}))
        manifest = Manifest(root.uri, storage_options)
        if not _exists(root):
            refuse_lost_identity(root)
            probe = _probed(root, single_writer=single_writer)
            manifest.create()
            _ensure_group(root, schema.DATA)
            write_identity(root, classes, probe)
        identity = read_identity(root)
        check_classes(identity, classes, uri)
        return cls.open(uri, storage_options=storage_options)

    @classmethod
    def open(
        cls, uri: str, version: int | str | None = None, *, storage_options: dict[str, Any] | None = None
    ) -> "LabelStore":
        """A reader pinned at a version.

        Args:
            version: a number, a tag's name, "head" for unfinished progress, or None for the last finished version.

        Raises:
            NotAStore: if there is no store at `uri`.
            LabelMissing: if there is no such version or tag, or gc has pruned it.
            LabelCorrupt: if the manifest is not the one that was committed.
        """
        root = FileRoot(uri, dict(storage_options or {}))
        identity = read_identity(root)
        store = cls(root, identity, resolve(root, version))
        store._refuse_changed_rows()
        return store

    @property
    def uri(self) -> str:
        """The store's place, without credentials."""
        return public_uri(self.root.uri)

    @property
    def classes(self) -> dict[str, Any]:
        """The class table as `ClassTable.to_dict` gave it."""
        return self.identity.classes

    @property
    def digest(self) -> str:
        """Content digest of this version, computed from its rows: hex sha256 over sorted (key, label sha256)."""
        return content_digest(_table(self._eager))

    def keys(self) -> list[str]:
        """Names of the labelled images, sorted."""
        return list(self._places)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """The manifest at this version, one row per image, sorted by key; all columns of FORMAT.md, or those asked for.

        All columns stay in memory once they were read; of a selection, those that reading labels does not need are read
        anew each time.

        Raises:
            LabelCorrupt: if a file of the manifest is gone or damaged.
        """
        if columns is not None:
            known = self._whole or self._eager  # not once more: a column of a million digests is 70 MB
            others = [name for name in columns if name not in known]
            read = _arrays(self.rows.table(others)) if others else {}
            return _table({name: known[name] if name in known else read[name] for name in columns})
        if self._whole is None:
            self._whole = _arrays(self.rows.table())
        return _table(self._whole)

    def receipt(self, key: str) -> Receipt:
        """The manifest row of an image.

        Raises:
            LabelMissing: if this version has no label for it.
        """
        return Receipt.from_row(self.table().slice(self._place(key), 1).to_pylist()[0])

    def read(self, key: str) -> U8:
        """[H, W] uint8 trainIds of an image, 255 where it was below the threshold; a fresh, writable array.

        Raises:
            LabelMissing: if this version has no label for it, or its object is gone.
            LabelCorrupt: if the stored bytes are not those that were written.
        """
        return self._fetch(key, LABEL)[1]

    def read_array(self, key: str, name: str) -> Pixels:
        """[H, W] array of an image by its name, such as `top1`, in the type that FORMAT.md states; fresh and writable.

        Raises:
            ValueError: if stores know no such array.
            LabelMissing: if the image does not have it, or its object is gone.
            LabelCorrupt: if the stored bytes are not those that were written.
        """
        if name not in ARRAYS:
            raise ValueError(f"there is no array {name!r}; known are {', '.join(ARRAYS)}")
        return self._fetch(key, name)[1]

    def read_encoded(self, key: str, name: str = LABEL) -> bytes:
        """The chunk object of an array, checked as `read` checks it: one zstd frame, for copying elsewhere.

        Raises:
            LabelMissing, LabelCorrupt: as `read_array`.
        """
        return self._fetch(key, name)[0]

    def read_crop(self, key: str, y: int, x: int, height: int, width: int) -> U8:
        """[height, width] uint8 part of a label, from row `y` and column `x` on; the whole image is read and checked.

        Raises:
            ValueError: if the crop reaches beyond the image.
        """
        label = self._fetch(key, LABEL)[1]
        if y < 0 or x < 0 or height < 1 or width < 1 or y + height > label.shape[0] or x + width > label.shape[1]:
            raise ValueError(
                f"{key}: a crop of {height} x {width} at (y, x) = ({y}, {x}) reaches beyond the image of "
                f"{label.shape[0]} x {label.shape[1]}"
            )
        return label[y : y + height, x : x + width].copy()

    def read_evidence(self, key: str) -> tuple[U8, U8, tuple[float, ...]]:
        """[H, W] uint8 arg-max trainIds, [H, W] uint8 codes, and the thresholds that the codes count.

        Raises:
            LabelMissing: if the image has no evidence, or its objects are gone.
            LabelCorrupt: if the stored bytes are not those that were written.
        """
        top1, code = self._fetch(key, TOP1)[1], self._fetch(key, CODE)[1]
        return top1, code, self.grid(self._value("evidence_segment", self._place(key)))

    def grid(self, segment: str) -> tuple[float, ...]:
        """Ascending thresholds that the codes of a segment count; empty for a segment without evidence."""
        if segment not in self._grids:
            path = f"{schema.DATA}/{segment}/{schema.ROOT}"
            try:
                self._grids[segment] = thresholds_in(self.root.read(path), path)
            except FileNotFoundError:
                _refuse_pruned(self.root, self.version)
                raise LabelMissing(f"the metadata of segment {segment} is gone: no object {path}") from None
        return self._grids[segment]

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def _fetch(self, key: str, name: str) -> tuple[bytes, Pixels]:
        """An array's chunk object and its [H, W] pixels, checked against the manifest and the table of arrays."""
        array, place = ARRAYS[name], self._place(key)
        segment, row = (self._value(column, place) for column in array.place)
        digest = self._value(array.column(CHUNK_SHA256), place)
        if segment is None or digest is None:
            raise LabelMissing(
                f"{key}: version {self.version} keeps no evidence for this image (no {name}); label it again with "
                "--evidence"
            )
        height, width = self._value("height", place), self._value("width", place)
        bounds = Bounds(num_classes=self.identity.num_classes, thresholds=() if array.required else self.grid(segment))
        path = schema.chunk_path(segment, height, width, name, row)
        try:
            data = self.root.read(path)
            pixels = decode_checked(data, height, width, array.dtype, chunk_digest=digest)
            if fault := array.values.fault(pixels, bounds):
                raise LabelCorrupt(fault)
        except FileNotFoundError:
            _refuse_pruned(self.root, self.version)  # perhaps only now, while this reader was open
            raise LabelMissing(
                f"{key}: {name} of version {self.version} is gone: no object {path} in {self.uri}"
            ) from None
        except LabelCorrupt as error:
            raise LabelCorrupt(f"{key}: {name} of version {self.version} in {path}: {error}") from None
        return data, pixels

    def _place(self, key: str) -> int:
        try:
            return self._places[key]
        except KeyError:
            raise LabelMissing(
                f"version {self.version} of {self.uri} holds no label for {key!r} ({len(self)} images)"
            ) from None

    def _refuse_changed_rows(self) -> None:
        """Damage to a key or digest in the manifest could hand out one image's label as another's."""
        own = self.commit.version == self.version
        sound = len(self) == len(self._eager["key"]) and (not own or len(self) == self.commit.images)
        if not sound or (own and self.commit.is_finished and self.digest != self.commit.digest):
            raise LabelCorrupt(
                f"the rows of version {self.version} of {self.uri} are not those that were committed; "
                "`hmsa-label audit verify` says which"
            )

    def _value(self, column: str, place: int) -> Any:
        known = self._whole or self._eager
        if column not in known:
            # These alone: all columns of a million rows are a gigabyte, in every process that reads labels.
            read = _arrays(self.rows.table(EVIDENCE if column in EVIDENCE else [column]))
            known = self._eager = {**self._eager, **read}
        return known[column][place].as_py()


def resolve(root: FileRoot, version: int | str | None) -> Snapshot:
    """The manifest at a version number, tag, "head" or, for None, the last finished version.

    Raises:
        LabelMissing: if there is no such version or tag, or gc has pruned it.
    """
    manifest = Manifest(root.uri, root.storage_options)
    if version is None or version == HEAD:
        head = manifest.head()
        if version == HEAD:
            return head
        number = head.commit.finished
        _refuse_pruned(root, number)
        return head if number == head.version else manifest.at(number)
    number = version_number(root, version)
    _refuse_pruned(root, number)
    snapshot = manifest.at(number)
    refuse_other_than_tagged(root, version, snapshot.commit)
    return snapshot


def _refuse_pruned(root: FileRoot, version: int) -> None:
    try:
        note = read_mark(root, version)
    except FileNotFoundError:
        return
    raise LabelMissing(
        f"version {version} of {public_uri(root.uri)} was pruned by gc at {note['time']}; its pixels are gone, "
        "`hmsa-label audit log` lists the versions that are whole"
    )


def _arrays(table: pa.Table) -> dict[str, pa.Array]:
    """Columns by name; `Rows.table` gives each in one piece, which is fastest to take a single value from."""
    return {name: table[name].chunk(0) for name in table.column_names}


def _table(arrays: dict[str, pa.Array]) -> pa.Table:
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema([MANIFEST_SCHEMA.field(n) for n in arrays]))


def _probed(root: FileRoot, *, single_writer: bool) -> dict[str, Any]:
    try:
        return probe_storage(root, single_writer=single_writer)
    except FileNotFoundError as error:  # of object stores: folders are made
        where = public_uri(root.uri)
        raise StoreError(f"cannot make a store at {where}: {error}; make the bucket, or correct --store") from None


def _exists(root: FileRoot) -> bool:
    filesystem, path = root.open()
    return bool(filesystem.exists(join(path, schema.ROOT)))


def _ensure_group(root: FileRoot, folder: str) -> None:
    filesystem, path = root.open()
    try:
        create_bytes(filesystem, join(path, folder, schema.ROOT), group_metadata())
    except FileExistsError:
        return
