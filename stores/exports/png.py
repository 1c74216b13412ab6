"""PNG files, written with the standard library: labels as they are, in 8 or 16 bits, and colors as RGB.

Labels are long runs of small numbers: no row filter at all gives the smallest files, which general encoders do not try.
Specification: https://www.w3.org/TR/png-3/
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.layout import U8

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB = 0, 2
COMPRESSION = 6


def encode_png(image: U8 | NDArray[np.uint16]) -> bytes:
    """PNG file of a [H, W] uint8 or uint16 gray or [H, W, 3] uint8 RGB image.

    Raises:
        ValueError: for any other array.
    """
    gray = image.ndim == 2 and image.dtype in (np.uint8, np.uint16)
    if not gray and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(
            f"a PNG needs uint8 or uint16 [H, W] or uint8 [H, W, 3]; got {image.dtype} {list(image.shape)}"
        )
    height, width = image.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * image.itemsize, GRAY if gray else RGB, 0, 0, 0)
    no_filter = np.zeros((height, 1), np.uint8)
    big_endian = np.ascontiguousarray(image, image.dtype.newbyteorder(">"))
    rows = np.hstack([no_filter, big_endian.reshape(height, -1).view(np.uint8)])
    pixels = zlib.compress(rows.tobytes(), COMPRESSION)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
