"""`--only-new`: new images and those whose files changed are labeled, and nothing else is touched."""

from pathlib import Path

import numpy as np
import pytest

from hmsa_label.pipeline.engine.events import ImageLabeled
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.label.run import plan_labels
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import StoreConflict
from tests.fake_teacher import fake


def test_new_and_changed_images_are_labeled_as_one_new_version(drawn, draw, tmp_path):
    first = drawn.label()
    old = drawn.open()
    draw(drawn.folder / "all" / "003.png", 103)
    drawn.draw(2, start=20)
    plan = plan_labels(drawn.config(only_new=True))
    assert (plan.images_to_do, plan.images_changed, plan.images_done) == (3, 1, 19)
    drawn.events.clear()
    second = drawn.label(only_new=True)
    assert (second.images_total, second.images_labelled, second.images_done_before) == (22, 3, 19)
    labeled = {event.key for event in drawn.events if isinstance(event, ImageLabeled)}
    assert labeled == {"all/003.png", "all/020.png", "all/021.png"}
    assert drawn.open(first.version).digest == old.digest
    assert not np.array_equal(drawn.open().read("all/003.png"), old.read("all/003.png"))
    assert drawn.open().digest == drawn.label(store=str(tmp_path / "fresh")).digest
    assert verify(drawn.store, data_root=str(drawn.folder)) == []


def test_unchanged_images_leave_the_store_as_it_is(drawn):
    first = drawn.label()
    head = drawn.open("head").version
    second = drawn.label(only_new=True)
    assert (second.version, second.images_labelled, second.images_done_before) == (first.version, 0, 20)
    assert drawn.open("head").version == head


def test_without_it_changed_images_are_not_looked_at(drawn, draw):
    first = drawn.label()
    draw(drawn.folder / "all" / "003.png", 103)
    assert drawn.label().digest == first.digest


def test_change_within_the_size_is_found_by_the_digest(drawn):
    drawn.label()
    path = drawn.folder / "all" / "003.png"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert plan_labels(drawn.config(only_new=True)).images_changed == 1


def test_changed_file_that_does_not_decode_is_a_failure_and_keeps_its_label(drawn):
    first = drawn.label()
    (drawn.folder / "all" / "003.png").write_bytes(b"")
    second = drawn.label(only_new=True)
    assert (second.images_failed, second.images_done_before) == (1, 19)
    assert second.digest == first.digest
    third = drawn.label(only_new=True)
    assert (third.images_failed, third.images_not_retried, third.images_done_before) == (1, 1, 19)


@pytest.mark.usefixtures("both_kinds")
def test_interrupted_run_over_changed_images_goes_on_and_is_resumed_by_no_other(drawn, draw, tmp_path):
    drawn.label()
    for number in range(6):
        draw(drawn.folder / "all" / f"{number:03}.png", 100 + number)

    def fail_late(event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            raise EngineError("the power is gone")

    drawn.events.clear()
    with pytest.raises(EngineError, match="power"):
        drawn.label(only_new=True, workers=1, threads=1, on_event=fail_late)
    drawn.wait_for_threads()
    done = len(list(Path(drawn.store).glob("data/*/receipts/*.json"))) - 20
    assert done >= 3
    drawn.draw(1, start=20)
    for options in ({}, {"relabel": True}):
        with pytest.raises(StoreConflict, match="unfinished run"):
            drawn.label(**options)
    drawn.events.clear()
    assert drawn.label(only_new=True).images_labelled == 7 - done
    assert drawn.open().digest == drawn.label(store=str(tmp_path / "fresh")).digest


def test_other_settings_are_refused_for_changed_images_alone(drawn, draw):
    drawn.label()
    draw(drawn.folder / "all" / "003.png", 103)
    with pytest.raises(StoreConflict, match="holds labels made with other settings"):
        drawn.label(fake(seed=1), only_new=True)
    with pytest.raises(ValueError, match="give one of them"):
        drawn.config(only_new=True, relabel=True)


def test_images_of_known_size_come_together(drawn):
    drawn.draw(5, start=30, size=(24, 40))
    drawn.label()
    drawn.events.clear()
    drawn.label(fake(seed=1), relabel=True, workers=1, threads=1)
    order = [int(event.key[4:7]) for event in drawn.events if isinstance(event, ImageLabeled)]
    # Two are in flight, so neighbors may change places.
    assert all(number in range(12, 20) for number in order[:7])
    assert all(number not in range(12, 20) for number in order[9:])
