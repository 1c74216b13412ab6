"""Every page does what it says: its commands and its Python run from top to bottom."""

import pytest

from tests.docs.pages import pages

# Pages that are followed in each run of the plain suite, some seconds together; the others with `-m slow`.
ALWAYS = ("README.md", "docs/guides/label.md", "docs/reference/settings.md")


PAGES = [
    pytest.param(page, id=str(page), marks=() if str(page) in ALWAYS else pytest.mark.slow)
    for page in pages()
    if any(block.kind in ("sh", "console", "python") for block in page.blocks)
]


@pytest.mark.parametrize("page", PAGES)
def test_page_runs_from_top_to_bottom(page, follow):
    follow(page)
