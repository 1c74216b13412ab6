"""Bytes on any fsspec filesystem: open, list, read, create, replace; the one home of fsspec.

Everything is addressed as (filesystem, path), so that a local folder, `s3://` and `memory://` go through the same code.
"""

import contextlib
import errno
import os
import random
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hmsa_label.stores import disk
from hmsa_label.stores.credentials import hide_in_text, refuse_in_url
from hmsa_label.stores.errors import NotAFile, NotAStore
from hmsa_label.stores.location import Location, location_text

# One GET per object instead of HEAD + ranged GETs, and no listing that another writer made stale.
S3_DEFAULTS: dict[str, Any] = {"max_concurrency": 1, "use_listings_cache": False}
CREATE_ATTEMPTS = 8
# Names of files that only a crash leaves: ours, those of the storage probe, and delta-rs' own (`<name>#<number>`).
LEFT_OVER = re.compile(r"(^|/)(\.[^/]+\.partial|\.probe-[^/]+/[^/]+|[^/]+#\d+)$")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing under a listed folder; `path` is as the filesystem spells it."""

    path: str
    is_directory: bool


def open_filesystem(uri: Location, storage_options: dict[str, Any] | None = None) -> tuple[Any, str]:
    """The filesystem behind a path or URL, and the path in its own spelling without a trailing slash.

    Local paths become absolute, because workers run in other folders. `AWS_ENDPOINT_URL` is honored by S3.

    Raises:
        ValueError: if no filesystem is known for the URL, or its package is not installed.
    """
    uri = location_text(uri)
    if not uri:
        raise ValueError("an empty path was given; expected a folder or a URL such as s3://bucket/folder")
    refuse_in_url(uri)
    options = dict(storage_options or {})
    if uri.startswith(("s3://", "s3a://")):
        options = {**S3_DEFAULTS, **_s3_endpoint(options), **options}
    try:
        filesystem, path = fsspec.core.url_to_fs(os.path.expanduser(uri), **options)
    except (ValueError, ImportError) as error:
        raise ValueError(f"cannot open {public_uri(uri)}: {error}") from error
    return filesystem, str(path).rstrip("/") or "/"


def _s3_endpoint(options: dict[str, Any]) -> dict[str, str]:
    """The endpoint of the environment as an option, unless one is given.

    s3fs would read it too, but once: it keeps one connection for equal options, whatever the environment says later.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    given = options.get("endpoint_url") or dict(options.get("client_kwargs") or {}).get("endpoint_url")
    return {"endpoint_url": endpoint} if endpoint and not given else {}


def public_uri(uri: Location) -> str:
    """The URL without user, password and query, fit for messages and provenance; local paths become absolute."""
    uri = location_text(uri)
    if "://" not in uri:
        return os.path.abspath(os.path.expanduser(uri))
    parts = urlsplit(hide_in_text(uri))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")).rstrip("/")


def join(*parts: str) -> str:
    """Path parts joined by single slashes; empty parts are skipped."""
    first, *rest = [part for part in parts if part] or [""]
    return "/".join([first.rstrip("/"), *(part.strip("/") for part in rest)])


def read_bytes(filesystem: Any, path: str) -> bytes:
    """The content of one file.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        IsADirectoryError: if a folder stands where a file was expected.
    """
    try:
        if isinstance(filesystem, LocalFileSystem):  # a quarter of the time that fsspec's own layers take
            with open(path, "rb") as file:
                return file.read()
        return bytes(filesystem.cat_file(path))
    except FileNotFoundError:
        # Object stores know no folders: a prefix with something below it answers "not found" as well.
        if filesystem.isdir(path):
            raise IsADirectoryError(f"{path} is a folder, not a file") from None
        raise FileNotFoundError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder, not a file") from None


