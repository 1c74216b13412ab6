"""The table of arrays: what it says is what FORMAT.md says, and an array more is one row more."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.arrays import ARRAYS, Array
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore

ROOT = Path(__file__).resolve().parents[3]
FORMAT = (ROOT / "stores/FORMAT.md").read_text()
# The rows are added before anything is derived from the table, just as if they stood in it.
CHILD = """
import json, sys
import tests.stores.format.new_rows
from tests.stores.format.extended import look
print(json.dumps(look(*sys.argv[1:])))
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.exists() else None) as place:
        yield Path(place)


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    """What a process saw whose table has `second_class` (uint8) and `depth` (int32) as well."""
    words = [sys.executable, "-c", CHILD, str(folder / "labels.zarr"), str(folder / "dense.zarr")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_row_more_is_written_and_read(seen: dict[str, Any]) -> None:
    assert seen["read"]
    assert seen["types"] == {
        **dict.fromkeys(("label", "top1", "code", "second_class"), "uint8"),
        "instance": "uint16",
        "depth": "int32",
    }


def test_a_row_more_has_its_columns_in_the_manifest(seen: dict[str, Any]) -> None:
    parts = ("sha256", "chunk_sha256", "bytes")
    assert seen["columns"] == [f"{name}_{part}" for name in ("second_class", "depth") for part in parts]
    assert seen["evidence_bytes"] == sum(size for name, size in seen["bytes"].items() if name != "label")


def test_a_row_more_is_refused_where_the_table_does_not_allow_it(seen: dict[str, Any]) -> None:
    negative, other_type, no_class, alone = seen["refused"]
    assert "depth: it holds -26810000, which is no depth; expected 0 and above" in negative
    assert "depth must be int32 [H, W] of one size; got int64" in other_type
    assert "second_class: it holds 77, which is no class" in no_class
    assert "second_class needs top1 beside it" in alone


def test_a_row_more_is_verified(seen: dict[str, Any]) -> None:
    assert seen["sound"]
    assert seen["damage"] == {
        "second_class flipped": [["a", "corrupt"]],
        "second_class lost": [["a", "missing"]],
        "depth flipped": [["a", "corrupt"]],
        "depth lost": [["a", "missing"]],
    }
    assert seen["sound again"]


def test_a_row_more_is_exported(seen: dict[str, Any]) -> None:
    assert seen["exported"]


def test_a_row_more_stays_evidence_when_the_threshold_changes(seen: dict[str, Any]) -> None:
    assert seen["rethreshold"] == {"version is another": True, "evidence stays": True}


def test_gc_keeps_a_row_more_as_long_as_a_version_needs_it(seen: dict[str, Any]) -> None:
    # The labels at the threshold before are gone, what they were cut from is not.
    assert seen["gc"] == dict.fromkeys(("label", "top1", "code", "instance", "second_class", "depth"), 3)
    assert seen["sound after gc"]


def test_receipts_are_adopted_only_if_a_row_more_is_sound(seen: dict[str, Any]) -> None:
    assert seen["adopted"] == ["d"]


def test_a_store_from_before_a_row_more_goes_on(seen: dict[str, Any]) -> None:
    keys = ["town/tall", "town/wide"]
    assert seen["golden"] == {"sound": True, "keys": keys, "sound after": True, "has": ["new"]}


def test_who_does_not_know_an_array_reads_the_others_and_gc_leaves_it_alone(seen: dict[str, Any], folder: Path) -> None:
    assert seen["read"]
    uri = str(folder / "labels.zarr.second_class")
    assert "second_class" not in ARRAYS
    assert LabelStore.open(uri).read_array("a", "top1").shape == (16, 24)
    assert verify(uri) == []
    assert gc(uri, keep_last=1, apply=True).objects == 0
    with pytest.raises(ValueError, match="there is no array 'second_class'; known are label, top1, code, top2, "):
        LabelStore.open(uri).read_array("a", "second_class")


def line_of(array: Array) -> str:
    """A row of the table in FORMAT.md."""
    together = " and ".join(f"`{name}`" for name in array.beside)
    cells = [f"`{array.name}`", array.dtype, array.meaning, array.values.text, str(array.fill), array.images, together]
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


@pytest.mark.parametrize("array", ARRAYS.values(), ids=list(ARRAYS))
def test_the_table_is_the_one_in_the_format(array: Array) -> None:
    assert line_of(array) in FORMAT.splitlines()
    if array.derived:
        assert f"| `{array.name}` | {array.derived} |" in FORMAT.splitlines()


def test_every_image_has_one_array_and_it_follows_the_rule() -> None:
    # Or a change of the rule could not make it anew.
    assert [array.name for array in ARRAYS.values() if array.required] == ["label"]
    assert [array.name for array in ARRAYS.values() if array.of_rule] == ["label", "origin"]


def test_arrays_beside_others_are_known() -> None:
    for array in ARRAYS.values():
        assert set(array.beside) <= set(ARRAYS) - {array.name}
