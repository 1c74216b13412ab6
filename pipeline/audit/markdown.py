"""Text that comes from outside, put into Markdown so that it stays text: no markup, no HTML, no new line or cell."""

import re
from html import escape

_MARKS = re.compile(r"([\\`*\[\]|~])")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def text(value: object) -> str:
    """A value as running text or a table's cell."""
    return _MARKS.sub(r"\\\1", escape(_one_line(value), quote=False))


def code(value: object) -> str:
    """A value as a code span, whatever backticks it holds (CommonMark 0.31, section 6.1)."""
    line = _one_line(value) or " "
    fence = "`" * (1 + max(map(len, re.findall(r"`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _one_line(value: object) -> str:
    return _BREAKS.sub(" ", str(value)).strip()