def _refuse_special(path: str) -> None:
    """Raises NotAFile for what opening would wait for or fail on: pipes, sockets, devices and links in a circle."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotAFile(f"{path} is a link that leads to itself") from None
        return  # reading it says what is wrong
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        raise NotAFile(f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def list_tree(filesystem: Any, folder: str) -> list[Entry]:
    """Files and folders at any depth below `folder`, sorted by path; empty when there is no such folder.

    On object stores this is one flat listing (a request per 1,000 objects), never a request per file.
    """
    if isinstance(filesystem, LocalFileSystem):
        entries = list(_walk_local(folder, frozenset()))
    else:
        try:
            found = filesystem.find(folder, withdirs=True, detail=True)
        except FileNotFoundError:
            return []
        entries = [
            Entry(path=path.rstrip("/"), is_directory=info["type"] == "directory") for path, info in found.items()
        ]
    return sorted((entry for entry in entries if entry.path != folder.rstrip("/")), key=lambda entry: entry.path)


def _walk_local(folder: str, above: frozenset[str]) -> Iterator[Entry]:
    """Entries below a local folder. Links are followed (data sets are often linked together), loops are not."""
    real = os.path.realpath(folder)
    if real in above or not os.path.isdir(folder):
        return
    with os.scandir(folder) as found:
        for item in found:
            path, is_directory = join(folder, item.name), _is_directory(item)
            yield Entry(path=path, is_directory=is_directory)
            if is_directory:
                yield from _walk_local(path, above | {real})


def _is_directory(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself; reading it tells
        return False


def list_names(filesystem: Any, folder: str) -> list[str]:
    """Sorted names directly inside a folder; empty when there is no such folder."""
    try:
        found = filesystem.ls(folder, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted({path.rstrip("/").rpartition("/")[2] for path in found} - {folder.rpartition("/")[2]})


@dataclass
class FileRoot:
    """A folder on any filesystem, addressed by relative paths; opens lazily in each process.

    Picklable and safe after a fork: s3fs connections belong to the process that opened them.
    """

    uri: str
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    _opened: tuple[int, Any, str] | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if "://" not in self.uri and self.uri:
            self.uri = os.path.abspath(os.path.expanduser(self.uri))

    def __getstate__(self) -> dict[str, Any]:
        return {"uri": self.uri, "storage_options": self.storage_options, "_opened": None}

    def open(self) -> tuple[Any, str]:
        """This process's filesystem and the root's path on it."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *open_filesystem(self.uri, self.storage_options))
        return self._opened[1], self._opened[2]

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder of this machine, where a file that was written may not be on the disk yet."""
        return isinstance(self.open()[0], LocalFileSystem)

    def read(self, path: str) -> bytes:
        """The bytes of one file below the root.

        Raises:
            NotAFile: if something else stands there that never ends or cannot be opened, such as a pipe.
        """
        filesystem, root = self.open()
        place = join(root, path)
        if self.is_local:
            _refuse_special(place)
        return read_bytes(filesystem, place)

    def list_tree(self, folder: str = "") -> list[Entry]:
        """As `list_tree`, with paths relative to the root."""
        filesystem, root = self.open()
        entries = list_tree(filesystem, join(root, folder))
        start = len(root.rstrip("/")) + 1
        return [Entry(path=entry.path[start:], is_directory=entry.is_directory) for entry in entries]

    def list_names(self, folder: str = "") -> list[str]:
        """As `list_names`, for a folder below the root."""
        filesystem, root = self.open()
        return list_names(filesystem, join(root, folder))

    def require(self) -> None:
        """Refuses a root that does not exist or is no folder.

        Raises:
            NotAStore: naming the root.
        """
        filesystem, root = self.open()
        if not filesystem.isdir(root):
            what = "does not exist; correct --data"
            if filesystem.isfile(root):
                what = "is a file, not a folder; name the folder that holds it"
            raise NotAStore(f"the data root {public_uri(self.uri)} {what}")


def create_bytes(filesystem: Any, path: str, data: bytes, *, sync_folder: bool = True) -> None:
    """Writes a file that must not exist yet; whole or not at all, and at most one of several contents wins.

    Local: a temporary file, flushed to the disk, then a hard link, which fails if the name is taken. Object stores:
    a PUT under the condition that nothing is there (`If-None-Match: *`).

    The same bytes at the path count as this very write: a request whose answer was lost on the way is sent again, and
    is refused although it succeeded. So creators that must know which of them won write bytes of their own.

    Args:
        sync_folder: flush the file's name to the disk, too. Whoever writes many files flushes their folder once.

    Raises:
        FileExistsError: if other bytes are at the path already.
        OSError: naming the path, if the storage is full, read-only or away; nothing is left behind then.
    """
    try:
        with _naming(path):
            if isinstance(filesystem, LocalFileSystem):
                disk.create_file(path, data, sync_folder)
            else:
                _put_if_absent(filesystem, path, data)
    except FileExistsError:
        if not _holds(filesystem, path, data):
            raise


def _holds(filesystem: Any, path: str, data: bytes) -> bool:
    """Whether exactly these bytes are at a path."""
    try:
        return read_bytes(filesystem, path) == data
    except (FileNotFoundError, IsADirectoryError):
        return False


def _put_if_absent(filesystem: Any, path: str, data: bytes) -> None:
    for attempt in range(CREATE_ATTEMPTS):
        try:
            filesystem.pipe_file(path, data, mode="create")
            return
        except OSError as error:
            reason = _service_code(error)
            if isinstance(error, FileExistsError) or reason == "PreconditionFailed":
                raise FileExistsError(f"there is a file at {path} already") from None
            # S3 answers 409 when two creators race: neither has won yet, so the question is asked again.
            if reason != "ConditionalRequestConflict" or attempt == CREATE_ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0, 0.05 * 2**attempt))


def copy_on_server(filesystem: Any, source: str, target: str) -> bool:
    """Puts a file at a second path of one object storage without moving its bytes to this machine.

    Never by a hard link on a disk: a write to one of the two names would change the other one as well.

    Returns:
        False if the filesystem cannot, as on disks; nothing is written then.
    """
    if isinstance(filesystem, LocalFileSystem):
        return False
    try:
        filesystem.cp_file(source, target)
    except (OSError, NotImplementedError):
        return False
    return True


def _service_code(error: BaseException) -> str:
    """Error code in the object store's own words, empty if the error did not come from one."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def replace_bytes(filesystem: Any, path: str, data: bytes) -> None:
    """Writes a file, in place of whatever was there; a reader sees the old bytes or the new ones, never a mix."""
    with _naming(path):
        if isinstance(filesystem, LocalFileSystem):
            disk.replace_file(path, data)
        else:
            filesystem.pipe_file(path, data)


