"""JSON that carries a digest of itself, so that damage is told from what was written."""

import hashlib
import json
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt
from hmsa_label.stores.format.forms import parse_json, printable

CHECK = "check"


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a digest of itself."""
    plain: dict[str, Any] = printable(document)
    return {**plain, CHECK: _digest_of(plain)}


def is_whole(document: Any) -> bool:
    """Whether a document is what was sealed."""
    return isinstance(document, dict) and document.get(CHECK) == _digest_of(document)


def to_bytes(document: dict[str, Any]) -> bytes:
    """A sealed document as a file."""
    return (json.dumps(seal(document), indent=2, sort_keys=True) + "\n").encode()


def from_bytes(body: bytes, path: str) -> dict[str, Any]:
    """The document in a file, without its seal.

    Raises:
        LabelCorrupt: naming the file, if it does not read or is not what was written.
    """
    try:
        document = parse_json(body)
    except ValueError as error:
        raise LabelCorrupt(f"{path} does not read: {error}") from None
    if not is_whole(document):
        raise LabelCorrupt(f"{path} is not what was written")
    return {name: value for name, value in document.items() if name != CHECK}


def _digest_of(document: dict[str, Any]) -> str:
    """Hex sha256 of a document without its seal, whatever the order of its fields."""
    plain = {name: value for name, value in document.items() if name != CHECK}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
