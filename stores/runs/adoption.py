"""Receipts that workers wrote but the driver never heard of, checked against their pixels before they count."""

import re

from hmsa_label.stores.errors import LabelCorrupt, StoreError
from hmsa_label.stores.files import FileRoot, join, list_names
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.arrays import ARRAYS
from hmsa_label.stores.format.chunks import decode_checked, digest_of
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.format.records import RECEIPT, parse_record
from hmsa_label.stores.parallel import map_threads

THREADS = 8  # reading is waiting, on object stores above all
RECEIPT_NAME = re.compile(r"[0-9]{1,15}\.json")


def find_receipts(
    root: FileRoot, run_id: str, *, known: set[tuple[str, int]], done: set[str], threads: int = THREADS
) -> list[Receipt]:
    """Sound receipts of a run, one per image, in the order of segment and row.

    Args:
        known: (segment, row) that the manifest holds already; these are not even read.
        done: keys that need no label any more.
    """
    places = [place for place in list_places(root, run_id) if place not in known]
    candidates: dict[str, Receipt] = {}
    for receipt in map_threads(lambda place: _read(root, *place), places, threads):
        if receipt is None or receipt.key in done:
            continue
        # Several rows of one image are rare (a retry), so only then is soundness asked for one by one.
        if receipt.key not in candidates or not is_sound(root, candidates[receipt.key]):
            candidates[receipt.key] = receipt
    found = list(candidates.values())
    sound = map_threads(lambda receipt: is_sound(root, receipt), found, threads)
    return [receipt for receipt, good in zip(found, sound, strict=True) if good]


def list_places(root: FileRoot, run_id: str) -> list[tuple[str, int]]:
    """(segment, row) of every receipt that a run wrote."""
    filesystem, path = root.open()
    places = []
    for segment in list_names(filesystem, join(path, layout.DATA)):
        if segment.startswith(f"{run_id}."):
            names = list_names(filesystem, join(path, layout.DATA, segment, "receipts"))
            rows = sorted(int(name.removesuffix(".json")) for name in names if RECEIPT_NAME.fullmatch(name))
            places += [(segment, row) for row in rows]
    return places


def is_sound(root: FileRoot, receipt: Receipt) -> bool:
    """Whether every array that a receipt names is there and has the digest it states."""
    size = (receipt.height, receipt.width)
    try:
        for array in receipt.arrays:
            data, dtype = root.read(receipt.path_of(array.name)), ARRAYS[array.name].dtype
            if digest_of(decode_checked(data, *size, dtype, chunk_digest=array.chunk_sha256)) != array.sha256:
                return False
    except (FileNotFoundError, StoreError):
        return False
    return True


def _read(root: FileRoot, segment: str, row: int) -> Receipt | None:
    """A receipt, or None if it is damaged; then its image is labeled again."""
    try:
        path = layout.receipt_path(segment, row)
        receipt = Receipt.from_dict(parse_record(root.read(path), RECEIPT, path))
    except (FileNotFoundError, LabelCorrupt):
        return None
    return receipt if (receipt.segment, receipt.row) == (segment, row) else None
