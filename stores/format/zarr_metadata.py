"""The `zarr.json` documents of groups and arrays, by which any Zarr v3 reader finds the images."""

import json
from typing import Any

import numpy as np

from hmsa_label.stores.format.arrays import Array
from hmsa_label.stores.format.forms import parse_json
from hmsa_label.stores.format.layout import ZSTD_LEVEL


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """`zarr.json` of a Zarr v3 group."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes or {}})


def array_metadata(array: Array, rows: int, height: int, width: int, attributes: dict[str, Any]) -> bytes:
    """`zarr.json` of a [rows, H, W] Zarr v3 array whose chunks are whole images.

    Args:
        attributes: of the segment; the array repeats those that it names in the table.
    """
    own: dict[str, Any] = {} if array.ignore_index is None else {"ignore_index": array.ignore_index}
    own |= {"unwritten": array.fill}
    own |= {name: attributes[name] for name in array.attributes if name in attributes}
    return _json(_array_document(array, rows, height, width, own))


def metadata_fault(document: bytes, array: Array, height: int, width: int) -> str:
    """What is wrong with an array's `zarr.json`, empty if plain Zarr readers find the images with it."""
    try:
        found = parse_json(document)
        expected = _array_document(array, found["shape"][0], height, width, found.get("attributes", {}))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"is damaged: {error}"
    wrong = sorted(name for name in expected if found.get(name) != expected[name])
    return f"differs in {', '.join(wrong)}" if wrong else ""


def _array_document(array: Array, rows: int, height: int, width: int, attributes: dict[str, Any]) -> dict[str, Any]:
    endian = {"configuration": {"endian": "little"}} if np.dtype(array.dtype).itemsize > 1 else {}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [rows, height, width],
        "data_type": array.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, height, width]}},
        # "." keeps all chunks of an array in one folder; "/" would make two folders per image.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": array.fill,
        "codecs": [
            {"name": "bytes", **endian},
            {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": True}},
        ],
        "dimension_names": ["row", "y", "x"],
        "attributes": attributes,
    }


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
