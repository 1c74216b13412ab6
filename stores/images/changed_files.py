"""Which images are not the files any more that were looked at: by size first, and by digest where sizes agree."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fsspec.implementations.local import LocalFileSystem

from hmsa_label.stores.files import FileRoot, join, list_sizes
from hmsa_label.stores.parallel import map_threads

THREADS = 16  # reading is waiting
ASKED_ONE_BY_ONE = 100  # up to so many sizes are cheaper to ask for than a listing of the whole tree


@dataclass(frozen=True, kw_only=True)
class SourceState:
    """What an image's file was when it was read; `path` is relative to the data root, unknown facts are None."""

    key: str
    path: str
    size_bytes: int | None
    sha256: str | None


def changed_sources(
    root: FileRoot, states: Iterable[SourceState], read: Callable[[str], bytes] | None = None
) -> set[str]:
    """Keys of the images whose files hold other bytes now, or are gone.

    Costs a listing with sizes, and a read of every file whose size is what it was.

    Args:
        read: gives the bytes of a path below the root, if it shall be done otherwise than by `root.read`.

    Raises:
        OSError: if the storage fails.
    """
    states = list(states)
    sizes = _sizes(root, [state.path for state in states])
    same_size = [state for state in states if state.size_bytes in (None, sizes.get(state.path))]
    read = read or root.read
    digests = map_threads(lambda state: _sha256(read, state.path), same_size, THREADS)
    unchanged = {state.key for state, digest in zip(same_size, digests, strict=True) if digest == state.sha256}
    return {state.key for state in states} - unchanged


def _sizes(root: FileRoot, paths: list[str]) -> dict[str, int]:
    """Size in bytes of each file that is there."""
    filesystem, top = root.open()
    if isinstance(filesystem, LocalFileSystem) or len(paths) <= ASKED_ONE_BY_ONE:

        def size_of(path: str) -> int | None:
            with contextlib.suppress(FileNotFoundError):
                return int(filesystem.size(join(top, path)))
            return None

        found = zip(paths, map_threads(size_of, paths, THREADS), strict=True)
        return {path: size for path, size in found if size is not None}
    folder = join(top, os.path.commonpath([os.path.dirname(path) for path in paths]))
    return {path[len(top) + 1 :]: size for path, size in list_sizes(filesystem, folder).items()}


def _sha256(read: Callable[[str], bytes], path: str) -> str | None:
    try:
        return hashlib.sha256(read(path)).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
