"""A version as one dense Zarr array per kind of array and size of image, with its manifest beside it."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hmsa_label.stores.exports.destination import Destination, Exported, Progress
from hmsa_label.stores.files import FileRoot, copy_on_server, join
from hmsa_label.stores.format.arrays import ARRAYS, CHUNK_SHA256, LABEL
from hmsa_label.stores.format.layout import IGNORE_INDEX, UNWRITTEN, ZSTD_LEVEL
from hmsa_label.stores.versions.label_store import LabelStore


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
    to = Destination.begin(store, destination, storage_options, {"layout": "zarr", "arrays": list(arrays)})
    places, present = _dense_places(store), _present(store, arrays)
    sizes = Counter((place.suffix, place.height, place.width) for place in places.values())
    for path, document in _documents(store, arrays, sizes).items():
        to.put(path, document)

    def copy(key: str) -> None:
        for name in (name for name in arrays if key in present[name]):
            data, target = store.read_encoded(key, name), f"{name}{places[key].suffix}/c.{places[key].index}.0.0"
            if not _copy_on_server(store, key, name, to.root, target):
                to.put(target, data)

    to.fill(copy, threads, on_image)
    to.put("manifest.parquet", _manifest(store, places))
    return to.end(sum(map(len, present.values())) + len(arrays) * len(sizes) + 2, _left_out(arrays))


def _documents(store: LabelStore, arrays: Sequence[str], sizes: Counter[tuple[str, int, int]]) -> dict[str, bytes]:
    """The `zarr.json` of the group and of each array by path, as zarr itself writes them.

    Args:
        sizes: images by (suffix of the arrays' names, H, W).
    """
    import zarr  # a quarter of a second, for this alone

    documents: dict[str, Any] = {}
    values = {"ignore_index": IGNORE_INDEX, "unwritten": UNWRITTEN}
    identity = {"store": store.uri, "uuid": store.identity.uuid, "version": store.version, "digest": store.digest}
    group = zarr.create_group(
        zarr.storage.MemoryStore(documents), attributes={**identity, "classes": store.classes, **values}
    )
    for array in (ARRAYS[name] for name in arrays):
        ignored = {} if array.ignore_index is None else {"ignore_index": array.ignore_index}
        for (suffix, height, width), rows in sizes.items():
            group.create_array(
                f"{array.name}{suffix}",
                shape=(rows, height, width),
                chunks=(1, height, width),
                dtype=array.dtype,
                fill_value=array.fill,
                compressors=[zarr.codecs.ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
                chunk_key_encoding={"name": "default", "separator": "."},
                dimension_names=["row", "y", "x"],
                attributes={**ignored, "unwritten": array.fill},
            )
    return {path: document.to_bytes() for path, document in documents.items()}


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


def _left_out(arrays: Sequence[str]) -> str:
    return ", ".join([f"array {name}" for name in ARRAYS if name not in arrays] + ["records of the runs"])


def _manifest(store: LabelStore, places: dict[str, _Place]) -> bytes:
    ordered = list(places.values())
    table = store.table().append_column("array", pa.array([f"{LABEL}{place.suffix}" for place in ordered], pa.string()))
    table = table.append_column("index", pa.array([place.index for place in ordered], pa.int64()))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _copy_on_server(store: LabelStore, key: str, name: str, root: FileRoot, target: str) -> bool:
    """Whether an array's chunk could be put at the target without moving its bytes to this machine."""
    (filesystem, start), (other, destination) = store.root.open(), root.open()
    if type(filesystem) is not type(other) or filesystem.storage_options != other.storage_options:
        return False
    chunk = store.receipt(key).path_of(name)
    return copy_on_server(filesystem, join(start, chunk), join(destination, target))
