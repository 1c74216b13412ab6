"""Values of a rule as people write them: text, YAML and JSON become numbers and names, or one line that says why not.

Each function takes what came from the command line, a settings file or Python. YAML reads `off` as false, so false is
`off` here.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hmsa_label.stores.location import Location

OFF = "off"  # takes away what a rule has; of a class threshold: no pixel of this class
POLYGON_MODES = (OFF, "trust", "add", "veto", "seen")
MAX_BORDER_PX = 2**15
MAX_FILE_BYTES = 2**24

ClassThresholds = dict[str, float | str]


def number(
    option: str, value: object, low: float, high: float, *, low_too: bool = True, high_too: bool = True
) -> float:
    """A number within bounds; text may also be a part such as 128/255, as stored thresholds are listed.

    Raises:
        ValueError: if it is none, or lies beyond.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{option} must be a number such as 0.9; got {value!r:.60}")
    try:
        found = _part(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"{option} must be a number such as 0.9; got {value!r:.60}") from None
    inside = (low <= found if low_too else low < found) and (found <= high if high_too else found < high)
    if math.isnan(found) or not inside:
        excluded = [f"{bound:g}" for bound, too in ((low, low_too), (high, high_too)) if not too]
        but = f", {' and '.join(excluded)} excluded" if excluded else ""
        raise ValueError(f"{option} must lie between {low:g} and {high:g}{but}; got {value}")
    return found


def _part(text: str) -> float:
    over, slash, under = text.partition("/")
    return int(over) / int(under) if slash else float(over)


def whole_number(option: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds, both included.

    Raises:
        ValueError: if it is none, or lies beyond.
    """
    found = number(option, value, low, high)
    if found != int(found):
        raise ValueError(f"{option} must be a whole number; got {value!r:.60}")
    return int(found)


def is_off(value: object) -> bool:
    """Whether a value is the word `off`."""
    return value is False or (isinstance(value, str) and value.strip().lower() == OFF)


def class_thresholds(option: str, value: object) -> ClassThresholds:
    """Thresholds by class, 0 <= t < 1 or `off`; empty for the word `off`.

    Args:
        value: a mapping, `road=0.9,pole=off`, or path or URL of a JSON file.

    Raises:
        ValueError: if it is nothing of these, a value is no threshold, or the file does not read.
        FileNotFoundError: there is no such file.
    """
    if is_off(value):
        return {}
    if isinstance(value, str | Path) and str(value).strip() and _is_file(str(value)):
        return _thresholds_of(option, _thresholds_in(option, value))
    return _thresholds_of(option, _pairs(option, value, "NAME=NUMBER such as road=0.9,pole=off, or a JSON file"))


def class_polygons(option: str, value: object) -> dict[str, str]:
    """What polygons may say, by class; empty for the word `off`.

    Raises:
        ValueError: if it is no mapping and no text such as `truck=seen,bus=seen`, or names no known mode.
    """
    if is_off(value):
        return {}
    pairs = _pairs(option, value, "NAME=MODE such as truck=seen,bus=seen")
    return {name: polygon_mode(f"{option}: {name}", mode) for name, mode in pairs.items()}


def polygon_mode(option: str, value: object) -> str:
    """A mode of polygons.

    Raises:
        ValueError: if there is no such mode.
    """
    mode = OFF if is_off(value) else value
    if mode not in POLYGON_MODES:
        raise ValueError(f"{option} must be one of {', '.join(POLYGON_MODES)}; got {value!r:.60}")
    return str(mode)


def border(option: str, value: object) -> tuple[int, int, int, int]:
    """Widths in pixels: top, right, bottom, left; all 0 for the word `off`.

    Raises:
        ValueError: if it is neither one whole number nor four.
    """
    if is_off(value):
        return 0, 0, 0, 0
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, list | tuple) else [parts]
    if len(parts) not in (1, 4):
        raise ValueError(
            f"{option} takes four widths in pixels (top, right, bottom, left) such as 15,18,184,14, or one for all; "
            f"got {value!r:.60}"
        )
    widths = [whole_number(option, part, 0, MAX_BORDER_PX) for part in parts]
    top, right, bottom, left = widths * (4 // len(widths))
    return top, right, bottom, left


def _is_file(text: str) -> bool:
    return "://" in text or text.lower().endswith(".json") or "=" not in text or Path(text).is_file()


def _pairs(option: str, value: object, form: str) -> dict[str, Any]:
    """Entries of a mapping, or of a text `name=value,name=value`."""
    if isinstance(value, Mapping):
        return {str(name): entry for name, entry in value.items()}
    parts = [part.rpartition("=") for part in value.split(",")] if isinstance(value, str) else []
    pairs = {name.strip(): entry.strip() for name, _, entry in parts}
    if not pairs or not all(name and entry for name, entry in pairs.items()):
        raise ValueError(f"{option} takes {form}; got {value!r:.60}")
    if len(pairs) < len(parts):
        names = [name.strip() for name, _, _ in parts]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{option} names {twice!r} twice; give each class once")
    return pairs


def _thresholds_of(option: str, pairs: Mapping[str, Any]) -> ClassThresholds:
    return {
        name: OFF if is_off(value) else number(f"{option}: {name}", value, 0, 1, high_too=False)
        for name, value in pairs.items()
    }


def _thresholds_in(option: str, place: Location) -> dict[str, Any]:
    """The class thresholds in a JSON file: those that a calibration holds, or the file is a plain object of them."""
    from hmsa_label.stores.files import open_filesystem, public_uri, read_bytes  # loads fsspec, which --help does not

    filesystem, path = open_filesystem(place)
    expected = f"{option}: {public_uri(place)} must be a JSON file of 'hmsa-label calibrate', or an object such as "
    expected += '{"road": 0.9, "pole": "off"}'
    if filesystem.isdir(path):  # as `calibrate` leaves it
        path = f"{path}/calibration.json"
    if not filesystem.exists(path):
        hint = "" if "." in str(place) or "/" in str(place) else "; a threshold of a class is written NAME=NUMBER"
        raise FileNotFoundError(f"{option}: there is no file {public_uri(place)}{hint}")
    body = read_bytes(filesystem, path)
    try:
        document = json.loads(body) if len(body) <= MAX_FILE_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected}; it does not read: {' '.join(str(error).split())}") from None
    if isinstance(document, dict) and ("kind" in document or "class_thresholds" in document):
        if not document.get("class_thresholds"):
            raise ValueError(f"{option}: {public_uri(place)} proposes no thresholds; calibrate with --target-precision")
        document = document["class_thresholds"]
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{expected}; it holds no thresholds")
    return document
