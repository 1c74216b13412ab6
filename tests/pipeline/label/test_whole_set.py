"""Runs whose rule looks at the whole set: labeled first, then settled, once, whoever is killed or joins."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hmsa_label.pipeline.audit.store import rethreshold
from hmsa_label.pipeline.engine.events import Event, ImageLabeled, WorkersStarting
from hmsa_label.pipeline.label import whole_set
from hmsa_label.pipeline.label.policy import settle
from hmsa_label.pipeline.label.whole_set import settle_labels
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import RunIsLive
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake

BALANCED = {"class_share": 0.3}
ONE_BY_ONE = {"workers": 1, "threads": 1, "join": True}  # so that no driver claims all images
ASKED = Rule(0.9, class_share=0.3, share_cap=0.9)


@pytest.fixture
def few(bench: Any) -> Any:
    """Eight images of two sizes."""
    bench.draw(5)
    bench.draw(3, start=5, size=(16, 32))
    return bench


def kinds(bench: Any) -> list[str]:
    """Of the finished versions, oldest first."""
    return [version.kind for version in bench.open().versions() if version.finished][::-1]


def rule(bench: Any) -> Rule:
    """The one that all labels of the last version are by."""
    store = bench.open()
    (only,) = {store.rule(key) for key in store}
    return only


def predicted(store: LabelStore) -> dict[str, np.ndarray]:
    """Codes of the pixels that are predicted as each class, over all images."""
    evidence = [store.read_evidence(key) for key in store]
    top1, code = (np.concatenate([one[place].ravel() for one in evidence]) for place in (0, 1))
    return {name: code[top1 == place] for place, name in enumerate(store.classes["names"])}


def test_a_run_keeps_the_share_of_each_class_that_is_asked_for(few):
    summary = few.label(**BALANCED)
    assert (kinds(few), summary.images_labelled) == (["label", "rethreshold"], 8)
    store, own, last = few.open(), rule(few), few.open().version
    assert (summary.version, summary.digest) == (last, store.digest)
    assert Rule.of(summary.threshold, summary.rule) == own
    assert (own.class_share, own.share_cap) == (0.3, 0.9)
    levels = [0.0, *(value for value in store.thresholds if value <= 0.9)]
    for name, codes in predicted(store).items():
        threshold = own.class_thresholds.get(name, own.threshold)
        level = levels.index(threshold)
        assert (codes >= level).mean() >= 0.3
        assert threshold == 0.9 or (codes >= level + 1).mean() < 0.3
    assert verify(few.store) == []


def test_the_first_version_is_at_the_cap(few):
    few.label(**BALANCED)
    first = few.open(few.open().versions()[-1].version)
    assert {first.rule(key) for key in first} == {Rule(0.9)}


def test_the_same_call_again_changes_nothing_and_reads_no_evidence(few, monkeypatch):
    made = few.label(**BALANCED)
    monkeypatch.setattr(whole_set, "settle", None)
    again = few.label(**BALANCED)
    assert (again.version, again.images_labelled, again.images_done_before) == (made.version, 0, 8)
    assert sum(isinstance(event, WorkersStarting) for event in few.events) == 1  # no teacher is loaded again
    assert kinds(few) == ["label", "rethreshold"]


def test_the_settled_rule_depends_neither_on_order_nor_on_workers(few):
    few.label(**BALANCED, workers=3)
    whole = few.open().digest
    for number, keys in enumerate(("all/00[4-7]*", "all/00[0-3]*")):
        few.label(store=f"{few.store}.parts", keys=(keys,), **(BALANCED if number else {}))
    parts = LabelStore.open(f"{few.store}.parts")
    assert parts.digest == whole
    assert settle(ASKED, parts, threads=1) == settle(ASKED, parts, threads=7) == rule(few)


def test_a_rethreshold_settles_as_a_run_does(few):
    few.label(**BALANCED)
    other = f"{few.store}.other"
    few.label(store=other)
    made = rethreshold(other, RuleConfig(**BALANCED))
    assert made.digest == few.open().digest
    assert Rule.of(made.threshold, made.rule) == rule(few)


def test_a_run_that_was_cut_off_between_its_steps_goes_on_with_the_second(few):
    few.label()  # as the first step leaves it
    done = few.label(**BALANCED)
    assert (done.images_labelled, kinds(few)) == (0, ["label", "rethreshold"])
    assert rule(few).class_share == 0.3


class Cut(BaseException):
    """As a signal that ends the process: nothing catches it."""


def stop_at_three(done: int, total: int) -> None:
    if done == 3:
        raise Cut


def test_a_second_step_that_was_cut_off_midway_is_gone_on_with(few):
    few.label()

    with pytest.raises(Cut):
        settle_labels(few.store, ASKED, on_image=stop_at_three)
    assert kinds(few) == ["label"]
    head = LabelStore.open(few.store, "head").commit
    assert len(head.open_runs) == 1
    done = few.label(**BALANCED)
    assert (done.images_labelled, kinds(few)) == (0, ["label", "rethreshold"])
    assert few.open().commit.run == head.open_runs[0]
    assert verify(few.store) == []


def test_a_second_step_that_was_left_midway_ends_before_new_images_join(few):
    few.label()
    with pytest.raises(Cut):
        settle_labels(few.store, ASKED, on_image=stop_at_three)
    few.draw(2, start=8)
    done = few.label(**BALANCED)
    assert (done.images_labelled, done.images_done_before) == (2, 8)
    assert kinds(few) == ["label", "rethreshold", "label", "rethreshold"]
    assert LabelStore.open(few.store, "head").commit.open_runs == ()


DRIVER = """
import os, sys
from hmsa_label.pipeline.label.whole_set import settle_labels
from hmsa_label.stores.format.rule import Rule
asked = Rule(0.9, class_share=0.3, share_cap=0.9)
settle_labels(sys.argv[1], asked, on_image=lambda done, total: done == 3 and os._exit(9))
"""


def test_a_second_step_that_was_killed_is_gone_on_with_by_the_same_call(few):
    few.label()
    assert subprocess.run([sys.executable, "-c", DRIVER, few.store], check=False).returncode == 9
    few.label(**BALANCED)
    assert kinds(few) == ["label", "rethreshold"]
    assert verify(few.store) == []


def test_new_images_join_by_the_settled_rule_and_settle_it_anew(bench):
    bench.draw(3)
    bench.label(**BALANCED)
    before = rule(bench)
    bench.draw(5, start=3, size=(16, 32))
    done = bench.label(**BALANCED)
    assert done.images_labelled == 5
    assert kinds(bench) == ["label", "rethreshold", "label", "rethreshold"]
    joined = bench.open(bench.open().versions()[1].version)
    assert {joined.rule(key) for key in joined} == {before}
    assert rule(bench) == settle(ASKED, bench.open()) != before


def test_of_two_drivers_one_settles_and_both_end_with_its_version(few):
    ready = threading.Barrier(2)
    waited: list[Event] = []

    def watch(event: Event) -> None:
        if isinstance(event, ImageLabeled) and threading.get_ident() not in waited:
            waited.append(threading.get_ident())
            ready.wait(60)

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(few.label, fake(), **BALANCED, **ONE_BY_ONE, on_event=watch) for _ in range(2)]
        first, second = (call.result() for call in calls)
    assert kinds(few) == ["label", "rethreshold"]
    assert (first.version, first.digest) == (second.version, second.digest)
    assert first.images_labelled + second.images_labelled == 8
    assert LabelStore.open(few.store, "head").commit.open_runs == ()


def test_a_driver_waits_for_another_one_that_settles_and_is_refused_without_join(few, monkeypatch):
    few.label()
    begun, looked = threading.Event(), threading.Event()
    waits: list[None] = []

    def wait() -> None:
        waits.append(looked.set())
        time.sleep(0.01)

    monkeypatch.setattr(whole_set, "_wait", wait)

    def slow(done: int, total: int) -> None:
        if not begun.is_set():
            begun.set()
            looked.wait(30)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(settle_labels, few.store, ASKED, on_image=slow)
        begun.wait(60)
        with pytest.raises(RunIsLive, match="is live: process"):
            settle_labels(few.store, ASKED)
        second = pool.submit(settle_labels, few.store, ASKED, join=True)
        assert first.result() == second.result() == few.open().version
    assert waits
    assert kinds(few) == ["label", "rethreshold"]


@pytest.mark.parametrize("best_by", ["mean_confidence", "kept_share"])
def test_only_the_best_images_keep_anything(few, best_by):
    few.label(threshold=0.5, best_share=0.25, best_by=best_by)
    store = few.open()
    kept = {key for key in store if (store[key] != 255).any()}
    plain = LabelStore.open(few.store, store.versions()[-1].version)
    score = {"mean_confidence": lambda key: plain.receipt(key).mean_confidence,
             "kept_share": lambda key: plain.receipt(key).kept_share}[best_by]  # fmt: skip
    assert kept == set(sorted(store, key=score, reverse=True)[:2])
    assert all((store[key] == plain[key]).all() for key in kept)
    assert verify(few.store) == []


def test_shares_need_evidence_and_say_so_before_a_version_is_made(few):
    few.label(evidence=("none",))
    with pytest.raises(ValueError, match="--evidence confidence --relabel"):
        rethreshold(few.store, RuleConfig(**BALANCED))
    assert kinds(few) == ["label"]
