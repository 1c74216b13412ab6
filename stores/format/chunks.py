"""Chunk objects: one image of one array as a zstd frame. Written and read here, without zarr; FORMAT.md says why."""

import hashlib

import numpy as np
from numcodecs.zstd import Zstd

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.arrays import Pixels
from hmsa_label.stores.format.layout import MAX_PIXELS, ZSTD_LEVEL
from hmsa_label.stores.format.zstd_frame import content_bytes, without_checksum


def encode(array: Pixels) -> bytes:
    """Chunk object of a [H, W] array: one zstd frame with its content checksum."""
    return bytes(Zstd(level=ZSTD_LEVEL, checksum=True).encode(_in_order(array)))


def decode(data: bytes, height: int, width: int, dtype: str = "uint8") -> Pixels:
    """[H, W] array of a chunk object, writable; takes no more memory than its pixels.

    Raises:
        LabelCorrupt: if the frame is damaged or holds another number of pixels.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise LabelCorrupt(f"an image of {height} x {width} is stated; a store holds 1 to {MAX_PIXELS:,} pixels each")
    stated, kind = content_bytes(data), _stored_type(dtype)
    if stated is None:
        raise LabelCorrupt(f"the chunk of {len(data)} bytes does not decode: no zstd frame that says its size")
    if stated != height * width * kind.itemsize:
        held = f"{stated / kind.itemsize:.12g} pixels of {dtype}" if kind.itemsize > 1 else f"{stated} pixels"
        raise LabelCorrupt(f"the chunk holds {held}, expected {height} x {width} = {height * width}")
    pixels = np.empty((height, width), kind)
    try:
        Zstd().decode(data, out=pixels)
    except (RuntimeError, ValueError) as error:
        raise LabelCorrupt(f"the chunk of {len(data)} bytes does not decode: {error}") from None
    return pixels


def decode_checked(data: bytes, height: int, width: int, dtype: str = "uint8", *, chunk_digest: str) -> Pixels:
    """[H, W] array of a chunk object that must be the one that was written.

    The digest finds damage as well as a sound object in the wrong place. It is that of the chunk: hashing the pixels
    takes longer than decoding them, and the chunk is a fiftieth of them.

    Args:
        chunk_digest: hex sha256 of the chunk object, as the manifest states it.

    Raises:
        LabelCorrupt: if the chunk is another, or does not decode.
    """
    if hashlib.sha256(data).hexdigest() != chunk_digest:
        decode(data, height, width, dtype)  # says more of damage than that the digests differ
        raise LabelCorrupt("it is not what the manifest states")
    return decode(without_checksum(data), height, width, dtype)


def digest_of(array: Pixels) -> str:
    """Hex sha256 of a [H, W] array's raw bytes, row by row, little-endian."""
    return hashlib.sha256(_in_order(array).data).hexdigest()


def _stored_type(dtype: str) -> np.dtype[np.generic]:
    return np.dtype(dtype).newbyteorder("<")


def _in_order(array: Pixels) -> Pixels:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
