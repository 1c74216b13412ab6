"""Every way in which a file can fail to be an image has its own words."""

import io
import shlex
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.data.decode import BadImage, decode_image, decode_labels, decode_to_rgb, header_pixels
from hmsa_label.pipeline.records import U8


def picture(height: int = 24, width: int = 40) -> U8:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: U8, kind: str = "PNG", mode: str = "RGB") -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, kind)
    return data.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after its header."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def test_png_pixels_come_back_exactly_in_rgb_order() -> None:
    pixels = decode_image(encoded(picture()))
    np.testing.assert_array_equal(pixels, picture())
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_jpeg_is_decoded_in_rgb_order() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(decode_image(encoded(red, "JPEG")).astype(int) - red).max() <= 6


def test_orientation_tag_is_ignored_because_labels_refer_to_stored_pixels() -> None:
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(16, 32)).save(data, "JPEG", exif=exif)
    assert decode_image(data.getvalue()).shape == (16, 32, 3)


@pytest.mark.parametrize(
    ("kind", "mode", "converted"),
    [
        ("PNG", "RGB", None),
        ("JPEG", "RGB", None),
        ("PNG", "L", "gray"),
        ("JPEG", "L", "gray"),
        ("PNG", "LA", "gray with alpha"),
        ("PNG", "P", "palette"),
        ("PNG", "RGBA", "RGBA"),
        ("PNG", "1", "1-bit"),
        ("JPEG", "CMYK", "CMYK"),
    ],
)
def test_other_color_types_become_rgb_and_the_kind_is_told(kind: str, mode: str, converted: str | None) -> None:
    pixels = picture() if kind == "PNG" else np.full((24, 40, 3), (200, 100, 50), np.uint8)
    decoded = decode_to_rgb(encoded(pixels, kind, mode))
    expected = np.array(Image.fromarray(pixels).convert(mode).convert("RGB"), int)
    assert decoded.converted == converted
    assert (decoded.pixels.shape, decoded.pixels.dtype) == ((24, 40, 3), np.uint8)
    assert np.abs(decoded.pixels - expected).max() <= (0 if kind == "PNG" else 8)


def test_gray_values_stand_in_all_three_channels() -> None:
    values = np.arange(200, dtype=np.uint8).reshape(10, 20)
    data = io.BytesIO()
    Image.fromarray(values).save(data, "PNG")
    np.testing.assert_array_equal(decode_image(data.getvalue()), np.stack([values] * 3, axis=2))


def test_transparency_leaves_the_stored_colors_as_they_are() -> None:
    values = np.arange(200, dtype=np.uint8).reshape(10, 20)
    clear, palette = np.dstack([picture(10, 20), np.zeros((10, 20), np.uint8)]), Image.fromarray(values).convert("P")
    rgba, indexed = io.BytesIO(), io.BytesIO()
    Image.fromarray(clear).save(rgba, "PNG")
    palette.save(indexed, "PNG", transparency=bytes(range(200)))
    np.testing.assert_array_equal(decode_image(rgba.getvalue()), picture(10, 20))
    np.testing.assert_array_equal(decode_image(indexed.getvalue())[..., 0], values)


def test_the_command_for_16_bit_images_makes_one_that_is_taken(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "IN.png"), picture().astype(np.uint16) * 257)
    with pytest.raises(BadImage) as refused:
        decode_image((tmp_path / "IN.png").read_bytes())
    command = shlex.split(str(refused.value).partition("convert it with: ")[2])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, timeout=60)
    np.testing.assert_array_equal(decode_image((tmp_path / "OUT.png").read_bytes())[..., ::-1], picture())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", r"neither a PNG nor a JPEG; the file begins with b'hello'"),
        (b"\x89PN", "truncated: only 3 bytes"),
        (encoded(picture())[:20], "truncated: the PNG header is incomplete"),
        (encoded(picture())[:-1], "truncated: the PNG ends at byte"),
        (encoded(picture())[:900], "truncated: a PNG chunk ends at byte"),
        (encoded(picture(), "JPEG")[:60], "damaged or truncated: the header cannot be read"),
        (encoded(picture(), "JPEG")[:-2], "damaged or truncated: image file is truncated"),
        (encoded(picture(), "GIF"), "neither a PNG nor a JPEG"),
        (
            cv2.imencode(".png", picture().astype(np.uint16))[1].tobytes(),
            "a 16-bit image; 8-bit was expected, convert it",
        ),
        (png_header(100_000, 100_000), "absurd size 100000x100000: more than 134,217,728 pixels; not decoded"),
        (png_header(0, 5), "the header gives a size of 0x5"),
    ],
)
def test_unusable_file_gives_its_reason_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        decode_image(data)
    assert "\n" not in str(caught.value)


