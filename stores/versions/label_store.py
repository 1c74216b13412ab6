"""Reading a label store at one pinned version."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    CHUNK_SHA256,
    CODE,
    INSTANCE,
    LABEL,
    SHA256,
    TOP1,
    Bounds,
    Pixels,
    counts_thresholds,
)
from hmsa_label.stores.format.chunks import decode_checked
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA
from hmsa_label.stores.format.identity import Identity, check_classes, read_identity
from hmsa_label.stores.format.instances import StoredInstance, from_entries, range_fault, table_digest
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.format.records import thresholds_in
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.location import Location, location_text
from hmsa_label.stores.manifest.table import DIGESTED, Commit, Snapshot, content_digest
from hmsa_label.stores.versions.creation import make_store
from hmsa_label.stores.versions.log import Version, versions_of
from hmsa_label.stores.versions.lookup import keys_where, like, unknown
from hmsa_label.stores.versions.resolve import refuse_pruned, resolve

# Columns that reading labels needs, and the digest of a version.
EAGER = ["height", "width", "segment", "row", *DIGESTED.names]
EAGER += [array.column(CHUNK_SHA256) for array in ARRAYS.values() if array.required]
RULE, INSTANCE_SHA256 = ["threshold", "rule"], ARRAYS[INSTANCE].column(SHA256)
TABLE = ["instances", "instance_table_sha256"]


class LabelStore:
    """The labels of a store at one version, by the key of their image.

    The version never changes under the reader. Opening reads what reading labels needs of the manifest; its other
    columns are read when they are asked for. Picklable, and safe in forked workers.

    `store[key]` is a label, `[H, W]` uint8 trainIds with 255 where nothing was kept; iteration gives the keys in their
    order.

    Attributes:
        version: its number.
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
        uri: Location,
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
        root = FileRoot(location_text(uri), dict(storage_options or {}))
        make_store(root, classes, single_writer=single_writer)
        identity = read_identity(root)
        check_classes(identity, classes, root.uri)
        return cls.open(uri, storage_options=storage_options)

    @classmethod
    def open(
        cls, uri: Location, version: int | str | None = None, *, storage_options: dict[str, Any] | None = None
    ) -> "LabelStore":
        """A reader pinned at a version.

        Args:
            version: a number, a tag's name, "head" for unfinished progress, or None for the last finished version.

        Raises:
            NotAStore: if there is no store at `uri`.
            LabelMissing: if there is no such version or tag, or gc has pruned it.
            LabelCorrupt: if the manifest is not the one that was committed.
        """
        root = FileRoot(location_text(uri), dict(storage_options or {}))
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

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Ascending thresholds that all labels can be brought to by `rethreshold`; empty if one has no evidence."""
        segments = self.table(["evidence_segment"])["evidence_segment"].unique().to_pylist()
        if not segments or None in segments:
            return ()
        return tuple(sorted(set.intersection(*(set(self.grid(segment)) for segment in segments))))

    def versions(self, *, progress: bool = False) -> list[Version]:
        """The versions of the whole store, newest first; with `progress` every commit of a run as well."""
        return versions_of(self.root, progress=progress)[::-1]

    def keys(self) -> list[str]:
        """Names of the labeled images, sorted."""
        return list(self._places)

    def items(self) -> Iterator[tuple[str, U8]]:
        """(key, label) of every image in the order of the keys; a label is read when its turn has come."""
        return ((key, self.read(key)) for key in self)

    def where(
        self, class_name: str | None = None, *, min_pixels: int = 1, min_kept: float = 0.0, max_kept: float = 1.0
    ) -> list[str]:
        """Keys of the images that meet all conditions, sorted; told from the manifest, without reading a label.

        Args:
            class_name: a class of which the label has at least `min_pixels` pixels; None asks for no class.
            min_kept, max_kept: bounds of the share of the pixels that have a class, 0..1, both included.

        Raises:
            ValueError: if the store has no such class; the message lists those it has.
        """
        rows = self.table(["key", "class_px", "kept_share"])
        return keys_where(rows, list(self.classes["names"]), class_name, min_pixels, (min_kept, max_kept))

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """The manifest at this version, one row per image, sorted by key; all columns of FORMAT.md, or those asked for.

        All columns stay in memory once they were read; of a selection, those that reading labels does not need are read
        anew each time.

        Raises:
            ValueError: if there is no such column; the message lists those there are.
            LabelCorrupt: if a file of the manifest is gone or damaged.
        """
        for name in columns or ():
            if name not in MANIFEST_SCHEMA.names:
                raise ValueError(unknown("column", name, MANIFEST_SCHEMA.names))
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
        return top1, code, self.grid(*self._values(["evidence_segment"], self._place(key)))

    @property
    def has_instances(self) -> bool:
        """Whether images of this version tell instances apart."""
        return bool(self._eager[INSTANCE_SHA256].null_count < len(self._places))

    def keys_with_instances(self) -> set[str]:
        """The images whose labels tell instances apart: all or none, unless another teacher labeled a part anew."""
        return set(self._eager["key"].filter(self._eager[INSTANCE_SHA256].is_valid()).to_pylist())

    def instances(self, key: str) -> tuple[NDArray[np.uint16], list[StoredInstance]]:
        """[H, W] uint16 map of the instances that have a label, 0 elsewhere; and all that the teacher found.

        Instance n of the map is the n-th of the list, counted from 1. An instance that the rule dropped is in the list,
        and has no pixel in the map.

        Raises:
            LabelMissing: if the image has no instances, or an object is gone.
            LabelCorrupt: if the stored bytes are not those that were written.
        """
        instance, found = self.read_instances(key)
        instance[self.read(key) == IGNORE_INDEX] = 0
        return instance, list(found)

    def read_instances(self, key: str) -> tuple[NDArray[np.uint16], tuple[StoredInstance, ...]]:
        """[H, W] uint16 map and table of all instances of an image, whatever the rule keeps of them.

        Raises:
            LabelMissing, LabelCorrupt: as `instances`.
        """
        instance, found = self.read_array(key, INSTANCE), self.bounds(key).instances or ()
        if fault := range_fault(instance, len(found)):
            raise LabelCorrupt(f"{key}: {INSTANCE} of version {self.version}: {fault}")
        return instance, found

    def instance_map(self, key: str, label: U8 | None = None) -> NDArray[np.uint16]:
        """The map of `instances` alone, without reading the tables of the version.

        Args:
            label: [H, W] to go by instead of the image's own; 255 where there is none.
        """
        instance = self.read_array(key, INSTANCE)
        instance[(self.read(key) if label is None else label) == IGNORE_INDEX] = 0
        return instance

    def rule(self, key: str) -> Rule:
        """What decided which pixels of an image have a label."""
        return Rule.parse(*self._values(RULE, self._place(key)))

    def bounds(self, key: str) -> Bounds:
        """What decides which values the arrays of an image may hold, its instances among it."""
        place = self._place(key)
        (segment,) = self._values(["evidence_segment"], place)
        entries, digest = self._values(TABLE, place) if self.has_instances else (None, None)
        instances = None if digest is None else from_entries(entries or ())
        if (entries is None) != (digest is None) or (instances is not None and table_digest(instances) != digest):
            raise LabelCorrupt(
                f"{key}: the instances in its row of version {self.version} are not those that were found"
            )
        return Bounds(
            num_classes=self.identity.num_classes,
            things=self.identity.things,
            thresholds=() if segment is None else self.grid(segment),
            instances=instances,
        )

    def grid(self, segment: str) -> tuple[float, ...]:
        """Ascending thresholds that the codes of a segment count; empty for a segment without evidence."""
        if segment not in self._grids:
            path = f"{layout.DATA}/{segment}/{layout.ROOT}"
            try:
                self._grids[segment] = thresholds_in(self.root.read(path), path)
            except FileNotFoundError:
                refuse_pruned(self.root, self.version)
                raise LabelMissing(f"the metadata of segment {segment} is gone: no object {path}") from None
        return self._grids[segment]

    def __repr__(self) -> str:
        return f"LabelStore({self.uri!r}, version={self.version}, images={len(self)})"

    def __getitem__(self, key: str) -> U8:
        return self.read(key)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def _fetch(self, key: str, name: str) -> tuple[bytes, Pixels]:
        """An array's chunk object and its [H, W] pixels, checked against the manifest and the table of arrays."""
        array, place = ARRAYS[name], self._place(key)
        # With the arrays beside it, as whoever reads one of them reads the others.
        digests = [ARRAYS[other].column(CHUNK_SHA256) for other in (name, *array.beside)]
        segment, row, digest = self._values([*array.place, *digests], place)[:3]
        if segment is None or digest is None:
            raise LabelMissing(f"{key}: there is no {name}, as version {self.version} {array.missing}")
        height, width = self._values(["height", "width"], place)
        thresholds = self.grid(segment) if counts_thresholds(name) else ()
        bounds = Bounds(num_classes=self.identity.num_classes, thresholds=thresholds)
        path = layout.chunk_path(segment, height, width, name, row)
        try:
            data = self.root.read(path)
            pixels = decode_checked(data, height, width, array.dtype, chunk_digest=digest)
            if fault := array.values.fault(pixels, bounds):
                raise LabelCorrupt(fault)
        except FileNotFoundError:
            refuse_pruned(self.root, self.version)  # perhaps only now, while this reader was open
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
                f"version {self.version} of {self.uri} holds no label for {key!r}{like(key, self)} ({len(self)} images)"
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

    def _values(self, columns: list[str], place: int) -> list[Any]:
        """What the row at a place holds in some columns; those that are not known yet are read together, and kept."""
        known = self._whole or self._eager
        if missing := [column for column in columns if column not in known]:
            # These alone: all columns of a million rows are a gigabyte, in every process that reads labels.
            known = self._eager = {**self._eager, **_arrays(self.rows.table(missing))}
        return [known[column][place].as_py() for column in columns]


def _arrays(table: pa.Table) -> dict[str, pa.Array]:
    """Columns by name; `Rows.table` gives each in one piece, which is fastest to take a single value from."""
    return {name: table[name].chunk(0) for name in table.column_names}


def _table(arrays: dict[str, pa.Array]) -> pa.Table:
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema([MANIFEST_SCHEMA.field(n) for n in arrays]))
