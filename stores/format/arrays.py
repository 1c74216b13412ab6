"""The arrays that a store keeps of an image: one row for each, with all that is particular to it.

Writer, readers, `verify`, gc, adoption, exports, the manifest's columns and FORMAT.md go by `ARRAYS`, so another array
is one row more.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hmsa_label.stores.format import origin as origins
from hmsa_label.stores.format.bounds import (
    CODE,
    DISAGREEMENT,
    GROWN,
    GROWN_PX,
    INSTANCE,
    LABEL,
    MARGIN,
    MASK,
    ORIGIN,
    POLYGON,
    TOP1,
    TOP2,
    Bounds,
    Pixels,
)
from hmsa_label.stores.format.evidence import MAX_LEVELS
from hmsa_label.stores.format.instances import MAX_INSTANCES, class_fault, map_faults, range_fault
from hmsa_label.stores.format.layout import IGNORE_INDEX, UNWRITTEN
from hmsa_label.stores.format.rule import MAX_GROW_PX, Rule

__all__ = [
    "ARRAYS", "BYTES", "CHUNK_SHA256", "CLASSES", "CODE", "DISAGREEMENT", "GROWN", "GROWN_PX", "INSTANCE", "LABEL",
    "MARGIN", "MASK", "ORIGIN", "PARTS", "POLYGON", "SHA256", "TOP1", "TOP2", "Array", "Bounds", "Pixels", "Values",
    "counts_margins", "counts_thresholds", "set_fault", "table_fault",
]  # fmt: skip

SHA256, CHUNK_SHA256, BYTES = "sha256", "chunk_sha256", "bytes"
# What the manifest says of each array: its digest, and digest and size of its chunk object.
PARTS = (SHA256, CHUNK_SHA256, BYTES)


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
class Array:
    """One array.

    Attributes:
        name: of its folder, of its columns, and in the mappings that a writer takes.
        dtype: NumPy's name of its type; stored in little-endian order.
        meaning: what a pixel says.
        fill: what plain Zarr readers see where nothing was written; never the value of a pixel.
        required: every image has it.
        derived: how it follows from evidence by the rule, in words; `cut` makes it. It lies at `segment` and `row`, and
            is made anew when the rule changes. If empty, the array is evidence: it lies at `evidence_segment` and
            `evidence_row`, does not depend on the rule, and stays where it is.
        images: which images have it, in words. kind: of evidence that it is of, as `--evidence` names it.
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
    kind: str = "confidence"
    derived: str = ""
    agrees: Callable[[Mapping[str, Pixels], Rule, Bounds], Iterator[str]] | None = None
    beside: tuple[str, ...] = ()
    in_digest: bool = False
    attributes: tuple[str, ...] = ()
    ignore_index: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        """The manifest's columns that say where it is: segment and row."""
        return ("segment", "row") if self.of_rule else ("evidence_segment", "evidence_row")

    @property
    def missing(self) -> str:
        """What to tell who asks for it of an image that does not have it."""
        if self.name == INSTANCE:
            return "tells no instances of this image apart; a panoptic teacher does"
        if self.name == ORIGIN:
            return "has no polygons that give labels in this image: its teacher said them all"
        if self.kind == "confidence":
            return "keeps no evidence for this image; label it again with --evidence confidence"
        return f"keeps no {self.name} of this image; label it again with --evidence {self.kind}"

    @property
    def of_rule(self) -> bool:
        """Whether it follows the rule; if not, it is evidence."""
        return bool(self.derived)

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
    return "" if highest <= levels else f"it holds a code of {highest}, but its segment names {levels} thresholds"


def _margin_fault(pixels: Pixels, bounds: Bounds) -> str:
    highest, levels = int(pixels.max()), len(bounds.margins)
    return "" if highest <= levels else f"it holds a code of {highest}, but its segment names {levels} margins"


def _up_to(most: int, what: str) -> Callable[[Pixels, Bounds], str]:
    def fault(pixels: Pixels, bounds: Bounds) -> str:
        highest = int(pixels.max())
        return "" if highest <= most else f"it holds {highest}, which is no {what}"

    return fault


def _id_fault(pixels: Pixels, bounds: Bounds) -> str:
    return "" if bounds.instances is None else range_fault(pixels, len(bounds.instances))


