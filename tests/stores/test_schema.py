"""Chunks: what goes in comes out, and nothing else ever does."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.schema import decode, decode_checked, digest_of, encode

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
