"""Weights files on disk or at a URL, as bytes."""

import hashlib

from hmsa_label.labelers.base import WeightsFile
from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes
from hmsa_label.stores.location import Location


def read_weights(uri: Location) -> bytes:
    """The bytes of a weights file at a path or URL.

    Raises:
        FileNotFoundError: there is none; the message says how to get one.
    """
    filesystem, path = open_filesystem(uri)
    try:
        return read_bytes(filesystem, path)
    except IsADirectoryError:
        place = public_uri(uri)
        raise ValueError(
            f"the weights {place} are a folder; name a file in it, such as {place}/best.safetensors"
        ) from None
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no weights file at {public_uri(uri)}; train one with 'hmsa-label train-teacher', or correct --weights"
        ) from error


def open_weights(uri: Location | None) -> tuple[WeightsFile | None, str | None]:
    """(the file, hex sha256 of its bytes) for a labeler to read; None twice for a teacher without one.

    Raises:
        FileNotFoundError, ValueError: as `read_weights`.
    """
    if uri is None:
        return None, None
    data = read_weights(uri)
    return WeightsFile(data, public_uri(uri)), hashlib.sha256(data).hexdigest()