def _instance_faults(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Iterator[str]:
    instance, instances = arrays[INSTANCE], bounds.instances
    if instances is None or range_fault(instance, len(instances)):
        return  # said already
    if fault := class_fault(instances, bounds.things):
        yield fault
    classes = {name: arrays[name] for name in (LABEL, TOP1) if name in arrays}
    if ORIGIN in arrays and LABEL in arrays:  # polygons know nothing of instances
        classes[LABEL] = np.where(arrays[ORIGIN] == origins.TEACHER, arrays[LABEL], np.uint8(IGNORE_INDEX))
    yield from map_faults(instance, classes, instances)
    if LABEL in classes and not (kept := rule.keeps(instances)).all():
        wrong = int(np.count_nonzero(classes[LABEL][~kept[instance]] != IGNORE_INDEX))
        if wrong:
            yield f"{wrong} pixels of instances that the rule ({rule}) drops have a label"


def _origin_faults(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Iterator[str]:
    if LABEL in arrays:
        wrong = int(np.count_nonzero((arrays[ORIGIN] == origins.NONE) != (arrays[LABEL] == IGNORE_INDEX)))
        if wrong:
            yield f"{wrong} pixels have a label and no origin, or the other way round"


def _grown_faults(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds) -> Iterator[str]:
    if GROWN_PX in arrays:
        wrong = int(np.count_nonzero((arrays[GROWN] == IGNORE_INDEX) != (arrays[GROWN_PX] == 0)))
        if wrong:
            yield f"{wrong} pixels are grown and have no distance, or the other way round"


CLASSES = Values(text="trainId 0..K-1, or 255", fault=_class_fault)
CODES = Values(text="0..number of the segment's thresholds", fault=_code_fault)
MARGINS = Values(text="0..number of the segment's margins", fault=_margin_fault)
VIEWS = Values(text=f"0..{MAX_LEVELS}", fault=_up_to(MAX_LEVELS, "number of views"))
DISTANCES = Values(text=f"1..{MAX_GROW_PX}, or 0", fault=_up_to(MAX_GROW_PX, "distance of growth"))
ORIGINS = Values(text="0 none, 1 teacher, 2 polygon, 3 grown, 4 human", fault=_up_to(origins.HUMAN, "origin"))
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
            derived='what the rule makes of the image\'s evidence, see "The rule"; its counts are those in `class_px`',
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
            name=TOP2,
            dtype="uint8",
            meaning="the class of the second highest probability",
            values=CLASSES,
            fill=UNWRITTEN,
            images="with evidence `top2`",
            kind="top2",
            beside=(TOP1, CODE, MARGIN),
            ignore_index=IGNORE_INDEX,
        ),
        Array(
            name=MARGIN,
            dtype="uint8",
            meaning="how many of the segment's margins the two highest probabilities differ by",
            values=MARGINS,
            fill=UNWRITTEN,
            images="with evidence `top2`",
            kind="top2",
            beside=(TOP1, CODE, TOP2),
            attributes=("margins", "margins_float32"),
        ),
        Array(
            name=DISAGREEMENT,
            dtype="uint8",
            meaning="how many single predictions of the teacher say another class than `top1`",
            values=VIEWS,
            fill=UNWRITTEN,
            images="with evidence `disagreement`",
            kind="disagreement",
            beside=(TOP1, CODE),
        ),
        Array(
            name=INSTANCE,
            dtype="uint16",
            meaning="which instance of its image, or 0 for none",
            values=IDS,
            fill=MAX_INSTANCES + 1,
            images="of panoptic teachers",
            agrees=_instance_faults,
            in_digest=True,
        ),
        Array(
            name=POLYGON,
            dtype="uint8",
            meaning="the class of the polygon drawn by hand, or 255 outside of polygons",
            values=CLASSES,
            fill=UNWRITTEN,
            images="with polygons and evidence",
            ignore_index=IGNORE_INDEX,
        ),
        Array(
            name=GROWN,
            dtype="uint8",
            meaning="the class of the polygon that was grown into the pixel, or 255",
            values=CLASSES,
            fill=UNWRITTEN,
            images="with polygons and evidence `growth`",
            kind="growth",
            agrees=_grown_faults,
            beside=(POLYGON, GROWN_PX),
            ignore_index=IGNORE_INDEX,
        ),
        Array(
            name=GROWN_PX,
            dtype="uint8",
            meaning="distance to the nearest polygon in px, rounded up, where `grown` has a class",
            values=DISTANCES,
            fill=UNWRITTEN,
            images="with polygons and evidence `growth`",
            kind="growth",
            beside=(POLYGON, GROWN),
        ),
        Array(
            name=ORIGIN,
            dtype="uint8",
            meaning="who said the label",
            values=ORIGINS,
            fill=UNWRITTEN,
            images="with polygons that give labels",
            derived="who said the label, by the same steps; there if the rule lets the image's polygons give labels",
            agrees=_origin_faults,
            in_digest=True,
            attributes=("threshold", "rule"),
        ),
    )
}


def counts_thresholds(name: str) -> bool:
    """Whether an array means nothing without its segment's thresholds."""
    return "thresholds" in ARRAYS[name].attributes


def counts_margins(name: str) -> bool:
    """Whether an array means nothing without its segment's margins."""
    return "margins" in ARRAYS[name].attributes


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
