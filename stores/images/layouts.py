"""What a folder looks like when it is not laid out as was said: the end of an error message, with the way out."""

from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.images.source import image_stem

CITYSCAPES_FOLDERS = ("leftImg8bit", "gtFine", "gtCoarse")
MAPILLARY_FOLDERS = ("training", "validation", "testing")
COCO_FOLDERS = ("train2017", "val2017")
FOLDERS_LOOKED_INTO = 20
NAMES_SHOWN = 5


def way_out(files: FileRoot, dataset: str, *, labeled: bool = False) -> str:
    """`; use --data /data/cityscapes`, or whatever else would fit what is there; empty if nothing is recognized.

    Args:
        dataset: the layout that did not fit.
        labeled: whether labels were asked for, which a folder of photos does not have.
    """
    photos = "; photos alone have no labels: these lie beside images as in Cityscapes or Mapillary Vistas"
    if not labeled:
        photos = "; for photos in a folder, or in folders of it, use --dataset folder"
    names = files.list_names()
    if (root := _above(public_uri(files.uri))) is not None:
        return f"; that is inside a Cityscapes tree: use --data {root}"
    if dataset != "cityscapes" and CITYSCAPES_FOLDERS[0] in names:
        return "; it looks like a Cityscapes tree: use --dataset cityscapes"
    splits = [name for name in names if name in MAPILLARY_FOLDERS]
    if dataset != "mapillary" and any("images" in files.list_names(split) for split in splits):
        return "; it looks like Mapillary Vistas: use --dataset mapillary"
    if dataset != "coco" and "annotations" in names and any(name in COCO_FOLDERS for name in names):
        return "; it looks like COCO: use --dataset coco"
    if dataset != "folder" and any(image_stem(name) for name in names):
        return photos
    return _below(files, names, "" if dataset == "folder" else photos)


def shown(names: list[str]) -> str:
    """The first few names of a folder, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more if names else "nothing"


def _above(root: str) -> str | None:
    """The root of the Cityscapes tree that a folder is inside of, by its path."""
    parts = root.split("/")
    places = [place for place, part in enumerate(parts) if part in CITYSCAPES_FOLDERS]
    return "/".join(parts[: places[0]]) or None if places else None


def _below(files: FileRoot, names: list[str], photos: str) -> str:
    """A tree one level further down, or photos in folders."""
    place = public_uri(files.uri)
    for name in names[:FOLDERS_LOOKED_INTO]:
        inside = files.list_names(name)
        if CITYSCAPES_FOLDERS[0] in inside:
            return f"; a Cityscapes tree is one level down: use --data {place}/{name}"
        if photos and any(image_stem(entry) for entry in inside):
            return photos
    return ""
