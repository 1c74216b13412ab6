"""Making a store where there is none."""

import contextlib
from typing import Any

from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.files import FileRoot, create_bytes, join, public_uri
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.identity import refuse_lost_identity, write_identity
from hmsa_label.stores.format.zarr_metadata import group_metadata
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.versions.probe import probe_storage


def check_place(uri: str, *, single_writer: bool = False, storage_options: dict[str, Any] | None = None) -> None:
    """Refuses a place on an object store where `make_store` would fail; leaves nothing there.

    A local folder is not looked at: it would be made, and be left behind by a run that ends before it has a store.

    Raises:
        StoreError: if there is no bucket.
        UnsafeStorage: if the storage breaks create-if-absent and `single_writer` is not set.
        LabelCorrupt: if a store was there and has lost its identity.
    """
    root = FileRoot(uri, dict(storage_options or {}))
    filesystem, path = root.open()
    if root.is_local or filesystem.exists(join(path, layout.ROOT)):
        return
    refuse_lost_identity(root)
    _probed(root, single_writer=single_writer)


def make_store(root: FileRoot, classes: dict[str, Any], *, single_writer: bool) -> None:
    """An empty store with a class table; leaves a store that is there already alone.

    Raises:
        UnsafeStorage: if the storage breaks create-if-absent and `single_writer` is not set.
        StoreConflict: if another process made one with other classes meanwhile.
    """
    filesystem, path = root.open()
    if filesystem.exists(join(path, layout.ROOT)):
        return
    refuse_lost_identity(root)
    probe = _probed(root, single_writer=single_writer)
    Manifest(root.uri, root.storage_options).create()
    with contextlib.suppress(FileExistsError):  # made by another process, or before a crash
        create_bytes(filesystem, join(path, layout.DATA, layout.ROOT), group_metadata())
    write_identity(root, classes, probe)


def _probed(root: FileRoot, *, single_writer: bool) -> dict[str, Any]:
    try:
        return probe_storage(root, single_writer=single_writer)
    except FileNotFoundError as error:  # of object stores: folders are made
        where = public_uri(root.uri)
        raise StoreError(f"cannot make a store at {where}: {error}; make the bucket, or correct --store") from None
