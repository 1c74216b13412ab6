"""The label that another rule gives an image of a store, from its evidence."""

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.arrays import ARRAYS, MASK, Pixels
from hmsa_label.stores.format.cut import Cut, cut, uses
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.label_store import LabelStore


def recut(store: LabelStore, key: str, rule: Rule) -> Cut:
    """What a rule makes of an image.

    Raises:
        ThresholdNotStored: if a threshold or the margin is not among those that its evidence was stored for.
        ValueError: if the rule needs an array that the image does not have, or is about other classes.
        LabelMissing, LabelCorrupt: if what it has is gone or damaged.
    """
    return cut(sources_of(store, key, rule), rule, store.bounds(key))


def sources_of(store: LabelStore, key: str, rule: Rule) -> dict[str, Pixels]:
    """[H, W] arrays of an image that `cut` looks at, by name; the rule's mask among them.

    Raises:
        LabelMissing, LabelCorrupt: if one is gone or damaged.
    """
    bounds, sources = store.bounds(key), {}
    for name in uses(rule, store.arrays_of(key)):
        sources[name] = store.read_array(key, name)
        if fault := ARRAYS[name].values.fault(sources[name], bounds):
            raise LabelCorrupt(f"{key}: {name} of version {store.version}: {fault}")
    return sources if rule.mask is None else {**sources, MASK: store.mask(rule.mask) != 0}
