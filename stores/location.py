"""Where something lies: a path or a URL, as text or as a `Path`."""

import re
from pathlib import Path

Location = str | Path

# What is left of `s3://bucket` in a Path, which joins double slashes.
_LOST_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")


def location_text(location: Location) -> str:
    """The path or URL as text.

    Raises:
        ValueError: for a URL that was made a Path, which has lost a slash.
    """
    text = str(location)
    if isinstance(location, Path) and _LOST_SLASH.match(text):
        raise ValueError(f"{text} was a URL before it became a Path; give a URL as text")
    return text


def keep_as_text(settings: object, *fields: str) -> None:
    """Turns Paths in fields of a frozen dataclass into text, so that settings compare and are recorded alike."""
    for name in fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            object.__setattr__(settings, name, location_text(value))
