"""Images that a run is about: by name, by pattern, from a file; and a damaged one repaired by labeling it again."""

from pathlib import Path

import pytest

from hmsa_label.pipeline.audit.store import verify
from hmsa_label.pipeline.config import StoreConfig
from hmsa_label.pipeline.data.selection import select_images
from hmsa_label.pipeline.label.run import plan_labels
from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.format.layout import chunk_path
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.fake_teacher import fake

IMAGES = [ImageRef(key=key, image=f"{key}.png") for key in ("all/a1", "all/a2", "all/b,1", "all/[x]")]


def chosen(*wanted: str) -> list[str]:
    return [image.key for image in select_images(IMAGES, wanted)]


def test_names_and_patterns_choose_images_in_the_order_of_the_listing(tmp_path):
    assert chosen() == [image.key for image in IMAGES]
    assert chosen("all/a2", "all/a1") == ["all/a1", "all/a2"]
    assert chosen("*/a?", "all/[x]") == ["all/a1", "all/a2", "all/[x]"]  # a name before a pattern
    (tmp_path / "names.txt").write_text("all/b,1\n\n  all/a*\n")
    assert chosen(f"@{tmp_path}/names.txt") == ["all/a1", "all/a2", "all/b,1"]


def test_unknown_names_are_all_refused_and_the_first_ones_named(tmp_path):
    with pytest.raises(ValueError, match=r"no image is called 'all/a3', 'town/\*'; of 4 images one is 'all/a[12]'"):
        chosen("all/a1", "all/a3", "town/*")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match=r"picture.png is not a text file with a name per line"):
        chosen(f"@{tmp_path}/picture.png")
    with pytest.raises(FileNotFoundError, match=r"names\.txt"):
        chosen(f"@{tmp_path}/names.txt")


def test_run_labels_only_the_images_that_are_named(drawn):
    assert plan_labels(drawn.config(keys=("all/00[13].*",))).images_total == 2
    assert drawn.label(keys=("all/00[13].*",)).images_labelled == 2
    assert drawn.open().keys() == ["all/001.png", "all/003.png"]
    rest = drawn.label()
    assert (rest.images_done_before, rest.images_labelled) == (2, 18)


def test_damaged_image_is_repaired_by_the_command_that_verify_names(drawn):
    drawn.label()
    store = drawn.open()
    receipt = store.receipt("all/003.png")
    path = Path(drawn.store) / chunk_path(str(receipt.segment), 24, 40, "code", receipt.row)
    path.write_bytes(b"damaged")
    report = verify(StoreConfig(uri=drawn.store))
    assert report.repair == "hmsa-label run --keys all/003.png --relabel"
    summary = drawn.label(keys=("all/003.png",), relabel=True)
    assert (summary.images_total, summary.images_labelled) == (1, 1)
    after = LabelStore.open(drawn.store)
    assert (after.digest, len(after)) == (store.digest, 20)
    assert verify(StoreConfig(uri=drawn.store)).ok
    assert rethreshold(drawn.store, 0.5).images_labelled == 20  # of all images, whatever the last run was about


def test_some_images_are_not_relabeled_by_another_teacher_than_the_rest(drawn):
    drawn.label()
    with pytest.raises(StoreConflict, match="--relabel of all images replaces them"):
        drawn.label(fake(seed=1), keys=("all/003.png",), relabel=True)
    assert drawn.label(fake(seed=1), relabel=True).images_labelled == 20


def test_repair_does_not_finish_a_relabeling_of_all_images(drawn):
    drawn.label()
    with pytest.raises(KeyboardInterrupt):
        drawn.label(relabel=True, on_event=lambda event: interrupt_at(event))
    with pytest.raises(StoreConflict, match="unfinished run"):
        drawn.label(keys=("all/003.png",), relabel=True)


def interrupt_at(event: object) -> None:
    if type(event).__name__ == "ImageLabeled":
        raise KeyboardInterrupt
