"""Which software labels and trains: libraries, and the commit of our own code."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "ray", "numpy", "pillow", "zarr", "numcodecs", "deltalake", "pyarrow", "fsspec", "s3fs")


def package_version() -> str:
    """Version of this package."""
    try:
        return version("hmsa-label")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def library_versions() -> dict[str, str | None]:
    """Versions of the libraries that labels depend on; None for one that is not installed."""

    def of(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {name: of(name) for name in LIBRARIES}


def git_state() -> dict[str, Any] | None:
    """Commit of the source tree that this code runs from, and whether it has changes; None if it is not one.

    A package installed below somebody else's repository is not tracked there, and has no state of its own.
    """
    here = Path(__file__).resolve()
    if _git(here, "ls-files", "--error-unmatch", here.name) is None:
        return None
    commit, changes = _git(here, "rev-parse", "HEAD"), _git(here, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changes)}


def _git(here: Path, *arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=here.parent, env=environment, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
