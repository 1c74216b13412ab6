"""The readers of image trees by the name of their layout."""

from collections.abc import Callable
from typing import Any

from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.images.cityscapes import CityscapesSource
from hmsa_label.stores.images.coco import CocoSource
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.mapillary import MapillarySource
from hmsa_label.stores.images.source import ImageSource
from hmsa_label.stores.location import Location, location_text


def open_images(dataset: str, root: Location, storage_options: dict[str, Any] | None = None) -> ImageSource:
    """The reader for a kind of data set: `cityscapes`, `mapillary`, `coco` or `folder`.

    Raises:
        ValueError: if the kind is unknown.
        NotAStore: if there is no folder at the root.
    """
    readers: dict[str, Callable[..., ImageSource]] = {
        "cityscapes": CityscapesSource,
        "mapillary": MapillarySource,
        "coco": CocoSource,
        "folder": FolderSource,
    }
    if dataset not in readers:
        raise ValueError(f"dataset must be one of {', '.join(readers)}; got {dataset!r}")
    place = location_text(root)
    FileRoot(place, dict(storage_options or {})).require()
    return readers[dataset](place, storage_options)
