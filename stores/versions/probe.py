"""Does this storage keep its promise of create-if-absent? Every safety of the store rests on it.

Two of four S3 servers tried ignore the condition and one honors it without atomicity: there, two jobs overwrite
each other's commit and both report success. So a new store asks first: one creation twice, then rounds of concurrent
creators.
"""

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hmsa_label.stores.errors import UnsafeStorage
from hmsa_label.stores.files import FileRoot, create_bytes, delete_files, join, public_uri, read_bytes
from hmsa_label.stores.format.receipt import now

ROUNDS = 5
CREATORS = 8


def probe_storage(root: FileRoot, *, single_writer: bool = False) -> dict[str, Any]:
    """What was found: `ok`, `detail`, `rounds`, `creators`, `single_writer`, `time`; kept in the store's identity.

    `single_writer` accepts an unsafe storage on the user's word that never two processes write at a time.

    Raises:
        UnsafeStorage: if the storage is unsafe and `single_writer` is not given.
    """
    detail = _find_fault(root)
    if detail and not single_writer:
        raise UnsafeStorage(
            f"{public_uri(root.uri)} is not safe for a label store: {detail}. Use a local disk or an S3 server with "
            "conditional writes, or pass --single-writer if never two jobs write there at a time"
        )
    return {
        "ok": not detail,
        "detail": detail or "create-if-absent holds",
        "rounds": ROUNDS,
        "creators": CREATORS,
        "single_writer": single_writer,
        "time": now(),
    }


def _find_fault(root: FileRoot) -> str:
    """What is wrong with the storage, empty if nothing."""
    filesystem, path = root.open()
    folder = join(path, f".probe-{secrets.token_hex(4)}")
    try:
        return _sequential(filesystem, join(folder, "twice")) or _concurrent(filesystem, folder)
    finally:
        names = ["twice", *(f"round-{number}" for number in range(ROUNDS))]
        delete_files(filesystem, [join(folder, name) for name in names])
        if filesystem.isdir(folder):  # object stores know no folders, local disks do
            filesystem.rmdir(folder)


def _sequential(filesystem: Any, path: str) -> str:
    create_bytes(filesystem, path, b"first")
    if _creates(filesystem, path, b"second"):
        return "a second create of the same object succeeded, so one writer would overwrite another"
    if read_bytes(filesystem, path) != b"first":
        return "a refused create changed the object all the same"
    return ""


def _concurrent(filesystem: Any, folder: str) -> str:
    """Exactly one of several creators at once may win, and its bytes must be what is read."""
    with ThreadPoolExecutor(CREATORS) as pool:
        for number in range(ROUNDS):
            path = join(folder, f"round-{number}")
            bodies = [f"creator {creator}".encode() for creator in range(CREATORS)]
            won = list(pool.map(lambda body, path=path: _creates(filesystem, path, body), bodies))
            if sum(won) != 1:
                return f"{sum(won)} of {CREATORS} concurrent creators of one object were told that they had made it"
            if read_bytes(filesystem, path) != bodies[won.index(True)]:
                return "the object holds another creator's bytes than the one that was told it had made it"
    return ""


def _creates(filesystem: Any, path: str, data: bytes) -> bool:
    """Whether `data` is what was made."""
    try:
        create_bytes(filesystem, path, data)
    except FileExistsError:
        return False
    return True
