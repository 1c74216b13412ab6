"""Bytes of a file -> pixels, or the one-line reason why not; nothing is repaired or converted on the way.

The plugin classes are used directly: `PIL.Image.open` also warns about sizes, by a process-wide setting that is not
ours to change, and tries dozens of formats that no road data set uses. The orientation tag is ignored, because labels
refer to pixels as stored.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images import BadImage

__all__ = ["MAX_PIXELS", "BadImage", "decode_image", "decode_labels"]

MAX_PIXELS = 2**27
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
CHECKED_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
MODE_NAMES = {
    "1": "a 1-bit image",
    "L": "a greyscale image",
    "LA": "a greyscale image with alpha",
    "P": "a palette image",
    "PA": "a palette image with alpha",
    "RGBA": "an image with alpha",
    "CMYK": "a CMYK image",
}


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> U8:
    """The pixels of an 8-bit RGB PNG or JPEG, [H, W, 3] uint8 RGB.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.mode != "RGB":
        raise BadImage(f"{MODE_NAMES.get(image.mode, f'an image of mode {image.mode}')}; 8-bit RGB was expected")
    return _pixels(image)


def decode_labels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> U8:
    """The raw ids of an 8-bit single-channel or palette PNG, [H, W] uint8; palette colours play no part.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.format != "PNG":
        raise BadImage("a JPEG; labels must be PNG, because JPEG changes ids")
    depth, colour_type = _png_header(data)
    if image.mode not in ("L", "P") or (colour_type == 0 and depth != 8):
        what = MODE_NAMES.get(image.mode, f"an image of mode {image.mode}")
        raise BadImage(f"{depth}-bit, {what}; labels must have one 8-bit channel of class ids")
    return _pixels(image)


def _open(data: bytes, max_pixels: int) -> ImageFile:
    """The image with its header read and its size checked, before any pixel is decoded."""
    if not data:
        raise BadImage("the file is empty")
    kind = _kind(data)
    if kind is PngImageFile:
        _check_png(data, max_pixels)
    try:
        image: ImageFile = kind(BytesIO(data))
    except Exception as error:  # the plugins raise a dozen types for damaged headers
        raise BadImage("damaged or truncated: the header cannot be read") from error
    _check_size(image.width, image.height, max_pixels)
    return image


def _kind(data: bytes) -> type[PngImageFile] | type[JpegImageFile]:
    for signature, kind in ((PNG_SIGNATURE, PngImageFile), (JPEG_SIGNATURE, JpegImageFile)):
        if data.startswith(signature):
            return kind
        if signature.startswith(data):
            raise BadImage(f"truncated: only {len(data)} bytes")
    raise BadImage(f"neither a PNG nor a JPEG; the file begins with {data[:8]!r}")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(f"the header gives a size of {width}x{height}")
    if width * height > max_pixels:
        raise BadImage(f"absurd size {width}x{height}: more than {max_pixels:,} pixels; not decoded")


def _png_header(data: bytes) -> tuple[int, int]:
    """Bits per channel and colour type (PNG specification, 11.2.2)."""
    return data[24], data[25]


def _check_png(data: bytes, max_pixels: int) -> None:
    """Size, bit depth and the checksums of all pixel chunks.

    Pillow turns 16-bit RGB into 8-bit without a word and does not check the sums of pixel chunks, so that a flipped
    bit would become other pixels.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise BadImage("truncated: the PNG header is incomplete" if len(data) < 33 else "damaged: no PNG header")
    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width, height, max_pixels)
    if _png_header(data)[0] == 16:
        raise BadImage("a 16-bit image; 8-bit was expected")
    _check_chunks(data)


def _check_chunks(data: bytes) -> None:
    at, kind, view = len(PNG_SIGNATURE), b"", memoryview(data)
    while kind != b"IEND":
        if at + 12 > len(data):
            raise BadImage(f"truncated: the PNG ends at byte {len(data)} without its end mark")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if end + 4 > len(data):
            raise BadImage(f"truncated: a PNG chunk ends at byte {end + 4}, the file at byte {len(data)}")
        if kind in CHECKED_CHUNKS and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise BadImage(f"damaged: checksum of the PNG chunk at byte {at} does not match")
        at = end + 4


def _pixels(image: ImageFile) -> U8:
    try:
        return np.array(image, dtype=np.uint8)
    except Exception as error:  # the decoders raise a dozen types for damaged pixels
        raise BadImage(f"damaged or truncated: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
