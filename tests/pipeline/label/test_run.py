"""A labeling run on threads: same bytes however it is run, and nothing lost, doubled or passed over in silence."""

import hashlib
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmsa_label.pipeline.config import DataConfig
from hmsa_label.pipeline.engine import retry
from hmsa_label.pipeline.engine.events import Committed, Draining, Event, ImageLabeled, RunStarted, WorkerStarted
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.label.run import label_images, plan_labels
from hmsa_label.pipeline.monitor.progress import remark_on
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.errors import NotAStore, StoreConflict, StoreError
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.folder import FolderSource
from hmsa_label.stores.images.source import BadImage
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake


def test_store_holds_what_the_teacher_says_of_each_image(drawn, both_kinds):
    summary = drawn.label(threshold=0.6)
    store, teacher = drawn.open(), Teacher(fake(**both_kinds))
    assert store.has_instances == bool(both_kinds)
    thresholds = np.asarray(grid_with(0.6), np.float32)
    assert summary.images_labelled == len(store.keys()) == 20
    kept = []
    for number, key in enumerate(store.keys()):
        pixels = np.asarray(Image.open(drawn.folder / "all" / f"{number:03}.png"))
        (expected,) = teacher.label([pixels], thresholds, Rule(0.6), keep_evidence=True)
        np.testing.assert_array_equal(store.read(key), expected.label)
        top1, code, _ = store.read_evidence(key)
        np.testing.assert_array_equal(top1, expected.arrays["top1"])
        np.testing.assert_array_equal(code, expected.arrays["code"])
        if both_kinds:
            instance, instances = store.instances(key)
            np.testing.assert_array_equal(instance, np.where(expected.label == 255, 0, expected.arrays["instance"]))
            assert tuple(instances) == expected.instances
        kept.append((expected.label != 255).ravel())
    assert summary.kept_share == pytest.approx(np.concatenate(kept).mean())
    assert 0.1 < summary.kept_share < 0.9


@pytest.mark.usefixtures("both_kinds")
def test_labels_do_not_depend_on_workers_threads_or_batches(drawn, tmp_path):
    settings = [
        {"workers": 1},
        {"workers": 2},
        {"workers": 3},
        {"workers": 1, "threads": 1},
        {"workers": 2, "batch_size": 4},
    ]
    digests = {
        drawn.label(fake(ms=2), store=str(tmp_path / f"store{number}"), **options).digest
        for number, options in enumerate(settings)
    }
    assert len(digests) == 1


def test_receipts_say_what_was_read_and_by_what(drawn):
    drawn.label()
    table = drawn.open().table().to_pylist()
    data = (drawn.folder / "all" / "003.png").read_bytes()
    row = table[3]
    assert (row["source_bytes"], row["source"]) == (len(data), "all/003.png")
    assert row["source_sha256"] == hashlib.sha256(data).hexdigest()
    assert row["device"] == "cpu, 1 threads"
    assert sum(row["class_px"]) == row["valid_px"] == round(row["kept_share"] * row["height"] * row["width"])
    assert row["coarse_agreement"] is None


