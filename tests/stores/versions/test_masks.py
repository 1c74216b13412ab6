"""Masks of rules: kept once, as long as somebody needs them, and found when they are lost or damaged."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.masks import mask_of, put_mask, read_mask
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.stores.rules import HOOD, MASK, fill, image

HIDDEN = Rule(0.5, mask=MASK)


def masks(uri: str, *, age: float = 0.0) -> list[Path]:
    """The masks in a store, made to look older by `age` seconds."""
    found = sorted(Path(uri).glob("masks/*"))
    for path in found:
        os.utime(path, (time.time() - age,) * 2)
    return found


def test_a_mask_is_kept_once_and_read_back(tmp_path: Path) -> None:
    root, other = FileRoot(str(tmp_path)), np.full((3, 5), 7, np.uint8)
    named = put_mask(root, other)
    inode = (tmp_path / "masks" / named.sha256).stat().st_ino
    assert put_mask(root, other) == named == mask_of(other)
    assert (tmp_path / "masks" / named.sha256).stat().st_ino == inode
    np.testing.assert_array_equal(read_mask(root, named), other)
    assert [path.name for path in masks(str(tmp_path))] == [named.sha256]
    with pytest.raises(ValueError, match=r"a mask is \[H, W\] uint8, of at most 134,217,728 pixels; got bool \[3, 5\]"):
        mask_of(other != 0)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda body: body[:-4] + b"0000", "does not decode"),
        (lambda body: b"", "does not decode"),
        (lambda body: body[:1], "does not decode"),
    ],
)
def test_a_damaged_mask_is_named_once_and_readers_refuse_it(uri: str, damage: Any, said: str) -> None:
    store = fill(uri, HIDDEN, [image(1), image(2)])
    (path,) = masks(uri)
    body = path.read_bytes()
    path.write_bytes(damage(body))
    with pytest.raises(
        LabelCorrupt, match=f"the mask of the rule is damaged: masks/{MASK.sha256}: .*{said}.*delete it"
    ):
        LabelStore.open(uri).mask(MASK)
    (problem,) = verify(uri)
    assert (problem.key, problem.kind) == ("", "corrupt")
    path.write_bytes(body)
    assert verify(uri) == []
    assert (store.read("image1")[HOOD != 0] == 255).all()


def test_another_mask_in_its_place_is_no_mask_of_the_rule(uri: str) -> None:
    fill(uri, HIDDEN, [image(1)])
    put_mask(FileRoot(uri), np.ones_like(HOOD))
    wrong = next(path for path in masks(uri) if path.name != MASK.sha256)
    (Path(uri) / "masks" / MASK.sha256).write_bytes(wrong.read_bytes())
    with pytest.raises(LabelCorrupt, match="holds other pixels; delete it, and put it back"):
        LabelStore.open(uri).mask(MASK)


def test_a_lost_mask_is_found_and_put_back(uri: str) -> None:
    fill(uri, HIDDEN, [image(1), image(2)])
    masks(uri)[0].unlink()
    (problem,) = verify(uri)
    assert (problem.key, problem.kind) == ("", "missing")
    assert "put it back from a copy of the store, or by `hmsa-label rethreshold --ego-mask FILE`" in problem.detail
    with pytest.raises(LabelMissing):
        rethreshold(uri, Rule(0.9, mask=MASK))
    assert rethreshold(uri, HIDDEN, mask=HOOD).images_labelled == 0
    assert verify(uri) == []


def test_gc_keeps_masks_that_a_kept_version_or_an_open_run_names(uri: str) -> None:
    fill(uri, Rule(0.9), [image(1), image(2)])
    rethreshold(uri, HIDDEN, mask=HOOD)
    rethreshold(uri, Rule(0.5))
    assert gc(uri, apply=True).objects == 0
    unused = put_mask(FileRoot(uri), np.ones((2, 2), np.uint8)).sha256
    assert gc(uri, apply=True).objects == 0  # it may be of a run that is about to begin
    masks(uri, age=7200)
    assert gc(uri, apply=True).paths == [f"masks/{unused}"]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rethreshold(uri, Rule(0.9, mask=MASK), on_image=stop, threads=1)
    gc(uri, keep_last=1, apply=True)
    assert [path.name for path in masks(uri)] == [MASK.sha256]
    rethreshold(uri, Rule(0.9, mask=MASK))
    rethreshold(uri, Rule(0.5))
    masks(uri, age=7200)
    assert f"masks/{MASK.sha256}" in gc(uri, keep_last=1, apply=True).paths
    assert masks(uri) == []
    assert verify(uri) == []
