"""Are the images that were labeled still the same files?"""

import hashlib

from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.receipt import Receipt


def check_source(root: FileRoot, receipt: Receipt) -> tuple[str, str] | None:
    """(kind, detail) of what is wrong with an image's file; None if it is the one that was labeled."""
    if receipt.source_sha256 is None:
        return None
    try:
        data = root.read(receipt.source)
    except (FileNotFoundError, IsADirectoryError):
        return "source_missing", f"there is no image {receipt.source} below the data root"
    if hashlib.sha256(data).hexdigest() != receipt.source_sha256:
        return "source_changed", f"{receipt.source} is not the file that was labeled ({len(data)} bytes now)"
    return None
