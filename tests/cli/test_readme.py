"""The README is a first screen and a half, not a manual. tests/docs/ runs its blocks."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_readme_is_read_at_one_sitting():
    assert len(README.read_text().splitlines()) <= 110


def test_picture_of_the_readme_is_small():
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert links
    assert [link for link in links if (README.parent / link).stat().st_size > 300_000] == []
