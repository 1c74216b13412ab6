"""Links of pages to documents outside docs/ that are pages here too, for readers of either."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LINK = re.compile(r"\[([^\]]+)\]\((?:\.\./)*(ARCHITECTURE|stores/FORMAT|benchmarks/results/\w+)\.md(?:#[\w-]+)?\)")
INCLUDED = re.compile(r"```{include} (\S+)\n```")
PAGES = {"ARCHITECTURE": "explanations/architecture", "stores/FORMAT": "reference/store_format"}


def linked(text: str) -> str:
    """The text with each such link as one to the page."""
    return LINK.sub(lambda found: f"{{doc}}`{found[1]} </{page_of(found[2])}>`", text)


def page_of(document: str) -> str:
    return PAGES.get(document) or document.removeprefix("benchmarks/")


def _rewrite(app: "Sphinx", name: str, source: list[str]) -> None:
    page = Path(str(app.env.doc2path(name)))
    for file in INCLUDED.findall(source[0]):
        app.env.note_dependency(str(page.parent / file), docname=name)
    source[0] = linked(INCLUDED.sub(lambda found: (page.parent / found[1]).read_text(), source[0]))


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("source-read", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
