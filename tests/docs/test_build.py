"""The documents build without a warning, and every link in them leads somewhere."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.docs.pages import ROOT


class Anchors(HTMLParser):
    """Links and places of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = {""}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places.add(found.get("id", ""))
        if tag in ("a", "img"):
            self.links.add(found.get("href", found.get("src", "")))


@pytest.mark.slow
def test_documents_build_without_a_warning_and_no_link_is_dead(tmp_path):
    pytest.importorskip("furo", reason="the documents are built with the extra 'docs'")
    options = ["-b", "html", "-W", "--keep-going", "-q", "-d", str(tmp_path / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (built.returncode, built.stderr) == (0, "")
    pages = {page: anchors(page) for page in (tmp_path / "html").rglob("*.html")}
    assert len(pages) > 20
    dead = [(page.name, link) for page, found in pages.items() for link in found.links if not leads(page, link, pages)]
    assert dead == []


def anchors(page: Path) -> Anchors:
    found = Anchors()
    found.feed(page.read_text())
    return found


def leads(page: Path, link: str, pages: dict[Path, Anchors]) -> bool:
    """Whether a link of a page leads to a file that was built and, if it names one, to a place in it."""
    if link.startswith(("http:", "https:", "data:")):
        return True
    file, _, place = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return target.exists() and (target not in pages or place in pages[target].places)
