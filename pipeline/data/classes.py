"""Which classes a data set has."""

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.images.coco import CocoSource
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.mapillary import MapillarySource
from hmsa_label.stores.images.source import ImageSource


def classes_of(source: ImageSource) -> ClassTable:
    """The class table of a data set: Mapillary's and COCO's own from a JSON file, Cityscapes' for every other tree."""
    if isinstance(source, MapillarySource | CocoSource):
        return ClassTable.from_dict(source.class_table())
    return CITYSCAPES


def known_classes_of(source: ImageSource) -> ClassTable | None:
    """As `classes_of`; None where nothing tells: a plain folder, or images without that JSON file."""
    if isinstance(source, FolderSource):
        return None
    try:
        return classes_of(source)
    except (NotAStore, ValueError):
        return None