def test_unusable_files_are_listed_with_reasons_and_the_rest_is_labeled(drawn):
    folder = drawn.folder / "all"
    whole = (folder / "000.png").read_bytes()
    (folder / "100.png").write_bytes(whole[: len(whole) // 2])
    (folder / "101.png").write_bytes(b"")
    (folder / "102.png").mkdir()
    (folder / "103.jpg").write_bytes(b"no image at all")
    summary = drawn.label()
    reasons = {failure.key: failure.reason for failure in summary.failed}
    assert summary.images_labelled == 20
    assert summary.images_failed == 4
    assert [key.rpartition("/")[2] for key in reasons] == ["100.png", "101.png", "102.png", "103.jpg"]
    for word, reason in zip(("truncated", "empty", "folder", "neither"), reasons.values(), strict=True):
        assert word in reason


@pytest.mark.usefixtures("both_kinds")
def test_second_run_on_a_finished_store_does_nothing_and_says_so(drawn):
    first, head = drawn.label(), drawn.open("head").version
    drawn.events.clear()
    second = drawn.label(fake(ms=5))
    assert (second.images_labelled, second.images_done_before, second.images_failed) == (0, 20, 0)
    assert (second.version, second.digest) == (first.version, first.digest)
    assert second.images_per_second is None
    assert second.kept_share == first.kept_share
    assert drawn.open("head").version == head
    assert [remark_on(event) for event in drawn.events] == ["nothing to do: all 20 images have labels", None]


@pytest.mark.parametrize(
    ("weights", "options", "differing"),
    [
        (fake(start="fail"), {"threshold": 0.8}, "threshold 0.9, not 0.8"),
        (fake(start="fail", seed=1), {}, "options"),
        (fake(start="fail", seed=1), {}, "teacher_sha256"),
    ],
)
def test_run_that_the_store_refuses_loads_no_teacher(drawn, weights, options, differing):
    drawn.label(limit=3)
    drawn.events.clear()
    with pytest.raises(StoreConflict, match=rf"holds labels made with other settings.*{differing}"):
        drawn.label(weights, **options)
    assert drawn.events == []


def test_run_without_the_thresholds_of_instances_that_the_store_has_loads_no_teacher(drawn):
    drawn.label(fake(instances=True), limit=3, center_threshold=0.1)
    drawn.events.clear()
    way = r"rethreshold --center-threshold 0 --store .*`"
    with pytest.raises(StoreConflict, match=rf"center threshold 0.1, not 0.9\).*{way}"):
        drawn.label(fake(instances=True, start="fail"))
    assert drawn.events == []


def test_run_beside_an_unfinished_one_of_another_kind_loads_no_teacher(drawn):
    drawn.label(limit=10)
    with pytest.raises(KeyboardInterrupt):
        drawn.label(fake(seed=1), relabel=True, on_event=interrupt_at_first_image)
    drawn.events.clear()
    with pytest.raises(StoreConflict, match=r"has an unfinished run .* \(relabel"):
        drawn.label(fake(start="fail"))
    assert drawn.events == []


def interrupt_at_first_image(event: Event) -> None:
    if isinstance(event, ImageLabeled):
        raise KeyboardInterrupt


def test_image_that_failed_is_tried_again_by_the_next_run(drawn):
    path = drawn.folder / "all" / "005.png"
    whole = path.read_bytes()
    path.write_bytes(b"")
    assert drawn.label().images_failed == 1
    path.write_bytes(whole)
    summary = drawn.label()
    assert (summary.images_labelled, summary.images_done_before, summary.images_failed) == (1, 19, 0)


@pytest.mark.usefixtures("both_kinds")
def test_limit_then_no_limit_continues(drawn, tmp_path):
    whole = drawn.label(store=str(tmp_path / "whole"))
    first = drawn.label(limit=7)
    assert (first.images_total, first.images_labelled) == (7, 7)
    second = drawn.label()
    assert (second.images_done_before, second.images_labelled) == (7, 13)
    assert second.digest == whole.digest


@pytest.mark.parametrize(
    ("weights", "options", "message"),
    [
        (fake(seed=1), {}, "relabel"),
        (fake(seed=1), {}, "options"),
        (fake(), {"threshold": 0.8}, "rethreshold"),
    ],
)
def test_labels_made_in_another_way_are_refused(drawn, weights, options, message):
    before = drawn.label(limit=3)
    with pytest.raises(StoreConflict, match=message):
        drawn.label(weights, **options)
    assert drawn.open().digest == before.digest


@pytest.mark.parametrize("options", [{"threshold": 0.8}, {"teacher": fake(seed=1)}])
def test_finished_store_is_still_compared_with_what_is_asked(drawn, options):
    drawn.label()
    with pytest.raises(StoreConflict):
        drawn.label(**options)


@pytest.mark.usefixtures("both_kinds")
def test_relabel_makes_a_new_version_and_keeps_the_old_one(drawn):
    old = drawn.label()
    new = drawn.label(fake(seed=1), relabel=True)
    assert new.version > old.version
    assert new.images_labelled == 20
    assert new.digest != old.digest
    assert drawn.open(old.version).digest == old.digest


def test_teacher_that_cannot_be_loaded_ends_the_run_with_its_own_message(drawn):
    started = time.monotonic()
    with pytest.raises(ValueError, match="was asked not to start"):
        drawn.label(fake(start="fail"))
    assert time.monotonic() - started < 20
    with pytest.raises(NotAStore):
        drawn.open()


def test_missing_weights_are_named(drawn):
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*nowhere.safetensors"):
        drawn.label("nowhere.safetensors", workers=1)


def test_hanging_image_ends_a_run_on_threads_and_finished_work_is_kept(drawn, draw, first_pixels):
    draw(drawn.folder / "all" / "010.png", 10, first=first_pixels["hang"])
    with pytest.raises(EngineError, match=r"gave no result for 1 s \(working on .*010"):
        drawn.label(fake(hang="4,5,6"), workers=1, item_timeout=1.0)
    finished = len(drawn.open("head").keys())
    assert finished >= 6
    draw(drawn.folder / "all" / "010.png", 10)
    assert drawn.label(fake()).images_done_before == finished


def test_storage_that_stays_away_ends_the_run_and_is_named(drawn, monkeypatch):
    read, tries = FolderSource.read, []

    def broken(self, path):
        if path.endswith("012.png"):
            tries.append(path)
            raise ConnectionError("connection reset by peer")
        return read(self, path)

    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(FolderSource, "read", broken)
    with pytest.raises(EngineError, match=r"reading all/012.png failed 6 times: ConnectionError: connection reset"):
        drawn.label(workers=1, threads=1)
    assert len(tries) == 6
    kept = set(drawn.open("head").keys())  # the image after may be done too: two are in flight
    assert kept >= {f"all/{number:03}.png" for number in range(12)}
    assert "all/012.png" not in kept


def test_passing_trouble_of_the_storage_is_met_with_another_try(drawn, monkeypatch):
    read, failed = FolderSource.read, set()

    def shaky(self, path):
        if path not in failed:
            failed.add(path)
            raise TimeoutError("slow down")
        return read(self, path)

    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(FolderSource, "read", shaky)
    assert drawn.label().images_labelled == 20
    assert len(failed) == 20


def test_hundred_failures_and_no_label_are_no_fault_of_the_images(drawn, monkeypatch):
    def gone(self, path):
        raise BadImage("the file was listed but is gone")

    drawn.draw(100, start=20, size=(2, 2))
    monkeypatch.setattr(FolderSource, "read", gone)
    with pytest.raises(EngineError, match="the first 100 images all failed"):
        drawn.label()


@pytest.mark.usefixtures("both_kinds")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_what_is_in_flight_and_the_next_run_continues(drawn, tmp_path, number):
    def interrupt(event: Event) -> None:
        if isinstance(event, ImageLabeled) and sum(isinstance(seen, ImageLabeled) for seen in drawn.events) == 3:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    summary = drawn.label(fake(ms=20), workers=1, on_event=interrupt)
    (at,) = [place for place, event in enumerate(drawn.events) if isinstance(event, Draining)]
    before = sum(isinstance(event, ImageLabeled) for event in drawn.events[:at])
    assert summary.interrupted
    assert summary.images_labelled == before + drawn.events[at].images_in_flight < 20
    assert signal.getsignal(number) is handler
    rest = drawn.label()
    assert not rest.interrupted
    assert rest.images_done_before == summary.images_labelled
    assert rest.digest == drawn.label(store=str(tmp_path / "other")).digest


@pytest.mark.usefixtures("both_kinds")
def test_second_signal_leaves_at_once_and_loses_nothing_committed(drawn):
    def interrupt(event: Event) -> None:
        if isinstance(event, ImageLabeled | Draining):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        drawn.label(fake(ms=20), workers=1, on_event=interrupt)
    drawn.wait_for_threads()
    assert drawn.label().images_done_before >= 1


def test_images_without_evidence_have_labels_and_instances_alone(drawn, both_kinds):
    with_evidence = drawn.label(store=drawn.store + "2")
    summary = drawn.label(evidence=("none",))
    assert summary.digest == with_evidence.digest
    rows = drawn.open().table().to_pylist()
    assert {row["code_sha256"] for row in rows} == {None}
    assert {row["instance_sha256"] is not None for row in rows} == {bool(both_kinds)}


def test_relative_paths_work(drawn, monkeypatch):
    monkeypatch.chdir(drawn.folder.parent)
    config = replace(drawn.config(), store="here.zarr", data=DataConfig(root="images", dataset="folder", split="all"))
    assert label_images(config).images_labelled == 20
    assert LabelStore.open(str(drawn.folder.parent / "here.zarr")).digest


def test_store_on_s3_holds_the_same_labels(drawn, both_kinds, s3_storage):
    here, place = drawn.label(), f"s3://labels/run-{len(both_kinds)}.zarr"
    there = drawn.label(store=place, storage_options=s3_storage)
    assert there.digest == here.digest
    assert there.store == place


def test_bucket_that_is_not_there_is_told_before_a_teacher_is_loaded(drawn, s3_storage):
    with pytest.raises(StoreError, match=r"cannot make a store at s3://nobodys/run\.zarr: .*make the bucket"):
        drawn.label(fake(start="fail"), store="s3://nobodys/run.zarr", storage_options=s3_storage)
    assert drawn.events == []


def test_record_of_the_run_holds_what_made_the_labels_and_no_credentials(drawn, s3_storage):
    drawn.label(store="s3://labels/record.zarr", storage_options=s3_storage)
    store = LabelStore.open("s3://labels/record.zarr", storage_options=s3_storage)
    record = store.root.read(f"runs/{store.commit.run}.json").decode()
    for expected in (
        '"weights_sha256"',
        '"options"',
        '"source_sha256"',
        '"torch"',
        '"host"',
        '"command"',
        '"sha256"',
        '"dataset": "folder"',
    ):
        assert expected in record
    assert s3_storage["secret"] not in record


def test_plan_tells_what_a_run_would_do_and_starts_nothing(drawn):
    plan = plan_labels(drawn.config())
    assert (plan.images_total, plan.images_done, plan.images_to_do) == (20, 0, 20)
    assert (plan.executor, plan.workers, plan.device) == ("local", 2, "cpu")
    kinds = (("none",), ("confidence",), ("disagreement",), ("top2", "disagreement"))
    sizes = [plan_labels(drawn.config(evidence=kind)).estimated_store_bytes or 0 for kind in kinds]
    assert 0 < sizes[0] < sizes[1] == plan.estimated_store_bytes < sizes[2] < sizes[3]
    with pytest.raises(NotAStore):
        drawn.open()
    with pytest.raises(FileNotFoundError, match=r"no weights file at .*nowhere\.safetensors"):
        plan_labels(drawn.config("nowhere.safetensors"))
    drawn.label(limit=5)
    assert plan_labels(drawn.config()).images_to_do == 15


def test_events_tell_the_story_in_order(drawn):
    drawn.label(workers=1)
    kinds = [type(event) for event in drawn.events]
    assert kinds.index(WorkerStarted) < kinds.index(RunStarted) < kinds.index(ImageLabeled) < kinds.index(Committed)
    assert kinds.count(ImageLabeled) == 20


@pytest.fixture
def cityscapes(tmp_path: Path, draw) -> Path:
    """One image whose coarse polygons say road on the upper half, unlabeled below."""
    name = "bochum/bochum_000000_000001"
    draw(tmp_path / "leftImg8bit" / "train_extra" / f"{name}_leftImg8bit.png", 0)
    coarse = np.zeros((24, 40), np.uint8)
    coarse[:12] = 7
    path = tmp_path / "gtCoarse" / "train_extra" / f"{name}_gtCoarse_labelIds.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(coarse).save(path)
    return tmp_path


def test_agreement_with_coarse_polygons_counts_pixels_that_both_label(cityscapes, bench):
    config = replace(bench.config(threshold=0.5), data=DataConfig(root=str(cityscapes)))
    label_images(config)
    store = bench.open()
    (row,) = store.table().to_pylist()
    upper = store.read(row["key"])[:12]
    assert row["coarse_agreement"] == pytest.approx((upper == 0).sum() / (upper != 255).sum())
    assert 0 < row["coarse_agreement"] < 1


def test_coarse_polygons_of_another_size_fail_the_image(cityscapes, bench):
    (path,) = cityscapes.rglob("*_labelIds.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(path)
    summary = label_images(replace(bench.config(), data=DataConfig(root=str(cityscapes))))
    assert "differs from the image's (24, 40)" in summary.failed[0].reason
    shutil.rmtree(cityscapes / "gtCoarse")
    assert label_images(replace(bench.config(), data=DataConfig(root=str(cityscapes)))).images_labelled == 1


@pytest.mark.parametrize("rule", [{"center_threshold": 0.3}, {"instance_threshold": 0.5}])
def test_a_rule_on_instances_is_refused_for_a_teacher_that_tells_none_apart(drawn, rule):
    option = f"--{next(iter(rule)).replace('_', '-')}"
    with pytest.raises(
        ValueError, match=f"{option} needs instances, and the teacher .* tells none apart; leave it out"
    ):
        drawn.label(**rule)
    assert not Path(drawn.store).exists()
