"""Damaged PNG and JPEG files."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from hmsa_label.pipeline.data.decode import decode_colored_ids, decode_image, decode_instance_ids, decode_labels
from hmsa_label.stores.images.source import BadImage
from tests.fuzz.mutate import mutate_bytes

SIGNATURE_BYTES = 8


class Target:
    """Decodes an image, or a label file of any kind."""

    def __init__(self, folder: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
        color, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        self.files = [_saved(color.convert(mode), "PNG") for mode in ("RGB", "RGBA", "L", "LA", "P", "1")]
        self.files += [_saved(deep, "PNG"), *(_saved(color.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK"))]
        self.files.append(_saved(color, "JPEG", progressive=True))

    def run(self, seed: int) -> None:
        random = Random(seed)
        body = mutate_bytes(random, random.choice(self.files), random.choice(self.files))
        if body[:4] == b"\x89PNG" and random.random() < 0.7:
            body = with_checksums(body)
        for decode in (decode_image, decode_labels, decode_instance_ids, decode_colored_ids):
            try:
                decode(body)
            except BadImage as error:
                if "\n" in str(error):
                    raise RuntimeError("an error of several lines") from error


def _saved(image: Image.Image, kind: str, **options: bool) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_checksums(body: bytes) -> bytes:
    """The PNG with the checksum of every chunk set right, so that damage gets as far as the decoder."""
    data, at = bytearray(body), SIGNATURE_BYTES
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)
