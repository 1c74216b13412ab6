"""Where an export goes: an empty place, or one where the very same export was interrupted."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeVar

from hmsa_label.stores.files import (
    LEFT_OVER,
    FileRoot,
    create_bytes,
    delete_files,
    join,
    list_infos,
    list_names,
    public_uri,
)
from hmsa_label.stores.format.forms import is_plain_name
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.label_store import LabelStore

T = TypeVar("T")
Progress = Callable[[int, int], None]
UNFINISHED = "UNFINISHED.json"  # there from the beginning of an export to its end: what is being exported


@dataclass(frozen=True, kw_only=True)
class Exported(Result):
    """What an export wrote: `files` objects under `destination`, for `images` images of `version`.

    Attributes:
        left_out: what the version holds and the files do not, in words.
    """

    destination: str
    version: int
    digest: str
    images: int
    files: int
    left_out: str = ""


@dataclass(kw_only=True)
class Destination:
    """A place that is being filled with a version.

    Attributes:
        left_over: half-written files of an attempt that was killed.
    """

    store: LabelStore
    root: FileRoot
    left_over: list[str] = field(default_factory=list)

    @classmethod
    def begin(
        cls, store: LabelStore, uri: str, storage_options: dict[str, Any] | None, asked: dict[str, Any]
    ) -> "Destination":
        """A place with a note of what is being exported.

        Args:
            asked: what tells this export from others of the same version.

        Raises:
            ValueError: if the place holds more than that very export.
        """
        root = FileRoot(uri, dict(storage_options or {}))
        filesystem, path = root.open()
        note = {"store": store.identity.uuid, "version": store.version, "digest": store.digest, **asked}
        body = (json.dumps(note, indent=2, sort_keys=True) + "\n").encode()
        names = list_names(filesystem, path)
        whole = [name for name in names if not LEFT_OVER.search(name)]  # a kill may have come before the note was there
        if whole and UNFINISHED not in whole:
            raise ValueError(f"{public_uri(uri)} is not empty; export into a new folder")
        try:
            create_bytes(filesystem, join(path, UNFINISHED), body)
        except FileExistsError:
            raise ValueError(
                f"{public_uri(uri)} holds another export that was not finished, {UNFINISHED} says which; "
                "export into a new folder"
            ) from None
        left_over = [entry for entry in list_infos(filesystem, path) if LEFT_OVER.search(entry)] if names else []
        return cls(store=store, root=root, left_over=left_over)

    def put(self, path: str, data: bytes) -> None:
        """Writes one file, below the destination."""
        filesystem, start = self.root.open()
        create_bytes(filesystem, join(start, path), data)

    def fill(self, put_image: Callable[[str], T], threads: int, on_image: Progress | None) -> list[T]:
        """Calls `put_image` with each key; its results, in the order of the keys."""
        results = []
        for number, result in enumerate(map_threads(put_image, self.store.keys(), threads), 1):
            results.append(result)
            if on_image:
                on_image(number, len(self.store))
        return results

    def end(self, files: int, left_out: str) -> Exported:
        """Takes the note away; what was exported, as `files` objects, and what was not."""
        filesystem, path = self.root.open()
        delete_files(filesystem, self.left_over)
        delete_files(filesystem, [join(path, UNFINISHED)])
        return Exported(
            destination=public_uri(self.root.uri),
            version=self.store.version,
            digest=self.store.digest,
            images=len(self.store),
            files=files,
            left_out=left_out,
        )


def require_plain_name(name: str) -> None:
    """Refuses a label type that cannot be a part of file names."""
    if not is_plain_name(name):
        raise ValueError(f"--name becomes a folder and part of file names: letters, digits, . _ - only; got {name!r}")


def refuse_outside(store: LabelStore) -> None:
    """Refuses a version with a key that would lead outside of the destination."""
    for key in store:
        parts = PurePosixPath(key).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"the key {key!r} would be written outside of the destination")
