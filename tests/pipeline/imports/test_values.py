"""What is in files of classes and confidences, and which are refused."""

import io

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.imports.values import read_confidence, read_ids
from hmsa_label.stores.images.source import BadImage


def png(array, mode=None):
    file = io.BytesIO()
    Image.fromarray(np.asarray(array), mode).save(file, "png")
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_every_8_bit_confidence_reaches_what_its_share_of_255_reaches():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    thresholds = (0.2, 0.4, 128 / 255, 0.5, 0.6, 0.8, 0.9, 230 / 255, 0.97)
    codes = read_confidence(png(values)).codes(tuple(sorted(thresholds)))
    expected = sum((values / 255.0 >= threshold).astype(np.uint8) for threshold in thresholds)
    assert np.array_equal(codes, expected)
    assert int(values[codes >= 1 + sorted(thresholds).index(0.9)].min()) == 230
    assert int(values[codes >= 1 + sorted(thresholds).index(0.5)].min()) == 128


def test_16_bit_and_float_confidences_mean_the_same():
    values = np.array([[0, 1, 32767], [32768, 58982, 65535]], np.uint16)
    thresholds = (0.5, 0.9)
    assert read_confidence(png(values)).codes(thresholds).tolist() == [[0, 0, 0], [1, 2, 2]]
    assert read_confidence(npy(values)).codes(thresholds).tolist() == [[0, 0, 0], [1, 2, 2]]
    floats = np.array([[0.0, 0.5, 0.8999], [0.9, 0.90001, 1.0]], np.float64)
    assert read_confidence(npy(floats)).codes(thresholds).tolist() == [[0, 1, 1], [2, 2, 2]]
    by_columns = np.asfortranarray(floats.astype(">f4"))
    assert read_confidence(npy(by_columns)).codes(thresholds).tolist() == [[0, 1, 1], [2, 2, 2]]


def test_the_mean_counts_pixels_of_no_class_as_0():
    where = np.array([[True, False]])
    assert read_confidence(png(np.array([[51, 255]], np.uint8))).mean(where) == pytest.approx(0.1)
    assert read_confidence(npy(np.array([[0.2, 1.0]]))).mean(where) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.array([[0.5, np.nan]])), "confidences from nan to nan; expected 0 to 1"),
        (npy(np.array([[0.5, 90.0]])), "confidences from 0.5 to 90; expected 0 to 1"),
        (npy(np.zeros((2, 2), np.int64)), "confidences of int64; expected floats"),
        (npy(np.zeros((2, 2, 2))), r"an array of float64 \[2, 2, 2\]; expected \[height, width\]"),
        (npy(np.zeros((9, 9)))[:-8], "truncated: 640 of the 648 bytes of its pixels"),
        (npy(np.array([[object()]])), "an array of object"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "damaged or truncated: the .npy header cannot be read"),
        (png(np.zeros((2, 2, 2), np.uint8), "LA"), "a PNG of mode gray with alpha; a PNG with one channel"),
        (png(np.zeros((2, 2, 3), np.uint8)), "a PNG of mode RGB; a PNG with one channel"),
        (png(np.zeros((2, 2), bool)), "a PNG of mode 1-bit; a PNG with one channel of 8 or 16 bits"),
        (b"", "the file is empty"),
    ],
)
def test_confidences_that_cannot_be_meant_are_refused_in_one_line(data, reason):
    with pytest.raises(BadImage, match=reason):
        read_confidence(data)


def test_class_ids_of_png_and_npy_are_the_same():
    ids = np.array([[7, 26], [33, 255]], np.uint8)
    for data in (png(ids), npy(ids), npy(ids.astype(np.int64))):
        assert np.array_equal(read_ids(data), ids)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(np.array([[-1, 300]])), "class ids from -1 to 300; they must lie in 0..255"),
        (npy(np.array([[1.0]])), "an array of float64; class ids are whole numbers"),
        (png(np.zeros((2, 2, 2), np.uint8), "LA"), "of mode gray with alpha; labels must have one 8-bit channel"),
    ],
)
def test_class_maps_that_cannot_be_meant_are_refused_in_one_line(data, reason):
    with pytest.raises(BadImage, match=reason):
        read_ids(data)


def test_a_header_that_promises_more_than_the_file_holds_takes_no_memory():
    data = npy(np.zeros((1, 1))).replace(b"(1, 1), }      ", b"(99999, 99999), }", 1)
    with pytest.raises(BadImage, match=r"truncated|header cannot be read"):
        read_confidence(data)
