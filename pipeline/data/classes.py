"""Which classes a data set has."""

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
