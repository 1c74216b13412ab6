"""hmsa-label: weakly labelled driving images into versioned, auditable training data."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hmsa-label")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
