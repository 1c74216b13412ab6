"""Damage drawn from a seed: to bytes, and to JSON-like values."""

import copy
import json
from random import Random
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 127, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**400,
    -(2**63), 0.5, -0.0, 1e-320, 1e30, 1e308, 1e309, -1e309, float("nan"),
)  # fmt: skip
TEXTS = (
    "", " ", ".", "..", "../../outside", "/etc/passwd", "a/b", "a\0b", "\ud800", "\x1b[31m", "x" * 5000, "null", "1",
    "NaN", "<script>", "|", "`", "2026-01-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "s3://x/y", "file:///etc/passwd", "{}", "%s", "\u2028", "ａ", "0x1p99999", "inf", "a" * 64, "0" * 64,
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [None], [[]], {"": None}, [[[[]]]], {"a": {"b": {}}})
DEEP = "deep \u2042"  # takes the place of a value that is nested too deep to be built; see `json_text`


def mutate_bytes(random: Random, body: bytes, other: bytes = b"") -> bytes:
    """One to four changes: bits, numbers, slices cut, doubled, moved in from `other`, or the end lost."""
    data = bytearray(body)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at = random.randrange(len(data) + 1)
        length = min(random.choice((1, 2, 4, 8, 16, 64, 400)), len(data) - at)
        kind = random.randrange(7)
        if kind == 0 and data:
            bit = random.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        elif kind == 1:
            width = random.choice((1, 2, 4, 8))
            number = random.choice((0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
            data[at : at + width] = (number % 256**width).to_bytes(width, random.choice(("little", "big")))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length] * random.choice((1, 1, 3, 50))
        elif kind == 4:
            data[at : at + length] = random.randbytes(length)
        elif kind == 5 and other:
            start = random.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        elif kind == 6:
            del data[at:]
    return bytes(data)


def mutate_value(random: Random, value: Any) -> Any:
    """A copy with one to three of its parts replaced, lost, doubled or renamed."""
    root = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        holder, key = random.choice(list(_places(root)))
        kind = random.randrange(8)
        if kind < 5:
            holder[key] = _odd(random, holder[key])
        elif kind == 5 and holder is not root:
            del holder[key]
        elif kind == 6 and isinstance(holder, dict):
            holder[random.choice(TEXTS)] = holder.pop(key)
        elif isinstance(holder, list) and holder is not root:
            holder[key:key] = [holder[key]] * random.choice((1, 2, 300))
    return root[0]


def json_text(value: Any) -> str:
    """JSON of a value; numbers beyond all bounds are spelled as such, and DEEP becomes 100,000 lists."""
    text = json.dumps(value)
    return text.replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)


def _odd(random: Random, value: Any) -> Any:
    kind = random.randrange(10)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 6:
        return random.choice(TEXTS)
    if kind < 8:
        return copy.deepcopy(random.choice(OTHERS))
    if kind == 8:
        nested: Any = value
        for _ in range(random.choice((1, 3, 40, 300))):
            nested = [nested] if random.random() < 0.5 else {"a": nested}
        return nested
    if isinstance(value, bool | int | float):
        return random.choice((value + 1, -value, value // 2, str(value), [value]))
    return random.choice((DEEP, str(value)[:200], [value], {"value": value}))


def _places(holder: Any) -> Any:
    """(container, key or index) of every part of a value."""
    entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
    for key, value in list(entries):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)
