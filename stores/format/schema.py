"""The store's format in code: paths, array metadata, chunk codec, manifest columns. `FORMAT.md` says it in words.

Nothing here touches a storage; every reader and writer takes its names from this module.
"""

import hashlib
import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.forms import parse_json
from hmsa_label.stores.format.zstd_frame import content_bytes, without_checksum

U8 = NDArray[np.uint8]

FORMAT = "hmsa-label store"
FORMAT_VERSION = 1
IGNORE_INDEX = 255
UNWRITTEN = 254  # fill value: neither a class nor ignore_index, so an absent chunk cannot pass for a label

LABEL, TOP1, CODE = "label", "top1", "code"
EVIDENCE = (TOP1, CODE)

ROOT = "zarr.json"
DATA, MANIFEST, COMMITS, RUNS, TAGS, PRUNED = "data", "manifest", "commits", "runs", "tags", "pruned"
LOG, LOG_FILE = f"{MANIFEST}/_delta_log", re.compile(r"\d{20}\.json")  # of the manifest

ZSTD_LEVEL = 9
MAX_PIXELS = 2**27  # of one image; what a damaged or hostile store states must not decide what memory is taken
MAX_CLASSES = 253  # beside 254 and 255

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("segment", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("label_sha256", pa.string(), nullable=False),
        pa.field("label_chunk_sha256", pa.string(), nullable=False),
        pa.field("label_bytes", pa.int64(), nullable=False),
        pa.field("top1_sha256", pa.string()),
        pa.field("top1_chunk_sha256", pa.string()),
        pa.field("top1_bytes", pa.int64()),
        pa.field("code_sha256", pa.string()),
        pa.field("code_chunk_sha256", pa.string()),
        pa.field("code_bytes", pa.int64()),
        pa.field("evidence_segment", pa.string()),
        pa.field("evidence_row", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string()),
        pa.field("source_bytes", pa.int64()),
        pa.field("converted", pa.string()),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("class_px", pa.list_(pa.int64()), nullable=False),
        pa.field("valid_px", pa.int64(), nullable=False),
        pa.field("kept_share", pa.float64(), nullable=False),
        pa.field("mean_confidence", pa.float64()),
        pa.field("coarse_agreement", pa.float64()),
        pa.field("run", pa.string(), nullable=False),
        pa.field("device", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("labelled_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

# The log is the audit trail: it never expires, and a foreign `vacuum` finds nothing old enough to delete.
CHECKPOINT_INTERVAL = 10  # commits; measured, benchmarks/results/store_requests.md
MANIFEST_CONFIGURATION = {
    "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}


def size_folder(segment: str, height: int, width: int) -> str:
    """Folder of a segment's arrays for images of one size, relative to the store."""
    return f"{DATA}/{segment}/{height}x{width}"


def chunk_path(segment: str, height: int, width: int, array: str, row: int) -> str:
    """Object of one image in one array, relative to the store."""
    return f"{size_folder(segment, height, width)}/{array}/c.{row}.0.0"


def receipt_path(segment: str, row: int) -> str:
    """Receipt of one written image, relative to the store."""
    return f"{DATA}/{segment}/receipts/{row}.json"


def encode(array: U8) -> bytes:
    """Chunk object of a [H, W] uint8 image: one zstd frame with its content checksum."""
    return bytes(Zstd(level=ZSTD_LEVEL, checksum=True).encode(np.ascontiguousarray(array)))


def decode(data: bytes, height: int, width: int) -> U8:
    """[H, W] uint8 image of a chunk object, writable; takes no more memory than its pixels.

    Raises:
        LabelCorrupt: if the frame is damaged or holds another number of pixels.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise LabelCorrupt(f"an image of {height} x {width} is stated; a store holds 1 to {MAX_PIXELS:,} pixels each")
    stated = content_bytes(data)
    if stated is None:
        raise LabelCorrupt(f"the chunk of {len(data)} bytes does not decode: no zstd frame that says its size")
    if stated != height * width:
        raise LabelCorrupt(f"the chunk holds {stated} pixels, expected {height} x {width} = {height * width}")
    pixels = np.empty((height, width), np.uint8)
    try:
        Zstd().decode(data, out=pixels)
    except (RuntimeError, ValueError) as error:
        raise LabelCorrupt(f"the chunk of {len(data)} bytes does not decode: {error}") from None
    return pixels


def decode_checked(data: bytes, height: int, width: int, *, chunk_digest: str) -> U8:
    """[H, W] uint8 image of a chunk object that must be the one that was written.

    The digest finds damage as well as a sound object in the wrong place. It is that of the chunk: hashing the pixels
    takes longer than decoding them, and the chunk is a fiftieth of them.

    Args:
        chunk_digest: hex sha256 of the chunk object, as the manifest states it.

    Raises:
        LabelCorrupt: if the chunk is another, or does not decode.
    """
    if hashlib.sha256(data).hexdigest() != chunk_digest:
        decode(data, height, width)  # says more of damage than that the digests differ
        raise LabelCorrupt("it is not what the manifest states")
    return decode(without_checksum(data), height, width)


def stranger(pixels: U8, num_classes: int) -> int | None:
    """A value of a label or arg-max that is neither a trainId nor ignore_index; None if there is none."""
    # 255 becomes 0: one pass without a mask, as every label that is read comes through here.
    highest = int((pixels + np.uint8(1)).max())
    return None if highest <= num_classes else highest - 1


def digest_of(array: U8) -> str:
    """Hex sha256 of a [H, W] uint8 image's raw bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """`zarr.json` of a Zarr v3 group."""
    return _json({"zarr_format": 3, "node_type": "group", "attributes": attributes or {}})


def array_metadata(rows: int, height: int, width: int, attributes: dict[str, Any]) -> bytes:
    """`zarr.json` of a [rows, H, W] uint8 Zarr v3 array whose chunks are whole images."""
    return _json(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [rows, height, width],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, height, width]}},
            # "." keeps all chunks of an array in one folder; "/" would make two folders per image.
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": UNWRITTEN,
            "codecs": [
                {"name": "bytes"},
                {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": True}},
            ],
            "dimension_names": ["row", "y", "x"],
            "attributes": attributes,
        }
    )


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def metadata_fault(document: bytes, height: int, width: int) -> str:
    """What is wrong with an array's `zarr.json`, empty if plain Zarr readers find the images with it."""
    try:
        found = parse_json(document)
        expected = json.loads(array_metadata(found["shape"][0], height, width, found.get("attributes", {})))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        return f"is damaged: {error}"
    wrong = sorted(name for name in expected if found.get(name) != expected[name])
    return f"differs in {', '.join(wrong)}" if wrong else ""


def log_path(version: int) -> str:
    """The log file of one commit, relative to the store."""
    return f"{LOG}/{version:020d}.json"
