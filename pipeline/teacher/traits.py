"""What a labeler says of itself, and what holds where it does not."""

from typing import Any

from hmsa_label.labelers.base import Labeler, LabelerBase, LabelerFault
from hmsa_label.labelers.taxonomy import ClassTable


def trait(labeler: object, name: str) -> Any:
    """What a labeler says of itself, or what holds where it does not."""
    return getattr(labeler, name, getattr(LabelerBase, name))


def num_views_of(labeler: Labeler, name: str) -> int:
    """How many predictions a labeler takes its own from.

    Raises:
        LabelerFault: what it says is no such number; `name` is the teacher's.
    """
    views = trait(labeler, "num_views")
    if not isinstance(views, int) or views < 1:
        raise LabelerFault(f"the teacher {name}: its attribute num_views must be 1 or more; it is {views!r}")
    return views


def classes_of(labeler: Labeler, name: str) -> ClassTable:
    """The classes of a labeler.

    Raises:
        LabelerFault: it has none; `name` is the teacher's.
    """
    classes = getattr(labeler, "classes", None)
    if not isinstance(classes, ClassTable):
        found = "it has none" if classes is None else f"it is a {type(classes).__name__}"
        raise LabelerFault(f"the teacher {name}: its attribute classes must be a ClassTable; {found}")
    return classes