def sync_file(filesystem: Any, path: str) -> None:
    """Flushes a file or folder, and its name in the folder above, to the disk; on object stores they are there."""
    if isinstance(filesystem, LocalFileSystem):
        disk.sync(path)
        disk.sync(os.path.dirname(path))


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Makes errors of writing name the file: the system leaves it out where the disk is full."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno is None:
            raise OSError(f"cannot write {path}: {error}") from error
        raise OSError(error.errno, f"cannot write, {error.strerror}", path) from error


def refuse_full_or_read_only(filesystem: Any, folder: str) -> None:
    """Raises what a write into a folder would, if that can be told beforehand: on a local disk alone.

    Raises:
        OSError: if the disk is full, or may not be written.
    """
    if not isinstance(filesystem, LocalFileSystem) or not os.path.isdir(folder):
        return
    space = os.statvfs(folder)
    if space.f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
    free = space.f_bfree if os.geteuid() == 0 else space.f_bavail  # the last blocks of a disk are root's
    if space.f_blocks and not free:  # a filesystem of no blocks does not count them
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A file's size, and when it was last written in seconds since 1970; None where the filesystem does not say."""

    size_bytes: int
    written_at: float | None


def list_infos(filesystem: Any, folder: str) -> dict[str, FileInfo]:
    """What is known of every file at any depth below `folder`, by path; empty when there is no such folder."""
    try:
        found = filesystem.find(folder, detail=True)
    except FileNotFoundError:
        return {}
    return {
        path: FileInfo(size_bytes=int(info["size"]), written_at=_written_at(info))
        for path, info in found.items()
        if info["type"] == "file"
    }


def _written_at(info: dict[str, Any]) -> float | None:
    """Disks tell seconds, S3 a date."""
    time = info.get("mtime", info.get("LastModified"))
    return time.timestamp() if isinstance(time, datetime) else time


def list_sizes(filesystem: Any, folder: str) -> dict[str, int]:
    """Size in bytes of every file at any depth below `folder`, by path; empty when there is no such folder."""
    return {path: info.size_bytes for path, info in list_infos(filesystem, folder).items()}


def delete_files(filesystem: Any, paths: list[str]) -> None:
    """Deletes files; one that is gone already is no error."""
    if len(paths) > 1 and "s3" in getattr(filesystem, "protocol", ()):
        filesystem.rm(paths)  # a request per 1,000 objects
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(path)
