"""A version for other tools: one dense Zarr array with its manifest, or PNG files in the layout of Cityscapes."""

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.files import (
    LEFT_OVER,
    FileRoot,
    copy_on_server,
    create_bytes,
    delete_files,
    join,
    list_infos,
    list_names,
    public_uri,
)
from hmsa_label.stores.format import schema
from hmsa_label.stores.format.arrays import ARRAYS, CHUNK_SHA256, LABEL
from hmsa_label.stores.format.forms import is_plain_name
from hmsa_label.stores.format.schema import IGNORE_INDEX, U8
from hmsa_label.stores.format.zarr_metadata import array_metadata, group_metadata
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

Progress = Callable[[int, int], None]
UNLABELED_ID = 0  # Cityscapes' raw id for "unlabeled"
UNFINISHED = "UNFINISHED.json"  # at a destination from the beginning of an export to its end: what is being exported


@dataclass(frozen=True, kw_only=True)
class Exported(Result):
    """What an export wrote: `files` objects under `destination`, for `images` images of `version`."""

    destination: str
    version: int
    digest: str
    images: int
    files: int


def export_zarr(
    store: LabelStore,
    destination: str,
    *,
    arrays: Sequence[str] = (LABEL,),
    threads: int = 4,
    on_image: Progress | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Exported:
    """Labels as one Zarr v3 array `label` [N, H, W] in the order of the keys, with `manifest.parquet` beside it.

    Images of several sizes give one array per size, `label_<H>x<W>`. The manifest's added columns `array` and `index`
    say where each image's label is; other arrays lie beside it at the same index, such as `top1_<H>x<W>`. Chunks are
    checked against the manifest and copied as they are, by the server itself within one object storage. An export that
    was interrupted is finished by the same call.

    Args:
        arrays: names of those to export. An image that has no such evidence keeps the fill value there.
        storage_options: for the destination; the store has its own.

    Raises:
        ValueError: if something else is at the destination already, or there is no such array.
    """
    if unknown := sorted(set(arrays) - set(ARRAYS)):
        raise ValueError(f"there is no array {unknown[0]!r}; known are {', '.join(ARRAYS)}")
    root, left_over = _begin(store, destination, storage_options, {"layout": "zarr", "arrays": list(arrays)})
    places, present = _dense_places(store), _present(store, arrays)
    identity = {"store": store.uri, "uuid": store.identity.uuid, "version": store.version, "digest": store.digest}
    values = {"ignore_index": IGNORE_INDEX, "unwritten": schema.UNWRITTEN}
    _create(root, schema.ROOT, group_metadata({**identity, "classes": store.classes, **values}))
    sizes = Counter((place.suffix, place.height, place.width) for place in places.values())
    for name in arrays:
        for (suffix, height, width), rows in sizes.items():
            _create(root, f"{name}{suffix}/{schema.ROOT}", array_metadata(ARRAYS[name], rows, height, width, {}))

    def copy(key: str) -> None:
        for name in (name for name in arrays if key in present[name]):
            data, target = store.read_encoded(key, name), f"{name}{places[key].suffix}/c.{places[key].index}.0.0"
            if not _copy_on_server(store, key, name, root, target):
                _create(root, target, data)

    _for_each(copy, store, threads, on_image)
    _create(root, "manifest.parquet", _manifest(store, places))
    _end(root, left_over)
    return _exported(store, destination, sum(map(len, present.values())) + len(arrays) * len(sizes) + 2)


def export_cityscapes(
    store: LabelStore,
    destination: str,
    *,
    name: str = "gtAuto",
    threads: int = 4,
    on_image: Progress | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Exported:
    """Three PNG files per image: `<name>/<key>_<name>_{labelIds,labelTrainIds,color}.png`.

    With the keys of a Cityscapes tree, such as `train_extra/troisdorf/troisdorf_000000_000073`, that is the layout of
    the data set's own labels, and `name="gtCoarse"` takes their place for tools that know no other. labelIds are the
    class table's raw ids, 0 (unlabeled) where ignored; labelTrainIds keep 255; colours are black where ignored. An
    export that was interrupted is finished by the same call.

    Raises:
        ValueError: if something else is at the destination already, or `name` or a key would lead outside of it.
    """
    if not is_plain_name(name):
        raise ValueError(f"--name becomes a folder and part of file names: letters, digits, . _ - only; got {name!r}")
    for key in store:
        _refuse_outside(key)
    root, left_over = _begin(store, destination, storage_options, {"layout": "cityscapes", "name": name})
    ids, colours = _raw_ids(store.classes), _colours(store.classes)

    def write(key: str) -> None:
        label = store.read(key)
        stem = f"{name}/{key}_{name}"
        _create(root, f"{stem}_labelIds.png", encode_png(ids[label]))
        _create(root, f"{stem}_labelTrainIds.png", encode_png(label))
        _create(root, f"{stem}_color.png", encode_png(colours[label]))

    _for_each(write, store, threads, on_image)
    _end(root, left_over)
    return _exported(store, destination, 3 * len(store))


def _for_each(work: Callable[[str], None], store: LabelStore, threads: int, on_image: Progress | None) -> None:
    for number, _ in enumerate(map_threads(work, store.keys(), threads), 1):
        if on_image:
            on_image(number, len(store))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where an image is in the dense arrays; `suffix` belongs to their names, and is empty if there is one size."""

    suffix: str
    index: int
    height: int
    width: int


def _dense_places(store: LabelStore) -> dict[str, _Place]:
    """Where each image is to be."""
    rows = store.table(["key", "height", "width"]).to_pylist()
    several = len({(row["height"], row["width"]) for row in rows}) > 1
    used: Counter[str] = Counter()
    places = {}
    for row in rows:
        suffix = f"_{row['height']}x{row['width']}" if several else ""
        places[row["key"]] = _Place(suffix=suffix, index=used[suffix], height=row["height"], width=row["width"])
        used[suffix] += 1
    return places


def _present(store: LabelStore, arrays: Sequence[str]) -> dict[str, set[str]]:
    """Keys of the images that have each array."""
    columns = {name: ARRAYS[name].column(CHUNK_SHA256) for name in arrays}
    table = store.table(["key", *dict.fromkeys(columns.values())])
    return {name: set(table["key"].filter(table[column].is_valid()).to_pylist()) for name, column in columns.items()}


def _manifest(store: LabelStore, places: dict[str, _Place]) -> bytes:
    ordered = list(places.values())
    table = store.table().append_column("array", pa.array([f"{LABEL}{place.suffix}" for place in ordered], pa.string()))
    table = table.append_column("index", pa.array([place.index for place in ordered], pa.int64()))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _raw_ids(classes: dict[str, Any]) -> U8:
    """[256] uint8 raw ids by trainId."""
    ids = np.full(256, UNLABELED_ID, np.uint8)
    raw = classes.get("raw_ids") or range(len(classes["names"]))
    ids[: len(classes["names"])] = list(raw)
    return ids


def _colours(classes: dict[str, Any]) -> U8:
    """[256, 3] uint8 RGB by trainId."""
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(classes["names"])] = classes["colours"]
    return colours


def _refuse_outside(key: str) -> None:
    parts = PurePosixPath(key).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"the key {key!r} would be written outside of the destination")


def _begin(
    store: LabelStore, destination: str, storage_options: dict[str, Any] | None, asked: dict[str, Any]
) -> tuple[FileRoot, list[str]]:
    """The destination, with a note of what is being exported, and the half-written files of an attempt that was killed.

    A destination that holds more than that very export is refused.
    """
    root = FileRoot(destination, dict(storage_options or {}))
    filesystem, path = root.open()
    note = {"store": store.identity.uuid, "version": store.version, "digest": store.digest, **asked}
    body = (json.dumps(note, indent=2, sort_keys=True) + "\n").encode()
    names = list_names(filesystem, path)
    whole = [name for name in names if not LEFT_OVER.search(name)]  # a kill may have come before the note was there
    if whole and UNFINISHED not in whole:
        raise ValueError(f"{public_uri(destination)} is not empty; export into a new folder")
    try:
        create_bytes(filesystem, join(path, UNFINISHED), body)
    except FileExistsError:
        raise ValueError(
            f"{public_uri(destination)} holds another export that was not finished, {UNFINISHED} says which; "
            "export into a new folder"
        ) from None
    return root, [entry for entry in list_infos(filesystem, path) if LEFT_OVER.search(entry)] if names else []


def _end(root: FileRoot, left_over: list[str]) -> None:
    filesystem, path = root.open()
    delete_files(filesystem, left_over)
    delete_files(filesystem, [join(path, UNFINISHED)])


def _create(root: FileRoot, path: str, data: bytes) -> None:
    filesystem, start = root.open()
    create_bytes(filesystem, join(start, path), data)


def _copy_on_server(store: LabelStore, key: str, name: str, root: FileRoot, target: str) -> bool:
    """Whether an array's chunk could be put at the target without moving its bytes to this machine."""
    (filesystem, start), (other, destination) = store.root.open(), root.open()
    if type(filesystem) is not type(other) or filesystem.storage_options != other.storage_options:
        return False
    chunk = store.receipt(key).path_of(name)
    return copy_on_server(filesystem, join(start, chunk), join(destination, target))


def _exported(store: LabelStore, destination: str, files: int) -> Exported:
    return Exported(
        destination=public_uri(destination), version=store.version, digest=store.digest, images=len(store), files=files
    )
