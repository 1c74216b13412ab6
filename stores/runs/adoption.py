"""Receipts that workers wrote but the driver never heard of, checked against their pixels before they count."""

import re
from dataclasses import dataclass

from hmsa_label.stores.errors import LabelCorrupt, StoreError
from hmsa_label.stores.files import FileRoot, join, list_names
from hmsa_label.stores.format import schema
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
    for segment in list_names(filesystem, join(path, schema.DATA)):
        if segment.startswith(f"{run_id}."):
            names = list_names(filesystem, join(path, schema.DATA, segment, "receipts"))
            rows = sorted(int(name.removesuffix(".json")) for name in names if RECEIPT_NAME.fullmatch(name))
            places += [(segment, row) for row in rows]
    return places


def is_sound(root: FileRoot, receipt: Receipt) -> bool:
    """Whether every array that a receipt names is there and has the digest it states."""
    try:
        for array in arrays_of(receipt).values():
            data = root.read(array.path)
            pixels = schema.decode_checked(data, receipt.height, receipt.width, chunk_digest=array.chunk_sha256)
            if schema.digest_of(pixels) != array.sha256:
                return False
    except (FileNotFoundError, StoreError):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array of one image: its chunk object below the store, hex digests of its pixels and of the object."""

    path: str
    sha256: str
    chunk_sha256: str


def arrays_of(receipt: Receipt) -> dict[str, StoredArray]:
    """Arrays of an image, by name."""
    places = {schema.LABEL: (receipt.segment, receipt.row)}
    if receipt.evidence_segment is not None and receipt.evidence_row is not None:
        places |= dict.fromkeys(schema.EVIDENCE, (receipt.evidence_segment, receipt.evidence_row))
    return {
        name: StoredArray(
            path=schema.chunk_path(segment, receipt.height, receipt.width, name, row),
            sha256=str(getattr(receipt, f"{name}_sha256")),
            chunk_sha256=str(getattr(receipt, f"{name}_chunk_sha256")),
        )
        for name, (segment, row) in places.items()
    }


def _read(root: FileRoot, segment: str, row: int) -> Receipt | None:
    """A receipt, or None if it is damaged; then its image is labelled again."""
    try:
        path = schema.receipt_path(segment, row)
        receipt = Receipt.from_dict(parse_record(root.read(path), RECEIPT, path))
    except (FileNotFoundError, LabelCorrupt):
        return None
    return receipt if (receipt.segment, receipt.row) == (segment, row) else None
