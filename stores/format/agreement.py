"""Whether an image's arrays and counts say what the rule makes of its evidence."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from hmsa_label.stores.format import origin as origins
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.bounds import CODE, LABEL, ORIGIN, TOP1, Bounds, Pixels
from hmsa_label.stores.format.cut import Cut, counts_of, cut, uses
from hmsa_label.stores.format.rule import Rule

# What is said of polygons; images may have some that are not kept.
OF_POLYGONS = ("polygon_px", "polygon_kept_px", "polygon_agree_px", "coarse_agreement")


def made_by(arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds, names: Collection[str]) -> Cut | None:
    """What the rule makes of an image; None if what it takes is not kept, or damaged.

    Args:
        arrays: [H, W] by name, those that are sound; `mask` too, bool, if the rule has one.
        names: those that the image has.

    Raises:
        ValueError: if the rule cannot be applied to these arrays, as `cut` raises it.
    """
    if not {TOP1, CODE, *uses(rule, names)} <= set(arrays):
        return None
    return cut(arrays, rule, bounds)


def agreement_faults(
    arrays: Mapping[str, Pixels], rule: Rule, bounds: Bounds, names: Collection[str], made: Cut | None
) -> Iterator[str]:
    """Where an image's arrays do not say the same: one is not what those that it follows from say, or another class.

    Args:
        arrays, names: as of `made_by`. made: what that gave.
    """
    for array in ARRAYS.values():
        if array.name in arrays and array.agrees is not None:
            yield from array.agrees(arrays, rule, bounds)
    if made is None:
        return
    sources = " and ".join(uses(rule, names))
    for name in (array.name for array in ARRAYS.values() if array.of_rule):
        if (name in names) != (name in made.arrays):
            has, give = ("an", "none") if name in names else ("no", "one")
            yield f"it has {has} {name}, and {sources} give {give} by the rule ({rule})"
        elif name in arrays and not np.array_equal(arrays[name], made.arrays[name]):
            yield f"the {name} is not what {sources} say by the rule ({rule})"


def counts_in(arrays: Mapping[str, Pixels], bounds: Bounds, made: Cut | None) -> dict[str, Any]:
    """The counts that an image's pixels tell, by the column of the manifest.

    Args:
        arrays: those that are sound. made: what the rule makes of the evidence among them, if it is there.
    """
    found: dict[str, Any] = {}
    if made is not None:
        found |= {name: counts for name, counts in made.facts.items() if made.polygons or name not in OF_POLYGONS}
    if LABEL in arrays:
        found["class_px"] = counts_of(arrays[LABEL], bounds.num_classes)
    if ORIGIN in arrays:
        found["origin_px"] = counts_of(arrays[ORIGIN], len(origins.NAMES))
    return found


def count_faults(stated: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Which counts that are stated of an image are not those of its pixels, as `counts_in` gives them."""
    for name, counts in found.items():
        if name in stated and stated[name] != counts:
            yield f"{name} does not count the pixels: {_short(stated[name])} is stated, {_short(counts)} is there"


def _short(counts: object) -> str:
    text = str(counts)
    return text if len(text) <= 80 else f"{text[:77]}..."
