"""Errors of the storage layer, grouped by what a caller would do about them."""

# Network trouble of these packages is no OSError.
NETWORK_PACKAGES = ("aiobotocore", "aiohttp", "botocore", "urllib3")


def is_network_trouble(error: BaseException) -> bool:
    """Whether a package below s3fs could not reach its server, or was cut off."""
    return type(error).__module__.partition(".")[0] in NETWORK_PACKAGES


class StoreError(Exception):
    """Base of all storage errors; `kind` is stable and machine readable."""

    kind = "store_error"


class NotAStore(StoreError, FileNotFoundError):
    """There is no label store (or no image tree) at the given place."""

    kind = "not_a_store"

    __str__ = Exception.__str__


class NotAFile(StoreError):
    """Something stands where a file was expected that has no bytes of its own, such as a named pipe."""

    kind = "not_a_file"


class StoreConflict(StoreError):
    """Another writer or an incompatible run got there first; nothing was changed."""

    kind = "conflict"


class RunIsLive(StoreConflict):
    """Somebody else is at the run, and its work is not shared."""


class UnsafeStorage(StoreError):
    """The storage ignores or breaks create-if-absent, so two writers could destroy each other's work."""

    kind = "unsafe_storage"


class LabelMissing(StoreError, KeyError):
    """The version holds no label for this key, or an object that the manifest lists is gone."""

    kind = "label_missing"

    __str__ = Exception.__str__


class LabelCorrupt(StoreError, ValueError):
    """Stored bytes do not decode, or do not match the digest in the manifest."""

    kind = "label_corrupt"


class ThresholdNotStored(StoreError, ValueError):
    """The asked threshold is not on the grid that the evidence was stored for."""

    kind = "threshold_not_stored"
