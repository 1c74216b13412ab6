"""What an image source is: a list of stable keys, and bytes for each; no decoding here.

Class ids in label files are raw bytes at this level; `labelers.taxonomy` turns them into trainIds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hmsa_label.stores.errors import NotAFile
from hmsa_label.stores.files import FileRoot, public_uri

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


class BadImage(ValueError):
    """This one file cannot be used and never will be; the text is the reason in one line, without the file's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRef:
    """One image of a source.

    Attributes:
        key: stable name, unique in the source, such as `train_extra/troisdorf/troisdorf_000000_000073`.
        image: path of the image, relative to the source's root.
        labels: path of the raw-id label PNG of the asked kind, None when there is none.
        coarse: path of the raw-id label PNG of the polygons that were asked for, None when there is none.
        instances: path of the PNG with instance ids of the asked kind, None when there is none.
        made: where its labels made elsewhere are, relative to a root of their own; see `pipeline/imports/find.py`.
    """

    key: str
    image: str
    labels: str | None = None
    coarse: str | None = None
    instances: str | None = None
    made: tuple[str, ...] = ()


class ImageSource(Protocol):
    """A tree of images; picklable, and safe to use after a fork."""

    root: str

    def list(self, split: str, *, labels: str | None = None, coarse: str | None = None) -> list[ImageRef]:
        """The images of a split, or of several (`train,val`), sorted by key.

        Args:
            labels: label type of the files that `labels` and `instances` name, such as gtFine; None names none.
            coarse: label type of the polygons that `coarse` names, such as gtCoarse; None names none.
        """

    def has_label_type(self, kind: str) -> bool:
        """Whether labels of a type, such as gtCoarse, are there for any split."""

    def read(self, path: str) -> bytes:
        """The bytes of a path that a listing gave."""


def split_names(split: str) -> tuple[str, ...]:
    """The splits that a text such as `train` or `train,val` names."""
    return tuple(name.strip() for name in split.split(","))


class TreeSource:
    """What all readers share: a root on any filesystem, several splits at once, and reading below the root."""

    def __init__(self, root: str, storage_options: dict[str, Any] | None = None) -> None:
        self.files = FileRoot(root, dict(storage_options or {}))
        self.root = public_uri(root)

    def list(self, split: str = "", *, labels: str | None = None, coarse: str | None = None) -> list[ImageRef]:
        """The images of a split, or of several that commas part, sorted by key; `labels` None for those without a file.

        Raises:
            NotAStore: if a split has no images, or no labels at all of the asked type. Polygons may be missing.
            ValueError: if a name cannot be a split's or comes twice, the type is unknown, or two files claim one key.
        """
        refs = [ref for name in split_names(split) for ref in self.list_split(name, labels, coarse)]
        if len({ref.key for ref in refs}) < len(refs):
            raise ValueError(f"splits must be distinct; got {split!r}")
        return sorted(refs, key=lambda ref: ref.key)

    def list_split(self, split: str, labels: str | None, coarse: str | None) -> Sequence[ImageRef]:
        """The images of one split, in any order."""
        raise NotImplementedError

    def has_label_type(self, kind: str) -> bool:
        """Whether labels of a type are there for any split; layouts that hold fine labels alone have no other."""
        return kind == "gtFine"

    def read(self, path: str) -> bytes:
        """The bytes of one file.

        Raises:
            BadImage: if something else than a readable file stands at the path, or nothing any more; neither is a fault
                of the storage.
            OSError: if the storage fails, which is worth a second try.
        """
        try:
            return self.files.read(path)
        except IsADirectoryError:
            raise BadImage("a folder stands where an image file was expected") from None
        except NotAFile as error:
            raise BadImage(str(error)) from None
        except PermissionError:
            if not self.files.is_local:  # on object stores it is the credentials, which no image is to blame for
                raise
            raise BadImage("its file may not be read: permission denied") from None
        except FileNotFoundError:
            # An unmounted disk must not turn every image into a bad one.
            if not self.files.list_names():
                raise OSError(f"nothing is left below {self.root}; is its disk still mounted?") from None
            raise BadImage("the file was listed but is gone") from None


def image_stem(path: str) -> str | None:
    """The path without its image suffix; None for anything that is not named like a PNG or JPEG, or hidden."""
    stem, dot, suffix = path.rpartition(".")
    name = stem.rpartition("/")[2]
    return stem if name and not name.startswith(".") and (dot + suffix).lower() in IMAGE_SUFFIXES else None


def check_name(path: str) -> None:
    """Refuses a path that tables and JSON files cannot hold.

    Raises:
        BadImage: if bytes of it are not UTF-8.
    """
    if safe_key(path) != path:
        raise BadImage("its name is not UTF-8, and a manifest holds text alone; rename the file, or its folder")


def safe_key(path: str) -> str:
    """The path as a key that any table or JSON file can hold: bytes of a name that are not UTF-8 are escaped."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def insert_once(table: dict[str, str], key: str, path: str) -> None:
    """Adds key -> path.

    Raises:
        ValueError: if the key already has another path; which of the two is meant cannot be known.
    """
    if key in table:
        raise ValueError(f"two files claim the key {key}: {table[key]} and {path}; remove one of them")
    table[key] = path
