"""Images in one folder per class, as classifiers are trained on: SPLIT/CLASS/IMAGE at any depth below the class."""

from dataclasses import dataclass
from typing import Any

from hmsa_label.labelers.image_classes import ImageClasses
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.files import FileRoot, join, public_uri
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.layouts import shown
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.location import Location, location_text

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """The images of one split; picklable, for loader workers.

    Attributes:
        refs: sorted by key, which begins with the class.
        classes: of the split, sorted by name; or those that it was opened for.
    """

    source: FolderSource
    refs: list[ImageRef]
    classes: ImageClasses

    def __len__(self) -> int:
        return len(self.refs)

    @property
    def keys(self) -> list[str]:
        return [ref.key for ref in self.refs]

    def pair(self, index: int) -> tuple[U8, int]:
        """(image [H, W, 3] uint8 RGB, number of its class).

        Raises:
            ValueError: the file cannot be read; the message names it.
        """
        ref = self.refs[index]
        try:
            return decode_image(self.source.read(ref.image)), self.classes.names.index(_class_of(ref))
        except ValueError as error:
            raise ValueError(f"cannot read {ref.key} of {self.source.root}: {error}") from error


def open_class_folders(
    root: Location,
    split: str,
    *,
    classes: ImageClasses | None = None,
    limit: int | None = None,
    storage_options: dict[str, Any] | None = None,
) -> ClassFolders:
    """The images of a split.

    Args:
        root: folder or URL with a folder for each split.
        split: name of that folder; empty for classes that lie directly below the root.
        classes: those that an image may have, when they are known already.
        limit: only the first images by key.

    Raises:
        NotAStore: there is no such folder, or no image in it.
        ValueError: an image lies in no class folder, in one that `classes` does not have, or there is only one class.
    """
    place = _place(location_text(root), split, storage_options)
    source = FolderSource(place, storage_options)
    refs = source.list()[:limit]
    if outside := [ref.key for ref in refs if "/" not in ref.key]:
        raise ValueError(
            f"{len(outside)} images lie directly in {source.root}, such as {outside[0]}; expected a folder for each "
            "class there; move them, or correct --data and the split"
        )
    names = tuple(sorted({_class_of(ref) for ref in refs}))
    if classes is None:
        if len(names) < 2:
            raise ValueError(f"{source.root} has images of one class, {names[0]}; expected two class folders or more")
        classes = ImageClasses(names)
    elif strangers := sorted(set(names) - set(classes.names)):
        shown = ", ".join(strangers[:SHOWN])
        raise ValueError(f"{source.root} has classes that nothing is trained on: {shown}; rename or remove them")
    return ClassFolders(source=source, refs=refs, classes=classes)


def _place(root: str, split: str, storage_options: dict[str, Any] | None) -> str:
    """Path or URL of a split's folder, which is there."""
    files = FileRoot(root, dict(storage_options or {}))
    files.require()
    if split and not files.list_names(split):
        raise NotAStore(
            f"no folder {split} below {public_uri(root)}, there is {shown(files.list_names())}; expected one for each "
            "split, with a folder for each class in it"
        )
    return join(root, split)


def _class_of(ref: ImageRef) -> str:
    return ref.key.partition("/")[0]
