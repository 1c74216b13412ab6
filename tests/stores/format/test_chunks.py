"""Chunks: what goes in comes out, and nothing else ever does."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.chunks import decode, decode_checked, digest_of, encode
from hmsa_label.stores.format.layout import MAX_PIXELS
from hmsa_label.stores.format.zstd_frame import content_bytes

IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(IMAGES)
def test_decoding_undoes_encoding(image: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode(image), *image.shape), image)


@given(IMAGES)
def test_a_chunk_of_the_stated_digest_is_decoded(image: np.ndarray) -> None:
    data = encode(image)
    found = decode_checked(data, *image.shape, chunk_digest=hashlib.sha256(data).hexdigest())
    np.testing.assert_array_equal(found, image)


@given(IMAGES, st.data())
def test_a_damaged_chunk_is_refused(image: np.ndarray, data: st.DataObject) -> None:
    sound = encode(image)
    damaged = bytearray(sound)
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LabelCorrupt):
        decode_checked(bytes(damaged), *image.shape, chunk_digest=hashlib.sha256(sound).hexdigest())


@given(IMAGES, st.data())
def test_a_damaged_chunk_is_an_error_or_harmless(image: np.ndarray, data: st.DataObject) -> None:
    damaged = bytearray(encode(image))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        found = decode(bytes(damaged), *image.shape)
    except LabelCorrupt:
        return
    # What the frame's checksum lets through, the digest in the manifest does not.
    assert digest_of(found) != digest_of(image) or np.array_equal(found, image)


@pytest.mark.parametrize("data", [b"", b"x", b"\x28\xb5\x2f\xfd", encode(np.zeros((2, 2), np.uint8))[:-1]])
def test_what_is_no_chunk_is_corrupt(data: bytes) -> None:
    with pytest.raises(LabelCorrupt):
        decode(data, 2, 2)


def test_a_chunk_of_another_size_is_corrupt() -> None:
    with pytest.raises(LabelCorrupt, match="holds 6 pixels, expected 2 x 4 = 8"):
        decode(encode(np.zeros((2, 3), np.uint8)), 2, 4)


def test_digest_is_of_the_pixels_in_rows_whatever_their_layout() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert digest_of(np.asfortranarray(image)) == digest_of(image)
    assert digest_of(np.zeros((4, 4), np.uint8)[::2, ::2]) == digest_of(np.zeros((2, 2), np.uint8))


# RFC 8878: magic, flags (unknown size), window of 1 KiB, then blocks; then "x" in one last raw block.
WITHOUT_A_SIZE = b"\x28\xb5\x2f\xfd\x00\x00" + b"\x09\x00\x00x"


@contextmanager
def allocating_less_than(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@given(IMAGES)
def test_a_frame_says_how_many_pixels_it_holds(image: np.ndarray) -> None:
    assert content_bytes(encode(image)) == image.size


@pytest.mark.parametrize("pixels", [100, 300, 70_000])
def test_sizes_of_one_two_and_four_bytes_are_read(pixels: int) -> None:
    assert content_bytes(encode(np.zeros((1, pixels), np.uint8))) == pixels


def test_a_small_chunk_that_decodes_to_much_more_takes_no_memory() -> None:
    frame = encode(np.zeros((4096, 8192), np.uint8))
    assert len(frame) < 2000
    with allocating_less_than(1_000_000):
        with pytest.raises(LabelCorrupt, match="holds 33554432 pixels, expected 16 x 24 = 384"):
            decode(frame, 16, 24)
        with pytest.raises(LabelCorrupt, match="holds 33554432 pixels"):
            decode_checked(frame, 16, 24, chunk_digest=hashlib.sha256(frame).hexdigest())


def test_a_chunk_that_does_not_say_its_size_is_corrupt() -> None:
    with pytest.raises(LabelCorrupt, match="no zstd frame that says its size"):
        decode(WITHOUT_A_SIZE, 1, 1)


def test_two_frames_are_no_chunk() -> None:
    frame = encode(np.zeros((2, 2), np.uint8))
    with pytest.raises(LabelCorrupt, match="does not decode"):
        decode(frame + frame, 2, 2)


@pytest.mark.parametrize("size", [(0, 4), (-1, -4), (2**20, 2**20), (MAX_PIXELS, 2)])
def test_a_size_that_no_store_holds_is_corrupt_whatever_the_chunk_says(size: tuple[int, int]) -> None:
    with allocating_less_than(1_000_000), pytest.raises(LabelCorrupt, match="1 to 134,217,728 pixels"):
        decode(encode(np.zeros((2, 2), np.uint8)), *size)
