"""A plain folder of images, at any depth, without labels."""

from collections.abc import Iterator

from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.files import Entry
from hmsa_label.stores.images.layouts import shown
from hmsa_label.stores.images.source import ImageRef, TreeSource, image_stem, safe_key


class FolderSource(TreeSource):
    """Every PNG or JPEG below the root; the key is the relative path with its suffix."""

    def list(self, split: str = "", *, labels: str | None = None, coarse: str | None = None) -> list[ImageRef]:
        """The images, sorted by key; a plain folder has no splits, so `split` has no meaning here.

        Raises:
            ValueError: if labels are asked for.
            NotAStore: if there is not one image.
        """
        if labels is not None:
            raise ValueError(
                f"a plain folder holds no labels, but {labels} was asked; use --dataset cityscapes or mapillary with a "
                "tree that has them (photos with labels in a store are --auto-data of train-student)"
            )
        refs = [ImageRef(key=safe_key(entry.path), image=entry.path) for entry in self._images()]
        if not refs:
            there = shown(self.files.list_names())
            raise NotAStore(f"no .png, .jpg or .jpeg file anywhere below {self.root}, there is {there}; correct --data")
        return sorted(refs, key=lambda ref: ref.key)

    def has_label_type(self, kind: str) -> bool:
        """False: a plain folder holds no labels."""
        return False

    def _images(self) -> Iterator[Entry]:
        """Entries named like images, outside hidden folders and outside folders that are named like images."""
        entries = [entry for entry in self.files.list_tree() if not _is_hidden(entry.path)]
        folders = tuple(entry.path + "/" for entry in entries if entry.is_directory and image_stem(entry.path))
        return (entry for entry in entries if image_stem(entry.path) and not entry.path.startswith(folders))


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
