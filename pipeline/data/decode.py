"""Bytes of a file -> pixels, or the one-line reason why not; nothing is repaired, and what is converted is said.

The plugin classes are used directly: `PIL.Image.open` also warns about sizes, by a process-wide setting that is not
ours to change, and tries dozens of formats that no road data set uses. The orientation tag is ignored, because labels
refer to pixels as stored.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images.source import BadImage

__all__ = [
    "MAX_PIXELS",
    "BadImage",
    "DecodedImage",
    "decode_colored_ids",
    "decode_gray",
    "decode_image",
    "decode_instance_ids",
    "decode_labels",
    "decode_mask",
    "decode_to_rgb",
    "header_pixels",
]

MAX_PIXELS = 2**27
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
CHECKED_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# The densest that a file can be. A byte of deflate makes at most 1,032; a JPEG spends a bit on a block of 8 x 8 pixels,
# where arithmetic coding and progressive scans may spend less, hence 16 times that.
DEFLATE_RATIO, JPEG_PIXELS_PER_BYTE = 1032, 16 * 8 * 64
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each color type
# What else than RGB is taken, and the word that a label's row has for it.
CONVERTED = {
    "1": "1-bit",
    "L": "gray",
    "LA": "gray with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "RGBA": "RGBA",
    "CMYK": "CMYK",
}
TO_8_BIT = 'python -c "import cv2, sys; cv2.imwrite(sys.argv[2], cv2.imread(sys.argv[1]))" IN.png OUT.png'


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedImage:
    """An image, ready for a network.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, on the grid of the file.
        converted: what the file held, such as `gray`, if its pixels had to be converted; None for RGB.
    """

    pixels: U8
    converted: str | None = None


def decode_to_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """The pixels of an 8-bit PNG or JPEG of any color type.

    Gray values and palette colors become RGB, CMYK is converted without a profile, an alpha channel is left out: the
    colors below it are taken as they are stored.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.mode == "RGB":
        return DecodedImage(pixels=_pixels(image))
    if image.mode not in CONVERTED:
        raise BadImage(f"an image of mode {image.mode}; 8-bit gray, palette, RGB, RGBA or CMYK was expected")
    return DecodedImage(pixels=_pixels(image, "RGB"), converted=CONVERTED[image.mode])


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> U8:
    """The pixels of `decode_to_rgb`, [H, W, 3] uint8 RGB.

    Raises:
        BadImage: as there.
    """
    return decode_to_rgb(data, max_pixels=max_pixels).pixels


def header_pixels(data: bytes) -> int:
    """Pixels that the header of a PNG or JPEG promises; 0 where it cannot be read. Nothing is checked or decoded."""
    try:
        image = _kind(data)(BytesIO(data))
    except Exception:  # the plugins raise a dozen types for damaged headers
        return 0
    return image.width * image.height


def decode_labels(data: bytes, *, max_pixels: int = MAX_PIXELS) -> U8:
    """The raw ids of an 8-bit single-channel or palette PNG, [H, W] uint8; palette colors play no part.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.format != "PNG":
        raise BadImage("a JPEG; labels must be PNG, because JPEG changes ids")
    depth, color_type = _png_header(data)
    if image.mode not in ("L", "P") or (color_type == 0 and depth != 8):
        what = CONVERTED.get(image.mode, image.mode)
        raise BadImage(f"{depth}-bit, of mode {what}; labels must have one 8-bit channel of class ids")
    return _pixels(image)


def decode_instance_ids(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint16]:
    """The numbers of a 16-bit or 8-bit gray PNG, [H, W] uint16.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels, deep=True)
    what = CONVERTED.get(image.mode, image.mode)
    if image.format != "PNG" or image.mode not in ("L", "I", "I;16"):
        raise BadImage(f"a {image.format} of mode {what}; instance ids must be a PNG with one 16-bit channel")
    return _loaded(image).astype(np.uint16)


