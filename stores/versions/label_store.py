"""Reading a label store at one pinned version."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import (
    ARRAYS,
    CHUNK_SHA256,
    CODE,
    INSTANCE,
    LABEL,
    ORIGIN,
    TOP1,
    Bounds,
    Pixels,
    counts_margins,
    counts_thresholds,
)
from hmsa_label.stores.format.chunks import decode_checked
from hmsa_label.stores.format.identity import check_classes, read_identity
from hmsa_label.stores.format.instances import StoredInstance, hard_instances, range_fault
from hmsa_label.stores.format.layout import IGNORE_INDEX, U8
from hmsa_label.stores.format.origin import teacher_alone
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.location import Location, location_text
from hmsa_label.stores.versions.creation import make_store
from hmsa_label.stores.versions.log import Version, versions_of
from hmsa_label.stores.versions.resolve import refuse_pruned, resolve
from hmsa_label.stores.versions.version_rows import VersionRows


class LabelStore(VersionRows):
    """The labels of a store at one version, by the key of their image.

    The version never changes under the reader. Opening reads what reading labels needs of the manifest; its other
    columns are read when they are asked for. Picklable, and safe in forked workers.

    `store[key]` is a label, `[H, W]` uint8 trainIds with 255 where nothing was kept; iteration gives the keys in their
    order.

    Attributes:
        version: its number.
    """

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

    def versions(self, *, progress: bool = False) -> list[Version]:
        """The versions of the whole store, newest first; with `progress` every commit of a run as well."""
        return versions_of(self.root, progress=progress)[::-1]

    def items(self) -> Iterator[tuple[str, U8]]:
        """(key, label) of every image in the order of the keys; a label is read when its turn has come."""
        return ((key, self.read(key)) for key in self)

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

    def instances(self, key: str) -> tuple[NDArray[np.uint16], list[StoredInstance]]:
        """[H, W] uint16 map of the instances that have a label, 0 elsewhere; and all that the teacher found.

        Instance n of the map is the n-th of the list, counted from 1. An instance that the rule dropped is in the list,
        and has no pixel in the map.

        Raises:
            LabelMissing: if the image has no instances, or an object is gone.
            LabelCorrupt: if the stored bytes are not those that were written.
        """
        _, found = self.read_instances(key)
        return self.instance_map(key), list(found)

    def read_instances(self, key: str) -> tuple[NDArray[np.uint16], tuple[StoredInstance, ...]]:
        """[H, W] uint16 map and table of all instances of an image, whatever the rule keeps of them.

        Raises:
            LabelMissing, LabelCorrupt: as `instances`.
        """
        instance, found = self.read_array(key, INSTANCE), self.bounds(key).instances or ()
        if fault := range_fault(instance, len(found)):
            raise LabelCorrupt(f"{key}: {INSTANCE} of version {self.version}: {fault}")
        return instance, found

    def instance_map(self, key: str, label: U8 | None = None, rule: Rule | None = None) -> NDArray[np.uint16]:
        """The map of `instances` alone; tables of the version are read only where polygons gave labels.

        Args:
            label: [H, W] to go by instead of the image's own; 255 where there is none.
            rule: that the label was made by, if it is not the image's own.
        """
        if rule is None and not self.has_origin(key):
            instance = self.read_array(key, INSTANCE)
            instance[(self.read(key) if label is None else label) == IGNORE_INDEX] = 0
            return instance
        instance, found = self.read_instances(key)
        kept = (self.rule(key) if rule is None else rule).keeps(found)
        return hard_instances(instance, self.read(key) if label is None else label, found, kept)

    def origin(self, key: str) -> U8:
        """[H, W] uint8 who said the label of each pixel, by the codes of `stores.format.origin`; 0 where there is none.

        Raises:
            LabelMissing, LabelCorrupt: as `read`.
        """
        return self.read_array(key, ORIGIN) if self.has_origin(key) else teacher_alone(self.read(key))

    def __getitem__(self, key: str) -> U8:
        return self.read(key)

    def _fetch(self, key: str, name: str) -> tuple[bytes, Pixels]:
        """An array's chunk object and its [H, W] pixels, checked against the manifest and the table of arrays."""
        array, place = ARRAYS[name], self._place(key)
        # With the arrays beside it, as whoever reads one of them reads the others.
        digests = [ARRAYS[other].column(CHUNK_SHA256) for other in (name, *array.beside)]
        segment, row, digest = self._values([*array.place, *digests], place)[:3]
        if segment is None or digest is None:
            raise LabelMissing(f"{key}: there is no {name}, as version {self.version} {array.missing}")
        height, width = self._values(["height", "width"], place)
        counted = counts_thresholds(name) or counts_margins(name)
        thresholds, margins = self.grids(segment) if counted else (None, None)
        bounds = Bounds(names=self._names, thresholds=thresholds or (), margins=margins or ())
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
