"""Files of class maps and of confidences -> arrays: PNG with 8 or 16 bits, or NumPy's `.npy`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.data.decode import decode_gray, decode_labels
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.format.evidence import code_of
from hmsa_label.stores.images.source import BadImage

NPY_MAGIC = b"\x93NUMPY"
ROUNDING = 1e-3  # what the highest probability of a softmax may be above 1


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """The confidence of every pixel, as its file has it.

    Attributes:
        values: [H, W], unsigned integers, or float32 from 0 to 1.
        highest: the integer that stands for 1; None for floats.
    """

    values: NDArray[Any]
    highest: int | None = None

    def codes(self, thresholds: tuple[float, ...]) -> U8:
        """[H, W] uint8 number of thresholds that each confidence reaches; `value / highest >= t` of integers."""
        if self.highest is None:
            return code_of(self.values, thresholds)
        return np.asarray(code_of(self._steps().astype(np.float32), thresholds)[self.values], np.uint8)

    def mean(self, where: NDArray[np.bool_]) -> float:
        """Mean over all pixels, 0..1; pixels outside `where` count as 0."""
        if self.highest is None:
            return float(np.sum(self.values, dtype=np.float64, where=where)) / self.values.size
        counts = np.bincount(self.values[where], minlength=self.highest + 1)
        return float(counts @ self._steps()) / self.values.size

    def _steps(self) -> NDArray[np.float64]:
        assert self.highest is not None
        return np.arange(self.highest + 1) / self.highest


def read_ids(data: bytes) -> U8:
    """[H, W] uint8 class ids of a file.

    Raises:
        BadImage: if it is no map of ids from 0 to 255.
    """
    if not data.startswith(NPY_MAGIC):
        return decode_labels(data)
    array = _read_npy(data)
    if array.dtype.kind not in "iu":
        raise BadImage(f"an array of {array.dtype}; class ids are whole numbers")
    if int(array.min()) < 0 or int(array.max()) > 255:
        raise BadImage(f"class ids from {array.min()} to {array.max()}; they must lie in 0..255")
    return array.astype(np.uint8)


def read_confidence(data: bytes) -> Confidence:
    """The confidences of a file: integers stand for their share of the highest one, floats for themselves.

    Raises:
        BadImage: if it is no such map, or a float is not a number or lies outside 0..1.
    """
    array = _read_npy(data) if data.startswith(NPY_MAGIC) else decode_gray(data)
    if array.dtype in (np.uint8, np.uint16):
        return Confidence(values=array, highest=int(np.iinfo(array.dtype).max))
    if array.dtype.kind != "f":
        raise BadImage(f"confidences of {array.dtype}; expected floats from 0 to 1, or 8- or 16-bit unsigned integers")
    lowest, highest = float(array.min()), float(array.max())
    if not (lowest >= 0.0 and highest <= 1.0 + ROUNDING):  # NaN fails both
        raise BadImage(f"confidences from {lowest:g} to {highest:g}; expected 0 to 1")
    return Confidence(values=array.astype(np.float32))


def _read_npy(data: bytes) -> NDArray[Any]:
    """The array [H, W] of a `.npy` file, as NumPy's format 1.0 or 2.0 has it; takes no memory that the file lacks."""
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(file)
    except Exception as error:  # whatever the parser of its header raises
        raise BadImage(f"damaged or truncated: the .npy header cannot be read ({type(error).__name__})") from error
    if len(shape) != 2 or min(shape) < 1 or dtype.hasobject:
        raise BadImage(f"an array of {dtype} {list(shape)}; expected [height, width]")
    body, wanted = data[file.tell() :], shape[0] * shape[1] * dtype.itemsize
    if len(body) < wanted:
        raise BadImage(f"truncated: {len(body):,} of the {wanted:,} bytes of its pixels")
    array = np.frombuffer(body[:wanted], dtype).reshape(shape, order="F" if by_columns else "C")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Makes the reason why an image cannot be labeled name the file that is to blame."""
    try:
        yield
    except BadImage as error:
        raise BadImage(f"labels {path}: {error}") from None


def check_size(found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Refuses a map of another size than its image.

    Raises:
        BadImage: naming both.
    """
    if found != size:
        raise BadImage(f"size {found[0]} x {found[1]} differs from the image's {size[0]} x {size[1]} (height x width)")
