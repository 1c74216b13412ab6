"""Files of a local disk: whole or not there, and on the disk before anybody is told so."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

PARTIAL_SUFFIX = ".partial"  # left behind only by a crash; nothing ever reads such a file


def create_file(path: str, data: bytes, sync_folder: bool) -> None:
    """Writes a file that must not exist yet.

    Args:
        sync_folder: flush the file's name, too.

    Raises:
        FileExistsError: if something is at the path already.
    """
    folder = os.path.dirname(path)
    new_folders = _make_folders(folder)
    with _partial(path, data) as partial:
        os.link(partial, path)
    for changed in [folder, *new_folders] if sync_folder else []:
        sync(changed)


def replace_file(path: str, data: bytes) -> None:
    """Writes a file in place of whatever was there."""
    _make_folders(os.path.dirname(path))
    with _partial(path, data) as partial:
        os.replace(partial, path)


def sync(path: str) -> None:
    """Flushes a file or folder to the disk, where the filesystem knows such a thing as a folder's flush."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _partial(path: str, data: bytes) -> Iterator[str]:
    """Path of a fresh file beside `path` that holds `data` and has reached the disk; gone afterwards, come what may."""
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        with contextlib.suppress(OSError):  # moved to its place, or never made; what counts is the error before
            os.unlink(partial)


def _make_folders(folder: str) -> list[str]:
    """Makes a folder and those above it; the folders that hold the new names."""
    missing = []
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    if missing:
        os.makedirs(missing[0], exist_ok=True)
    return [os.path.dirname(path) for path in missing]
