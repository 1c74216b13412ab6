"""Lists the public library on the page of its reference: every name of `hmsa_label.__all__`, by kind."""

import dataclasses
import inspect
import re
import typing
from typing import TYPE_CHECKING, Any

import hmsa_label

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE, MARK = "reference/python", "<!-- the library -->"
ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?(?:numpy\.)?(\w+)\]\]")


KINDS = ("Functions", "Stores and data sets", "Settings", "Results", "Events", "Types", "Errors")


def kind(thing: Any) -> str:
    """The heading that a public name stands under."""
    if inspect.isroutine(thing):
        return "Functions"
    if not inspect.isclass(thing):
        return "Types"
    if issubclass(thing, Exception):
        return "Errors"
    if not dataclasses.is_dataclass(thing):
        return "Stores and data sets"
    room = thing.__module__.rpartition(".")[2]
    return {"config": "Settings", "events": "Events"}.get(room, "Results")


def page() -> str:
    """A section for each kind, with what autodoc makes of each name."""
    found: dict[str, list[str]] = {heading: [] for heading in KINDS}
    for name in sorted(set(hmsa_label.__all__) - {"__version__"}, key=str.lower):
        thing = getattr(hmsa_label, name)
        found[kind(thing)].append(entry(name, thing))
    return "\n\n".join(f"## {heading}\n\n" + "\n\n".join(names) for heading, names in found.items() if names)


def entry(name: str, thing: Any) -> str:
    """What autodoc is asked for; of an alias of several types, those."""
    if kind(thing) == "Types":
        return f"```{{py:type}} hmsa_label.{name}\n:canonical: {shown(thing)}\n```"
    directive = "autofunction" if inspect.isroutine(thing) else "autoclass"
    members = "" if inspect.isroutine(thing) else "   :members:\n"
    return f"```{{eval-rst}}\n.. {directive}:: hmsa_label.{name}\n{members}```"


def shown(alias: Any) -> str:
    return " | ".join(part.__name__ for part in typing.get_args(alias))


def _shorten(
    app: "Sphinx", what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Array types as they are written in the source: their shape is in the text."""
    return tuple(part and ARRAY.sub(r"NDArray[\1]", part) for part in (signature, returns))  # type: ignore[return-value]


def _keep_colon(app: "Sphinx", what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Napoleon takes what stands before a colon in a property's first line for its type."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " \u2013 ")


def _fill(app: "Sphinx", name: str, source: list[str]) -> None:
    if name == PAGE:
        assert MARK in source[0]
        source[0] = source[0].replace(MARK, page())


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("source-read", _fill)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-process-docstring", _keep_colon, priority=400)  # napoleon's is 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
