"""The arrays that a store keeps of an image: one row for each, with all that is particular to it.

Writer, readers, `verify`, gc, adoption, exports, the manifest's columns and FORMAT.md go by `ARRAYS`, so another array
is one row more.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.format.instances import MAX_INSTANCES, StoredInstance, class_fault, map_faults, range_fault
from hmsa_label.stores.format.layout import IGNORE_INDEX, UNWRITTEN
from hmsa_label.stores.format.rule import Rule

LABEL, TOP1, CODE, INSTANCE = "label", "top1", "code", "instance"
SHA256, CHUNK_SHA256, BYTES = "sha256", "chunk_sha256", "bytes"
# What the manifest says of each array: its digest, and digest and size of its chunk object.
PARTS = (SHA256, CHUNK_SHA256, BYTES)

Pixels = NDArray[Any]  # [H, W] of an array's type


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What decides which values the arrays of an image may hold.

    Attributes:
        things: trainIds of the classes whose instances are told apart.
        thresholds: ascending, those that codes count; empty without evidence.
        instances: the table of the image's row; None if it has none, or it is not known here.
    """

    num_classes: int
    things: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    instances: tuple[StoredInstance, ...] | None = None


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
    """How an array follows from others by a rule.

    Attributes:
        text: in words, for FORMAT.md.
        sources: the arrays it follows from; also: those that have a part in it if the image has them.
        make: the array, from these by name, the rule, and what else is known of the image.
    """

    text: str
    sources: tuple[str, ...]
    make: Callable[[Mapping[str, Pixels], Rule, Bounds], Pixels]
    also: tuple[str, ...] = ()

    def needs(self, names: Collection[str]) -> list[str]:
        """The arrays that `make` takes, for an image that has arrays of these names."""
        return [*self.sources, *(name for name in self.also if name in names)]


@dataclass(frozen=True, kw_only=True)
class Array:
    """One array.

    Attributes:
        name: of its folder, of its columns, and in the mappings that a writer takes.
        dtype: NumPy's name of its type; stored in little-endian order.
        meaning: what a pixel says.
        fill: what plain Zarr readers see where nothing was written; never the value of a pixel.
        required: every image has it, at `segment` and `row`. If not, it is evidence: it lies at `evidence_segment` and
            `evidence_row`, does not depend on the rule, and stays where it is when the rule changes.
        images: which images have it, in words. missing: what to tell who asks for it of another image.
        derived: how a required array follows from evidence.
        agrees: what is wrong between it and other arrays of its image, its row and its rule.
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
    images: str = "with evidence"
    missing: str = "keeps no evidence for this image; label it again with --evidence"
    derived: Derived | None = None
    agrees: Callable[[Mapping[str, Pixels], Rule, Bounds], Iterator[str]] | None = None
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


def _label_of(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Pixels:
    grid, instances = bounds.thresholds, bounds.instances or ()
    return rule.label_of(arrays[TOP1], arrays[CODE], grid, arrays.get(INSTANCE), instances)


def _id_fault(pixels: Pixels, bounds: Bounds) -> str:
    return "" if bounds.instances is None else range_fault(pixels, len(bounds.instances))


def _instance_faults(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Iterator[str]:
    instance, instances = arrays[INSTANCE], bounds.instances
    if instances is None or _id_fault(instance, bounds):
        return  # said already
    if fault := class_fault(instances, bounds.things):
        yield fault
    classes = {name: arrays[name] for name in (LABEL, TOP1) if name in arrays}
    yield from map_faults(instance, classes, instances)
    if LABEL in arrays and not (kept := rule.keeps(instances)).all():
        wrong = int(np.count_nonzero(arrays[LABEL][~kept[instance]] != IGNORE_INDEX))
        if wrong:
            yield f"{wrong} pixels of instances that the rule ({rule}) drops have a label"


CLASSES = Values(text="trainId 0..K-1, or 255", fault=_class_fault)
CODES = Values(text="0..number of the segment's thresholds", fault=_code_fault)
IDS = Values(text="0, or 1..number of the image's instances", fault=_id_fault)

ARRAYS: dict[str, Array] = {
    array.name: array
    for array in (
        Array(
            name=LABEL,
            dtype="uint8",
            meaning="the class, or 255 (`ignore_index`) where the rule keeps nothing",
            values=CLASSES,
            fill=UNWRITTEN,
            required=True,
            images="all",
            derived=Derived(
                text="`where(code >= place of the threshold, top1, 255)`, and 255 in instances that the rule drops",
                sources=(TOP1, CODE),
                also=(INSTANCE,),
                make=_label_of,
            ),
            in_digest=True,
            attributes=("threshold", "rule"),
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
        Array(
            name=INSTANCE,
            dtype="uint16",
            meaning="which instance of its image, or 0 for none",
            values=IDS,
            fill=MAX_INSTANCES + 1,
            images="of panoptic teachers",
            missing="tells no instances of this image apart; a panoptic teacher does",
            agrees=_instance_faults,
            in_digest=True,
        ),
    )
}


def derivations() -> dict[str, Derived]:
    """How each array that depends on the rule follows from evidence, by name."""
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


def table_fault(names: Collection[str], instances: object) -> str:
    """What is wrong with an image that has a map of instances and no table of them, or the other way round."""
    if (INSTANCE in names) == (instances is not None):
        return ""
    has, lacks = ("a table of instances", "no map") if instances is not None else ("a map of instances", "no table")
    return f"it has {has} and {lacks}; both belong together"


def agreement_faults(
    arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds, names: Collection[str] | None = None
) -> Iterator[str]:
    """Where an image's arrays do not say the same: one is not what those that it follows from say, or another class.

    Args:
        names: the arrays that the image has, if others of them are damaged.

    Raises:
        ThresholdNotStored: if the threshold is not among the stored ones.
    """
    names = arrays.keys() if names is None else names
    for name, pixels in arrays.items():
        array, derived = ARRAYS[name], ARRAYS[name].derived
        if array.agrees is not None:
            yield from array.agrees(arrays, rule, bounds)
        if derived is None or not bounds.thresholds or not set(derived.needs(names)) <= set(arrays):
            continue
        if not np.array_equal(pixels, derived.make(arrays, rule, bounds)):
            yield f"the {name} is not what {' and '.join(derived.needs(names))} say at threshold {rule}"
