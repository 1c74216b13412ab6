"""Images that cannot be labeled: what ends a run, what a later run tries again, and what it tells."""

import pytest

from hmsa_label.pipeline.engine.events import FailuresKnown, ImageFailed, WorkersStarting
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.label.failures import FailurePolicy, known_failures
from hmsa_label.pipeline.label.run import plan_labels
from hmsa_label.pipeline.monitor.progress import remark_on
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.source import BadImage
from tests.fake_teacher import fake


def break_files(bench, *numbers: int) -> dict[int, bytes]:
    """Cuts images short; what they were."""
    whole = {}
    for number in numbers:
        path = bench.folder / "all" / f"{number:03}.png"
        whole[number] = path.read_bytes()
        path.write_bytes(whole[number][:50])
    return whole


def repair(bench, whole: dict[int, bytes]) -> None:
    for number, data in whole.items():
        (bench.folder / "all" / f"{number:03}.png").write_bytes(data)


def test_first_failure_ends_a_run_that_asks_for_it_and_finished_work_is_kept(drawn):
    whole = break_files(drawn, 10)
    with pytest.raises(EngineError, match=r"^all/010.png cannot be labeled: .*truncated.*--on-error fail"):
        drawn.label(on_error="fail", workers=1, threads=1)
    kept = set(drawn.open("head").keys())  # two are in flight, so one neighbor is done or not
    assert kept >= {f"all/{number:03}.png" for number in range(9)}
    with pytest.raises(EngineError, match=r"^all/010.png cannot"):
        drawn.label(on_error="fail", workers=1, threads=1)
    repair(drawn, whole)
    assert drawn.label(on_error="fail").images_done_before >= len(kept)


def test_more_failures_than_allowed_end_the_run_and_no_fewer(drawn, tmp_path):
    break_files(drawn, 3, 5, 7)
    assert drawn.label(max_failures=3, store=str(tmp_path / "enough")).images_failed == 3
    with pytest.raises(EngineError, match=r"3 images cannot be labeled, --max-failures allows 2; .*all/007.png"):
        drawn.label(max_failures=2, workers=1, threads=1)
    assert len(drawn.open("head").keys()) >= 4
    drawn.events.clear()
    with pytest.raises(EngineError, match=r"3 images cannot be labeled, --max-failures allows 2"):
        drawn.label(max_failures=2)
    assert drawn.events == []  # known before anything starts
    last = drawn.label(max_failures=3)
    assert (last.images_labelled + last.images_done_before, last.images_failed) == (17, 3)


def test_image_that_did_not_decode_is_named_again_but_not_tried_until_its_file_changes(drawn, monkeypatch):
    whole, read, asked = break_files(drawn, 5, 6), FolderSource.read, []

    def watched(self, path):
        asked.append(path)
        return read(self, path)

    assert drawn.label(limit=10).images_failed == 2
    monkeypatch.setattr(FolderSource, "read", watched)
    drawn.events.clear()
    second = drawn.label()
    assert (second.images_labelled, second.images_done_before, second.images_failed) == (10, 8, 2)
    assert second.images_not_retried == 2
    assert [failure.key for failure in second.failed] == ["all/005.png", "all/006.png"]
    assert not {"all/005.png", "all/006.png"} & set(asked)
    (known,) = [event for event in drawn.events if isinstance(event, FailuresKnown)]
    assert remark_on(known) == (
        "left out 2 images that failed before and whose files are the same; --retry-failed tries them"
    )
    repair(drawn, {5: whole[5]})
    third = drawn.label()
    assert (third.images_labelled, third.images_failed, third.images_not_retried) == (1, 1, 1)
    assert "all/005.png" in drawn.open()