def decode_gray(data: bytes, *, max_pixels: int = MAX_PIXELS) -> U8 | NDArray[np.uint16]:
    """The values of a gray PNG, [H, W] uint8 of 8 bits or uint16 of 16 bits.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels, deep=True)
    depth = _png_header(data)[0] if image.format == "PNG" else 0
    if image.mode not in ("L", "I", "I;16") or depth not in (8, 16):
        what = CONVERTED.get(image.mode, image.mode)
        raise BadImage(f"a {image.format} of mode {what}; a PNG with one channel of 8 or 16 bits was expected")
    values = _loaded(image)
    return values.astype(np.uint16) if depth == 16 else values.astype(np.uint8)


def decode_mask(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """Where a PNG with one channel is not 0, [H, W] bool.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.format != "PNG" or image.mode not in ("1", "L", "P"):
        what = CONVERTED.get(image.mode, image.mode)
        raise BadImage(f"a {image.format} of mode {what}; a mask must be a PNG with one channel")
    return _loaded(image) != 0


def decode_colored_ids(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint32]:
    """The ids that the colors of an RGB PNG spell, [H, W] uint32: red + 256 green + 65,536 blue.

    Raises:
        BadImage: for anything else, with the reason in one line.
    """
    image = _open(data, max_pixels)
    if image.format != "PNG" or image.mode != "RGB":
        what = CONVERTED.get(image.mode, image.mode)
        raise BadImage(f"a {image.format} of mode {what}; panoptic ids must be the colors of an 8-bit RGB PNG")
    red, green, blue = _pixels(image).astype(np.uint32).transpose(2, 0, 1)
    return np.asarray(red + 256 * green + 65_536 * blue, np.uint32)


def _open(data: bytes, max_pixels: int, *, deep: bool = False) -> ImageFile:
    """The image with its header read and its size checked, before any pixel is decoded; `deep` takes 16 bits too."""
    if not data:
        raise BadImage("the file is empty")
    kind = _kind(data)
    if kind is PngImageFile:
        _check_png(data, max_pixels, deep=deep)
    try:
        image: ImageFile = kind(BytesIO(data))
    except Exception as error:  # the plugins raise a dozen types for damaged headers
        raise BadImage("damaged or truncated: the header cannot be read") from error
    _check_size(image.width, image.height, max_pixels)
    _check_density(image.width, image.height, data)
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


def _check_density(width: int, height: int, data: bytes) -> None:
    """Refuses a file too small to hold its pixels before memory is taken for them; that it is cut shows only later."""
    pixels_per_byte: float = JPEG_PIXELS_PER_BYTE
    if data.startswith(PNG_SIGNATURE):
        depth, color_type = _png_header(data)
        pixels_per_byte = DEFLATE_RATIO * 8 / (depth * PNG_CHANNELS.get(color_type, 1) or 1)
    if width * height > len(data) * pixels_per_byte:
        raise BadImage(f"damaged or truncated: {len(data):,} bytes cannot hold {width}x{height} pixels")


def _png_header(data: bytes) -> tuple[int, int]:
    """Bits per channel and color type (PNG specification, 11.2.2)."""
    return data[24], data[25]


def _check_png(data: bytes, max_pixels: int, *, deep: bool) -> None:
    """Size, bit depth and the checksums of all pixel chunks.

    Pillow turns 16-bit RGB into 8-bit without a word and does not check the sums of pixel chunks, so that a flipped
    bit would become other pixels.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise BadImage("truncated: the PNG header is incomplete" if len(data) < 33 else "damaged: no PNG header")
    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width, height, max_pixels)
    depth, color_type = _png_header(data)
    if depth == 16 and not (deep and color_type == 0):
        raise BadImage(f"a 16-bit image; 8-bit was expected, convert it with: {TO_8_BIT}")
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


def _pixels(image: ImageFile, mode: str | None = None) -> U8:
    """The pixels as they are stored, or in another mode."""
    return np.asarray(_loaded(image, mode), np.uint8)


def _loaded(image: ImageFile, mode: str | None = None) -> NDArray[Any]:
    try:
        image.load()
        image.info.pop("transparency", None)  # colors count as they are stored; converting would warn of it
        return np.array(image.convert(mode) if mode else image)
    except Exception as error:  # the decoders raise a dozen types for damaged pixels
        raise BadImage(f"damaged or truncated: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
