"""Where things lie in a store, and the numbers that its format fixes. `FORMAT.md` says it in words.

Nothing here touches a storage; every reader and writer takes its names from this module.
"""

import re

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]

FORMAT = "hmsa-label store"
FORMAT_VERSION = 1
IGNORE_INDEX = 255
UNWRITTEN = 254  # fill value: neither a class nor ignore_index, so an absent chunk cannot pass for a label

ROOT = "zarr.json"
DATA, MANIFEST, COMMITS, RUNS, TAGS, PRUNED = "data", "manifest", "commits", "runs", "tags", "pruned"
MASKS = "masks"
LOG, LOG_FILE = f"{MANIFEST}/_delta_log", re.compile(r"\d{20}\.json")  # of the manifest

ZSTD_LEVEL = 9
MAX_PIXELS = 2**27  # of one image; what a damaged or hostile store states must not decide what memory is taken
MAX_CLASSES = 253  # beside 254 and 255


def size_folder(segment: str, height: int, width: int) -> str:
    """Folder of a segment's arrays for images of one size, relative to the store."""
    return f"{DATA}/{segment}/{height}x{width}"


def chunk_path(segment: str, height: int, width: int, array: str, row: int) -> str:
    """Object of one image in one array, relative to the store."""
    return f"{size_folder(segment, height, width)}/{array}/c.{row}.0.0"


def receipt_path(segment: str, row: int) -> str:
    """Receipt of one written image, relative to the store."""
    return f"{DATA}/{segment}/receipts/{row}.json"


def mask_path(sha256: str) -> str:
    """A mask of rules, relative to the store."""
    return f"{MASKS}/{sha256}"


def log_path(version: int) -> str:
    """The log file of one commit, relative to the store."""
    return f"{LOG}/{version:020d}.json"
