"""What a value in a stored record must be: small checks, put together as the record itself is.

A seal tells damage from what was written, not sense from nonsense: whoever writes a store can seal anything. So each
value is checked before code relies on it, and a message names the place in the record, what must be there and what is.
"""

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

MAX_DEPTH = 32  # of nested lists and objects; ours have six
MAX_COUNT = 2**53 - 1  # what every JSON reader holds exactly
FIRST_YEAR, LAST_YEAR = 1970, 9998  # any time zone of these years converts to any other

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 60, 60, 40
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Form(Protocol):
    """Says of a value what is wrong with it."""

    def fault(self, value: Any, place: str) -> str:
        """One line that begins with `place`; empty if nothing is wrong."""


@dataclass(frozen=True)
class Leaf:
    """A value without parts; `text` says what is expected."""

    text: str
    fits: Callable[[Any], bool]

    def fault(self, value: Any, place: str) -> str:
        return "" if self.fits(value) else f"{place} must be {self.text}; it is {_SHORT.repr(value)}"


@dataclass(frozen=True)
class Maybe:
    """Something or null."""

    form: Form

    def fault(self, value: Any, place: str) -> str:
        return "" if value is None else self.form.fault(value, place)


@dataclass(frozen=True)
class Each:
    """A list, every entry of one form."""

    form: Form
    longest: int | None = None

    def fault(self, value: Any, place: str) -> str:
        if not isinstance(value, list | tuple):
            return f"{place} must be a list; it is {_SHORT.repr(value)}"
        if self.longest is not None and len(value) > self.longest:
            return f"{place} must have at most {self.longest} entries; it has {len(value)}"
        return next((text for i, entry in enumerate(value) if (text := self.form.fault(entry, f"{place}[{i}]"))), "")


@dataclass(frozen=True)
class Pairs:
    """An object with any names of one form, every value of another."""

    name: Form
    form: Form
    longest: int

    def fault(self, value: Any, place: str) -> str:
        if not isinstance(value, Mapping):
            return f"{place} must be an object with fields; it is {_SHORT.repr(value)}"
        if len(value) > self.longest:
            return f"{place} must have at most {self.longest} entries; it has {len(value)}"
        names = (text for name in value if (text := self.name.fault(name, f"a name in {place}")))
        values = (text for name, one in value.items() if (text := self.form.fault(one, f"{place}.{name}")))
        return next(names, "") or next(values, "")


@dataclass(frozen=True)
class Record:
    """An object with certain fields; those that are not known may hold anything, as later versions add some."""

    required: Mapping[str, Form] = field(default_factory=dict)
    optional: Mapping[str, Form] = field(default_factory=dict)

    def fault(self, value: Any, place: str) -> str:
        if not isinstance(value, Mapping):
            return f"{place or 'it'} must be an object with fields; it is {_SHORT.repr(value)}"
        lost = next((name for name in self.required if name not in value), None)
        if lost is not None:
            return f"{place or 'it'} has no {lost!r}"
        known = {**self.required, **self.optional}
        start = f"{place}." if place else ""
        faults = (known[name].fault(value[name], start + name) for name in known if name in value)
        return next((text for text in faults if text), "")


def parse_json(body: bytes | str) -> Any:
    """The value in a JSON document, of modest depth and without what JSON has no word for (NaN, infinity).

    Raises:
        ValueError: saying why it does not read.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _refuse_odd(value)
    return value


def printable(value: Any) -> Any:
    """A JSON-able value as `parse_json` takes it: bytes of a file's name that are no UTF-8 are escaped in its texts."""
    if isinstance(value, dict):
        return {printable(name): printable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [printable(entry) for entry in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def is_plain_name(value: Any) -> bool:
    """Whether a value may be part of a path: letters, digits, `.`, `_` and `-`, the first a letter or digit."""
    return isinstance(value, str) and _PLAIN_NAME.fullmatch(value) is not None


def stays_below(path: str) -> bool:
    """Whether a relative path leads to something below the folder that it is joined to."""
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no number")


def _refuse_odd(value: Any) -> None:
    """Raises ValueError for what prints, encodes or converts to an error later on."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, dict):
                below += [*entry, *entry.values()]
            elif isinstance(entry, list):
                below += entry
            elif isinstance(entry, str):
                entry.encode()  # a lone surrogate is no text: a ValueError
            elif isinstance(entry, float) and not math.isfinite(entry):
                raise ValueError("it holds a number beyond all bounds")
        level = below


def _is_time(value: Any) -> bool:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return moment.tzinfo is not None and FIRST_YEAR <= moment.year <= LAST_YEAR


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def whole(low: int, high: int) -> Leaf:
    """A whole number within bounds, both included."""
    return Leaf(f"a whole number from {low} to {high}", lambda value: _is_int(value, low, high))


def one_of(*values: Any) -> Leaf:
    """One of a few values."""
    return Leaf(" or ".join(map(repr, values)), lambda value: any(value is v or value == v for v in values))


FLAG = Leaf("true or false", lambda value: isinstance(value, bool))
TEXT = Leaf("text", lambda value: isinstance(value, str))
KEY = Leaf("the key of an image", lambda value: isinstance(value, str) and bool(value) and "\0" not in value)
CAPTION = Leaf(
    "printable text of 1 to 200 characters",
    lambda value: isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200,
)
NAME = Leaf("a name of letters, digits, . _ - only", is_plain_name)
PATH = Leaf("a relative path that stays below its folder", lambda value: isinstance(value, str) and stays_below(value))
DIGEST = Leaf("a digest of 64 hexadecimal digits", lambda v: isinstance(v, str) and _DIGEST.fullmatch(v) is not None)
TIME = Leaf("a time with its zone, such as 2026-11-20T11:31:52Z", _is_time)
COUNT = whole(0, MAX_COUNT)
NUMBER = Leaf("a number", lambda value: _is_number(value, -1e300, 1e300))
SHARE = Leaf("a number from 0 to 1", lambda value: _is_number(value, 0, 1))
