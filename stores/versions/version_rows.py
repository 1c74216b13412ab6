"""What the manifest says of the images of one pinned version, before any pixel is read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    BYTES,
    CHUNK_SHA256,
    INSTANCE,
    ORIGIN,
    SHA256,
    Bounds,
)
from hmsa_label.stores.format.columns import MANIFEST_SCHEMA
from hmsa_label.stores.format.identity import Identity
from hmsa_label.stores.format.instances import from_entries, table_digest
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.format.masks import read_mask
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.format.records import Grids, grids_in
from hmsa_label.stores.format.rule import MaskOf, Rule
from hmsa_label.stores.manifest.table import DIGESTED, Commit, Snapshot, content_digest
from hmsa_label.stores.versions.lookup import keys_where, like, unknown
from hmsa_label.stores.versions.resolve import refuse_pruned

# Columns that reading labels needs, and the digest of a version.
EAGER = ["height", "width", "segment", "row", *DIGESTED.names]
EAGER += [array.column(CHUNK_SHA256) for array in ARRAYS.values() if array.required]
RULE, INSTANCE_SHA256 = ["threshold", "rule"], ARRAYS[INSTANCE].column(SHA256)
ORIGIN_SHA256 = ARRAYS[ORIGIN].column(SHA256)
TABLE = ["instances", "instance_table_sha256"]


class VersionRows:
    """The rows of a version, by the key of their image; `LabelStore` adds the pixels.

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
        self._names = tuple(identity.classes["names"])
        self._grids: dict[str, Grids] = {}
        self._masks: dict[MaskOf, U8] = {}

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

    def keys(self) -> list[str]:
        """Names of the labeled images, sorted."""
        return list(self._places)

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
                others = sorted(MANIFEST_SCHEMA.names, key=lambda name: name.endswith((SHA256, BYTES)))
                raise ValueError(unknown("column", name, others))
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

    def arrays_of(self, key: str) -> list[str]:
        """Names of the arrays that an image has, in the order of the table of arrays."""
        found = self._values([array.column(BYTES) for array in ARRAYS.values()], self._place(key))
        return [name for name, size in zip(ARRAYS, found, strict=True) if size is not None]

    @property
    def has_instances(self) -> bool:
        """Whether images of this version tell instances apart."""
        return bool(self._eager[INSTANCE_SHA256].null_count < len(self._places))

    def keys_with_instances(self) -> set[str]:
        """The images whose labels tell instances apart: all or none, unless another teacher labeled a part anew."""
        return set(self._eager["key"].filter(self._eager[INSTANCE_SHA256].is_valid()).to_pylist())

    @property
    def has_origins(self) -> bool:
        """Whether polygons may have given labels in images of this version."""
        return bool(self._eager[ORIGIN_SHA256].null_count < len(self._places))

    def has_origin(self, key: str) -> bool:
        """Whether an image's labels may be of polygons, so that an array says who said them."""
        return self._values([ORIGIN_SHA256], self._place(key))[0] is not None

    def rule(self, key: str) -> Rule:
        """What decided which pixels of an image have a label.

        Raises:
            LabelCorrupt: if its row names no rule that this package knows, or one about other classes.
        """
        rule = Rule.parse(*self._values(RULE, self._place(key)))
        if fault := rule.fault(self._names):
            raise LabelCorrupt(f"{key}: {fault}")
        return rule

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
        (mean,) = self._values(["mean_confidence"], place)
        return Bounds(
            names=self._names,
            things=self.identity.things,
            thresholds=() if segment is None else self.grid(segment),
            margins=() if segment is None else self.grids(segment).margins or (),
            instances=instances,
            mean_confidence=mean,
        )

    def grid(self, segment: str) -> tuple[float, ...]:
        """Ascending thresholds that the codes of a segment count; empty for a segment without evidence."""
        return self.grids(segment).thresholds or ()

    def grids(self, segment: str) -> Grids:
        """Thresholds and margins that the codes of a segment count.

        Raises:
            LabelMissing: if the segment's metadata is gone.
            LabelCorrupt: if it is damaged.
        """
        if segment not in self._grids:
            path = f"{layout.DATA}/{segment}/{layout.ROOT}"
            try:
                self._grids[segment] = grids_in(self.root.read(path), path)
            except FileNotFoundError:
                refuse_pruned(self.root, self.version)
                raise LabelMissing(f"the metadata of segment {segment} is gone: no object {path}") from None
        return self._grids[segment]

    def mask(self, named: MaskOf) -> U8:
        """[H, W] uint8 mask of a rule; pixels other than 0 have no label. Not to be written to.

        Raises:
            LabelMissing, LabelCorrupt: if it is gone, or not what was written.
        """
        if named not in self._masks:
            self._masks[named] = read_mask(self.root, named)
        return self._masks[named]

    def __repr__(self) -> str:
        return f"LabelStore({self.uri!r}, version={self.version}, images={len(self)})"

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

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