def test_size_limit_counts_pixels_of_the_header() -> None:
    assert decode_image(encoded(picture(10, 10)), max_pixels=100).shape == (10, 10, 3)
    for kind in ("PNG", "JPEG"):
        with pytest.raises(BadImage, match="absurd size 11x10: more than 100 pixels"):
            decode_image(encoded(picture(10, 11), kind), max_pixels=100)


def test_flipped_bit_in_png_pixels_is_found() -> None:
    data = bytearray(encoded(picture()))
    data[len(data) // 2] ^= 1
    with pytest.raises(BadImage, match="checksum of the PNG chunk at byte 33 does not match"):
        decode_image(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_no_cut_of_a_file_is_taken_for_an_image(kind: str) -> None:
    data = encoded(picture(12, 12), kind)
    for length in range(len(data) - 1):
        with pytest.raises(BadImage):
            decode_image(data[:length])


def test_labels_keep_raw_ids_of_gray_and_palette_files() -> None:
    ids = np.arange(200, dtype=np.uint8).reshape(10, 20)
    gray, palette = io.BytesIO(), io.BytesIO()
    Image.fromarray(ids).save(gray, "PNG")
    image = Image.fromarray(ids)
    image.putpalette([255 - value for value in range(256) for _ in range(3)])
    image.save(palette, "PNG")
    assert image.mode == "P"
    for data in (gray, palette):
        np.testing.assert_array_equal(decode_labels(data.getvalue()), ids)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(picture()), "labels must have one 8-bit channel of class ids"),
        (encoded(picture(), mode="1"), "1-bit, of mode 1-bit; labels must have one 8-bit channel"),
        (encoded(picture(), "JPEG", "L"), "a JPEG; labels must be PNG, because JPEG changes ids"),
        (cv2.imencode(".png", picture()[..., 0].astype(np.uint16))[1].tobytes(), "a 16-bit image"),
        (b"", "the file is empty"),
    ],
)
def test_unusable_label_file_gives_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode_labels(data)


def test_decoding_in_threads_gives_the_same_pixels() -> None:
    data = encoded(picture(200, 300))
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(decode_image, [data] * 16):
            np.testing.assert_array_equal(pixels, picture(200, 300))


def resized(data: bytes, width: int, height: int) -> bytes:
    """The image file with another size in its header."""
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_small_file_that_claims_a_huge_image_takes_no_memory(kind: str) -> None:
    data = resized(encoded(picture(8, 8), kind), 16_000, 8_000)
    tracemalloc.start()
    with pytest.raises(BadImage, match=f"{len(data)} bytes cannot hold 16000x8000 pixels"):
        decode_image(data)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


SMALLEST = [("JPEG", "RGB"), ("JPEG", "L"), *(("PNG", mode) for mode in ("RGB", "L", "1", "P", "RGBA"))]


@pytest.mark.parametrize(("kind", "mode"), SMALLEST)
def test_the_smallest_file_that_holds_an_image_is_read(kind: str, mode: str) -> None:
    black = np.zeros((600, 2000, 3), np.uint8)
    assert decode_image(encoded(black, kind, mode)).shape == (600, 2000, 3)


def test_pixels_are_told_by_the_header_alone_whatever_follows() -> None:
    assert header_pixels(encoded(picture(), "JPEG")) == 24 * 40
    assert header_pixels(encoded(picture())[:60]) == 24 * 40
    assert [header_pixels(data) for data in (b"", b"GIF89a", b"\xff\xd8\xff", png_header(4, 4)[:20])] == [0] * 4