def test_run_with_nothing_left_but_known_failures_starts_no_workers(drawn):
    break_files(drawn, 5)
    first = drawn.label()
    drawn.events.clear()
    second = drawn.label()
    assert not any(isinstance(event, WorkersStarting) for event in drawn.events)
    assert (second.version, second.images_done_before, second.images_failed) == (first.version, 19, 1)
    assert second.failed == first.failed
    plan = plan_labels(drawn.config())
    assert (plan.images_done, plan.images_to_do, plan.images_not_retried) == (19, 0, 1)


def test_retry_failed_tries_the_same_files_again(drawn):
    break_files(drawn, 5)
    drawn.label()
    drawn.events.clear()
    again = drawn.label(retry_failed=True)
    assert (again.images_failed, again.images_not_retried) == (1, 0)
    assert [event.failure.key for event in drawn.events if isinstance(event, ImageFailed)] == ["all/005.png"]
    assert plan_labels(drawn.config(retry_failed=True)).images_to_do == 1


def test_change_of_a_file_within_its_size_is_noticed(drawn):
    whole = break_files(drawn, 5)
    path = drawn.folder / "all" / "005.png"
    assert drawn.label().images_failed == 1
    path.write_bytes(whole[5][:49] + b"x")
    assert drawn.label().images_not_retried == 0


def test_failure_that_the_bytes_do_not_explain_is_tried_again(drawn, monkeypatch):
    def gone(self, path):
        if path.endswith("005.png"):
            raise BadImage("the file was listed but is gone")
        return read(self, path)

    read = FolderSource.read
    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "read", gone)
        assert drawn.label().images_failed == 1
    assert known_failures(FileRoot(drawn.store), FileRoot(str(drawn.folder)), []) == {}
    assert drawn.label().images_labelled == 1


def test_image_whose_logits_are_nan_is_named_and_its_batch_is_labeled(bench, draw):
    bench.draw(20)
    draw(bench.folder / "all" / "004.png", 4, first=(7, 8, 9))
    summary = bench.label(fake(nan="7,8,9"), batch_size=4, threads=8, workers=1)
    assert (summary.images_labelled, summary.images_failed) == (19, 1)
    (failure,) = summary.failed
    assert failure.key == "all/004.png"
    assert failure.reason.startswith("the network gave NaN or infinite")
    # another precision may cure what the file cannot be blamed for
    assert bench.label(fake()).images_labelled == 1


@pytest.mark.parametrize("count", [1, 2, 40])
def test_network_that_gives_nan_for_every_image_ends_the_run_at_once(bench, count):
    bench.draw(count)
    with pytest.raises(
        EngineError, match=r"teacher failed on \d images, 0 are labeled\. all/0..\.png: the network gave NaN"
    ):
        bench.label(fake(nan="all"), workers=1, threads=1)
    assert sum(isinstance(event, ImageFailed) for event in bench.events) == min(count, 3)


def test_labels_from_before_the_nan_are_kept(drawn):
    assert drawn.label(limit=10).images_labelled == 10
    with pytest.raises(EngineError, match="teacher failed on 3 images, 10 are labeled"):
        drawn.label(fake(nan="all"), workers=1, threads=1)
    assert len(drawn.open("head").keys()) == 10
    assert drawn.label().images_labelled == 10


@pytest.mark.parametrize(
    ("policy", "failures", "ends"),
    [
        ({}, 1000, False),
        ({"on_error": "fail"}, 0, False),
        ({"on_error": "fail"}, 1, True),
        ({"max_failures": 0}, 0, False),
        ({"max_failures": 0}, 1, True),
        ({"max_failures": 5}, 5, False),
        ({"max_failures": 5}, 6, True),
    ],
)
def test_policy_ends_a_run_at_the_failure_that_is_one_too_many(policy, failures, ends):
    seen = [Failure(key=str(number), reason="broken") for number in range(failures)]
    if not ends:
        FailurePolicy(**policy).check(seen)
        return
    with pytest.raises(EngineError, match=rf"{failures - 1}: broken|^{failures - 1} cannot be labeled: broken"):
        FailurePolicy(**policy).check(seen)
