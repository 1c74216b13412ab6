"""The Python in the README runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_readme_shows_how_to_read_a_store_from_python():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs_beside_a_store_called_labels(block, labelled_tree, monkeypatch):
    monkeypatch.chdir(labelled_tree)
    exec(compile(block.replace("/data/cityscapes", str(labelled_tree)), str(README), "exec"), {})
