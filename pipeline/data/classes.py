"""Which classes a data set has, and whether a teacher's are the same."""

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.mapillary import MapillarySource
from hmsa_label.stores.images.source import ImageSource


def classes_of(source: ImageSource) -> ClassTable:
    """The class table of a data set: Mapillary's own from its config.json, Cityscapes' for every other tree."""
    return ClassTable.from_dict(source.class_table()) if isinstance(source, MapillarySource) else CITYSCAPES


def known_classes_of(source: ImageSource) -> ClassTable | None:
    """As `classes_of`; None where nothing tells: a plain folder, or Mapillary images without their config.json."""
    if isinstance(source, FolderSource):
        return None
    try:
        return classes_of(source)
    except (NotAStore, ValueError):
        return None


def class_difference(teacher: ClassTable, data: ClassTable) -> str | None:
    """How a teacher's classes differ from those of the data, in one clause; None if they are the same, in one order."""
    if teacher.names == data.names:
        return None
    told = (
        f"the teacher knows {teacher.num_classes} classes of {teacher.name!r}, "
        f"the data has {data.num_classes} of {data.name!r}"
    )
    if sorted(teacher.names) == sorted(data.names):
        return f"{told}, the same ones in another order"
    common = {name.casefold() for name in teacher.names} & {name.casefold() for name in data.names}
    return f"{told}, {len(common) or 'none'} of them under the same name"
