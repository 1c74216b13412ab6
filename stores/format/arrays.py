"""The arrays that a store keeps of an image: one row for each, with all that is particular to it.

Writer, readers, `verify`, gc, adoption, exports, the manifest's columns and FORMAT.md go by `ARRAYS`, so another array
is one row more.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.evidence import label_at, level_of
from hmsa_label.stores.format.layout import IGNORE_INDEX, UNWRITTEN

LABEL, TOP1, CODE = "label", "top1", "code"
SHA256, CHUNK_SHA256, BYTES = "sha256", "chunk_sha256", "bytes"
# What the manifest says of each array: its digest, and digest and size of its chunk object.
PARTS = (SHA256, CHUNK_SHA256, BYTES)

Pixels = NDArray[Any]  # [H, W] of an array's type


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What decides which values the arrays of an image may hold.

    Attributes:
        thresholds: ascending, those that codes count; empty without evidence.
    """

    num_classes: int
    thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Values:
    """The values that an array may hold.

    Attributes:
        text: in words, for FORMAT.md.
        fault: what is wrong with pixels that hold others; empty if nothing is.
    """

    text: str
    fault: Callable[[Pixels, Bounds], str]


@dataclass(frozen=True, kw_only=True)
class Derived:
    """How an array follows from others at a threshold.

    Attributes:
        text: in words, for FORMAT.md.
        sources: the arrays it follows from.
        make: the array, from its sources by name, a threshold and the stored thresholds.
    """

    text: str
    sources: tuple[str, ...]
    make: Callable[[Mapping[str, Pixels], float, tuple[float, ...]], Pixels]


@dataclass(frozen=True, kw_only=True)
class Array:
    """One array.

    Attributes:
        name: of its folder, of its columns, and in the mappings that a writer takes.
        dtype: NumPy's name of its type; stored in little-endian order.
        meaning: what a pixel says.
        fill: what plain Zarr readers see where nothing was written; never the value of a pixel.
        required: every image has it, at `segment` and `row`. If not, it is evidence: it lies at `evidence_segment` and
            `evidence_row`, does not depend on the threshold, and stays where it is when the threshold changes.
        derived: how a required array follows from evidence.
        beside: arrays that an image must have as well if it has this one.
        in_digest: whether the content digest of a version covers it.
        attributes: those of its segment that its own metadata repeats.
        ignore_index: the value that stands for no class, if there is one.
    """

    name: str
    dtype: str
    meaning: str
    values: Values
    fill: int
    required: bool = False
    derived: Derived | None = None
    beside: tuple[str, ...] = ()
    in_digest: bool = False
    attributes: tuple[str, ...] = ()
    ignore_index: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The manifest's columns that say where it is: segment and row."""
        return ("segment", "row") if self.required else ("evidence_segment", "evidence_row")

    def column(self, part: str) -> str:
        """The manifest's column of one of `PARTS`."""
        return f"{self.name}_{part}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The manifest's columns of all `PARTS`."""
        return tuple(map(self.column, PARTS))


def _class_fault(pixels: Pixels, bounds: Bounds) -> str:
    # 255 becomes 0: one pass without a mask, as every label that is read comes through here.
    highest = int((pixels + np.uint8(1)).max())
    return "" if highest <= bounds.num_classes else f"it holds {highest - 1}, which is no class"


def _code_fault(pixels: Pixels, bounds: Bounds) -> str:
    highest, levels = int(pixels.max()), len(bounds.thresholds)
    if not levels:
        return "its segment names no thresholds"
    return "" if highest <= levels else f"it holds a code of {highest}, but its segment names {levels} thresholds"


def _label_of(arrays: Mapping[str, Pixels], threshold: float, thresholds: tuple[float, ...]) -> Pixels:
    return label_at(arrays[TOP1], arrays[CODE], level_of(threshold, thresholds))


CLASSES = Values(text="trainId 0..K-1, or 255", fault=_class_fault)
CODES = Values(text="0..number of the segment's thresholds", fault=_code_fault)

ARRAYS: dict[str, Array] = {
    array.name: array
    for array in (
        Array(
            name=LABEL,
            dtype="uint8",
            meaning="the class, or 255 (`ignore_index`) where the confidence is below the threshold",
            values=CLASSES,
            fill=UNWRITTEN,
            required=True,
            derived=Derived(
                text="`where(code >= place of the threshold, top1, 255)`", sources=(TOP1, CODE), make=_label_of
            ),
            in_digest=True,
            attributes=("threshold",),
            ignore_index=IGNORE_INDEX,
        ),
        Array(
            name=TOP1,
            dtype="uint8",
            meaning="the class of the highest probability, whatever it is",
            values=CLASSES,
            fill=UNWRITTEN,
            beside=(CODE,),
            ignore_index=IGNORE_INDEX,
        ),
        Array(
            name=CODE,
            dtype="uint8",
            meaning="how many of the segment's thresholds the confidence reaches",
            values=CODES,
            fill=UNWRITTEN,
            beside=(TOP1,),
            attributes=("thresholds", "thresholds_float32"),
            ignore_index=IGNORE_INDEX,
        ),
    )
}


def evidence_arrays() -> list[Array]:
    """The arrays that not every image has."""
    return [array for array in ARRAYS.values() if not array.required]


def derivations() -> dict[str, Derived]:
    """How each array that depends on the threshold follows from evidence, by name."""
    return {array.name: array.derived for array in ARRAYS.values() if array.derived is not None}


def counts_thresholds(name: str) -> bool:
    """Whether an array means nothing without its segment's thresholds."""
    return "thresholds" in ARRAYS[name].attributes


def set_fault(names: set[str]) -> str:
    """What is wrong with the set of arrays that an image has; empty if nothing is."""
    if unknown := sorted(names - set(ARRAYS)):
        return f"there is no array {unknown[0]!r}; known are {', '.join(ARRAYS)}"
    for array in ARRAYS.values():
        if array.required and array.name not in names:
            return f"every image has a {array.name}"
        if array.name in names and (lost := [other for other in array.beside if other not in names]):
            return f"{array.name} needs {' and '.join(lost)} beside it"
    return ""


def derivation_faults(arrays: Mapping[str, Pixels], threshold: float, thresholds: tuple[float, ...]) -> Iterator[str]:
    """Which arrays are not what those that they follow from say.

    Raises:
        ThresholdNotStored: if the threshold is not among the stored ones.
    """
    for name, derived in derivations().items():
        if not {name, *derived.sources} <= set(arrays):
            continue
        if not np.array_equal(arrays[name], derived.make(arrays, threshold, thresholds)):
            yield f"the {name} is not what {' and '.join(derived.sources)} say at threshold {threshold}"
