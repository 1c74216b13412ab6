"""Lists the public library on the page of its reference: every name of `hmsa_label.__all__`, by kind."""

import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any

import hmsa_label

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE, MARK = "reference/python", "<!-- the library -->"
ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?(?:numpy\.)?(\w+)\]\]")


def kind(thing: Any) -> str:
    """The heading that a public name stands under."""
    if inspect.isroutine(thing):
        return "Functions"
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return "Errors"
    return "Classes" if inspect.isclass(thing) and not dataclasses.is_dataclass(thing) else "Settings and results"


def page() -> str:
    """A section for each kind, with what autodoc makes of each name."""
    found: dict[str, list[str]] = {"Functions": [], "Classes": [], "Settings and results": [], "Errors": []}
    for name in sorted(set(hmsa_label.__all__) - {"__version__"}, key=str.lower):
        thing = getattr(hmsa_label, name)
        found[kind(thing)].append(entry(name, thing))
    return "\n\n".join(f"## {heading}\n\n" + "\n\n".join(names) for heading, names in found.items() if names)


def entry(name: str, thing: Any) -> str:
    directive = "autoclass" if inspect.isclass(thing) else "autofunction" if inspect.isroutine(thing) else "autodata"
    members = "   :members:\n" if inspect.isclass(thing) else ""
    return f"```{{eval-rst}}\n.. {directive}:: hmsa_label.{name}\n{members}```"


def _shorten(
    app: "Sphinx", what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Array types as they are written in the source: their shape is in the text."""
    return tuple(part and ARRAY.sub(r"NDArray[\1]", part) for part in (signature, returns))  # type: ignore[return-value]


def _fill(app: "Sphinx", name: str, source: list[str]) -> None:
    if name == PAGE:
        assert MARK in source[0]
        source[0] = source[0].replace(MARK, page())


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
