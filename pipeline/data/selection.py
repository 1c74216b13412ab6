"""Which images of a listing a run is about: those whose keys are named, or match a pattern."""

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes
from hmsa_label.stores.images.source import ImageRef

MOST_NAMED = 5
PATTERN = frozenset("*?[")


def select_images(images: Sequence[ImageRef], wanted: Sequence[str]) -> list[ImageRef]:
    """The images that are wanted, in the order of the listing; all of them if nothing is asked for.

    Args:
        wanted: keys, patterns such as `*/troisdorf_*`, or `@FILE`: a path or URL of a text file with one per line.

    Raises:
        ValueError: naming those that match no image.
        OSError: if the file cannot be read.
    """
    if not wanted:
        return list(images)
    keys, chosen, unknown = {image.key for image in images}, set[str](), []
    for name in _names(wanted):
        found = {name} & keys or (_matching(name, keys) if PATTERN & set(name) else set())
        chosen |= found
        if not found:
            unknown.append(name)
    if unknown:
        raise ValueError(_unknown(unknown, keys))
    return [image for image in images if image.key in chosen]


def _names(wanted: Iterable[str]) -> list[str]:
    names: list[str] = []
    for name in wanted:
        if not name.startswith("@"):
            names.append(name)
            continue
        try:
            lines = read_bytes(*open_filesystem(name[1:])).decode().splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"{public_uri(name[1:])} is not a text file with a name per line") from None
        names += [line.strip() for line in lines if line.strip()]
    return names


def _matching(pattern: str, keys: set[str]) -> set[str]:
    return {key for key in keys if fnmatchcase(key, pattern)}


def _unknown(unknown: list[str], keys: set[str]) -> str:
    listed = ", ".join(map(repr, unknown[:MOST_NAMED]))
    listed += f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
    near = difflib.get_close_matches(unknown[0], sorted(keys), 1) or sorted(keys)[:1]
    return f"no image is called {listed}; of {len(keys)} images one is {near[0]!r}. Names are keys, or patterns with *"
