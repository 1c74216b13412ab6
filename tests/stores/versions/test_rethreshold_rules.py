"""Every kind of rule without the teacher: equal to a fresh run by it, pixel for pixel and count for count."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from hmsa_label.stores.audit.image_faults import image_faults
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreConflict, ThresholdNotStored
from hmsa_label.stores.format.evidence import DEFAULT_GRID
from hmsa_label.stores.format.receipt import COUNTS, FACTS
from hmsa_label.stores.format.rule import MaskOf, Rule
from hmsa_label.stores.manifest.table import Manifest
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.recut import recut
from hmsa_label.stores.versions.rethreshold import rethreshold, rule_of_labels
from tests.stores.format.test_cut import RULES as DRAWN_RULES
from tests.stores.rules import HOOD, MASK, RULES, fill, image, made

MEMORY = Path("/dev/shm")
PLAIN = [image(1), image(2), image(3, polygons=False)]


def copied(uri: str, place: str) -> str:
    """A copy of a store."""
    for path in sorted(Path(uri).rglob("*")):
        if path.is_file():
            target = Path(place) / path.relative_to(uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return place


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of three images with evidence of every kind, labeled at 0.9."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.exists() else tmp_path_factory.mktemp("rules")) as folder:
        fill(f"{folder}/base", Rule(0.9), PLAIN)
        yield f"{folder}/base"


@pytest.fixture
def place(uri: str) -> Path:
    """A folder for stores."""
    return Path(uri).parent


def same_rows(store: LabelStore, fresh: LabelStore) -> None:
    """Two versions whose labels, counts and rules are equal."""
    assert store.digest == fresh.digest
    columns = [*COUNTS, "valid_px", "kept_share", "coarse_agreement", "threshold", "rule", "mean_confidence"]
    assert store.table(columns).to_pylist() == fresh.table(columns).to_pylist()


# The others are compared below, without a fresh run.
WRITTEN = ("class thresholds", "mask", "add and grow", "veto", "best by share", "all")


@pytest.mark.parametrize("name", WRITTEN)
def test_labels_are_those_that_a_fresh_run_by_the_rule_makes(base: str, place: Path, name: str) -> None:
    uri, rule = copied(base, str(place / "old")), RULES[name]
    done = rethreshold(uri, rule, mask=HOOD if rule.mask else None)
    store, fresh = LabelStore.open(uri), fill(str(place / "fresh"), rule, PLAIN)
    same_rows(store, fresh)
    assert (done.rule, rule_of_labels(store), store.rule("image1")) == (rule, rule, rule)
    for arrays, facts in PLAIN:
        expected = made(arrays, facts, rule)
        np.testing.assert_array_equal(store.read(facts.key), expected.label)
        np.testing.assert_array_equal(store.origin(facts.key), expected.origins)
        assert (recut(store, facts.key, rule).label == expected.label).all()
    assert verify(uri) == []
    if rule.best_by:
        assert {bool(label.any()) for label in (store.read(key) != 255 for key in store)} == {True, False}


@pytest.mark.parametrize("name", [name for name in RULES if name not in WRITTEN])
def test_evidence_gives_what_the_rule_makes(base: str, name: str) -> None:
    store, rule = LabelStore.open(base), RULES[name]
    found = {facts.key: made(arrays, facts, rule) for arrays, facts in PLAIN}
    for key, expected in found.items():
        again = recut(store, key, rule)
        np.testing.assert_array_equal(again.label, expected.label)
        np.testing.assert_array_equal(again.origins, expected.origins)
        assert again.facts == expected.facts
    if rule.best_by:
        assert {bool((one.label != 255).any()) for one in found.values()} == {True, False}


def test_every_stored_threshold_is_reached_from_every_other(base: str, place: Path) -> None:
    uri, (arrays, facts) = copied(base, str(place / "old")), PLAIN[0]
    rule = RULES["all"]
    rethreshold(uri, rule, mask=HOOD)
    for threshold in (0.0, *DEFAULT_GRID):
        there = replace(rule, threshold=threshold)
        expected = made(arrays, facts, there)
        assert (recut(LabelStore.open(uri), facts.key, there).label == expected.label).all()
    rethreshold(uri, lambda old, store: replace(old, threshold=0.98))
    assert (LabelStore.open(uri).read(facts.key) == made(arrays, facts, replace(rule, threshold=0.98)).label).all()


def test_the_way_back_is_exact_and_agreement_stays_known(base: str, place: Path) -> None:
    uri = copied(base, str(place / "old"))
    before = LabelStore.open(uri)
    rethreshold(uri, RULES["all"], mask=HOOD)
    rethreshold(uri, Rule(0.9))
    same_rows(LabelStore.open(uri), before)
    rows = before.table(["coarse_agreement", "polygon_kept_px", "polygon_agree_px"]).to_pylist()
    for row in rows[:2]:
        assert row["coarse_agreement"] == sum(row["polygon_agree_px"]) / sum(row["polygon_kept_px"])
    assert rows[2] == dict.fromkeys(rows[2])
    assert verify(uri, every=True) == []


def test_instances_follow_polygons(place: Path) -> None:
    uri, images = str(place / "labels"), [image(seed, panoptic=True) for seed in (1, 2)]
    fill(uri, Rule(0.9, 0.2), images)
    rule = Rule(0.9, 0.5, polygons="trust", class_polygons={"road": "veto"}, grow_px=2)
    rethreshold(uri, rule)
    store = LabelStore.open(uri)
    same_rows(store, fill(str(place / "fresh"), rule, images))
    for arrays, facts in images:
        label, (instance, found) = store.read(facts.key), store.instances(facts.key)
        assert found == list(facts.instances or ())
        class_of = np.array([254, *(one.train_id if one.center_score >= 0.5 else 254 for one in found)])
        np.testing.assert_array_equal(instance, np.where(class_of[arrays["instance"]] == label, arrays["instance"], 0))
        assert (instance[store.origin(facts.key) == 2] > 0).any()
        np.testing.assert_array_equal(store.instance_map(facts.key, label, rule), instance)
    assert verify(uri, every=True) == []


def without(kinds: tuple[str, ...]) -> Any:
    """Images that lack some arrays."""
    return [({name: one for name, one in arrays.items() if name not in kinds}, facts) for arrays, facts in PLAIN]


@pytest.mark.parametrize(
    ("lost", "rule", "said"),
    [
        (("top2", "margin"), Rule(0.9, margin=0.2), r"needs margin, and 3 of 3 .*; .*--evidence top2 --relabel"),
        (("disagreement",), RULES["disagreement"], r"needs disagreement, and 3 of 3 images .*--evidence disagreement"),
        (("grown", "grown_px"), RULES["add and grow"], r"needs grown, and 2 of 3 images .*--evidence growth --relabel"),
    ],
)  # fmt: skip
def test_images_without_what_the_rule_needs_are_refused(uri: str, lost: Any, rule: Rule, said: str) -> None:
    fill(uri, Rule(0.9), without(lost))
    with pytest.raises(ValueError, match=said):
        rethreshold(uri, rule)
    assert Manifest(uri).head().version == 3


@pytest.mark.parametrize(
    ("rule", "error", "said"),
    [
        (Rule(0.9, class_thresholds={"tram": 0.5}), ValueError, "is about 'tram', which is no class; there are road, "),
        (Rule(0.9, class_polygons={"tram": "add"}), ValueError, "is about 'tram', which is no class; there are road, "),
        (Rule(0.9, class_thresholds={"car": 0.42}), ThresholdNotStored, "threshold 0.42 is not among the stored ones"),
        (Rule(0.9, margin=0.123), ThresholdNotStored, "margin 0.123 is not among the stored ones: 0.01"),
        (Rule(0.9, mask=MaskOf("0" * 64, 8, 8)), ValueError, r"than the mask, 8 x 8 \(such as image1, 16 x 24\)"),
        (Rule(0.9, mask=MASK), LabelMissing, "the mask of the rule is gone: no object masks/.*--ego-mask FILE"),
        (Rule(1.5), ValueError, "threshold must be a number from 0 to below 1; it is 1.5"),
        (Rule(0.9, polygons="maybe"), ValueError, "rule.polygons must be 'off' or 'trust' or .*; it is 'maybe'"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_refused_before_anything_is_written(
    base: str, place: Path, rule: Rule, error: type[Exception], said: str
) -> None:
    uri = copied(base, str(place / "labels"))
    with pytest.raises(error, match=said):
        rethreshold(uri, rule)
    assert Manifest(uri).head().version == 3


def test_images_without_a_mean_confidence_are_told_of(uri: str) -> None:
    fill(uri, Rule(0.9), [(arrays, replace(facts, mean_confidence=None)) for arrays, facts in PLAIN])
    with pytest.raises(ValueError, match=r"3 of 3 images .* have no mean confidence \(such as image1\)"):
        rethreshold(uri, RULES["best by confidence"])


def test_what_checks_before_the_end_can_stop_it(base: str, place: Path) -> None:
    uri = copied(base, str(place / "labels"))

    def refuse(writer: Any) -> None:
        raise ValueError("car is lost")

    with pytest.raises(ValueError, match="car is lost"):
        rethreshold(uri, RULES["trust"], before_finish=refuse)
    assert LabelStore.open(uri).version == 3
    assert Manifest(uri).head().commit.open_runs == ()
    assert rethreshold(uri, RULES["trust"]).images_labelled == 3


@pytest.mark.parametrize("name", ["trust", "all"])
def test_killed_midway_it_goes_on_where_it_stopped(base: str, place: Path, name: str) -> None:
    uri, rule = copied(base, str(place / "labels")), RULES[name]

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rethreshold(uri, rule, mask=HOOD if rule.mask else None, on_image=stop, threads=1)
    assert LabelStore.open(uri).version == 3
    with pytest.raises(StoreConflict, match="unfinished run"):
        rethreshold(uri, Rule(0.5))
    done = rethreshold(uri, rule)  # the mask lies in the store by now
    assert (done.images_done_before, done.images_labelled) == (2, 1)
    same_rows(LabelStore.open(uri), fill(str(place / "fresh"), rule, PLAIN))
    assert verify(uri) == []


def test_damaged_polygons_are_named(base: str, place: Path) -> None:
    uri = copied(base, str(place / "labels"))
    path = Path(uri) / LabelStore.open(uri).receipt("image2").path_of("polygon")
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(body[:-4] + b"0000")
    with pytest.raises(
        LabelCorrupt, match=r"1 of 3 images have damaged evidence: image2 \(image2: polygon of version 3"
    ):
        rethreshold(uri, RULES["trust"])


def test_a_writer_refuses_what_the_rule_does_not_say(uri: str) -> None:
    fill(uri, RULES["trust"], PLAIN[:1])
    segment = SegmentWriter(uri, "run", DEFAULT_GRID, RULES["trust"], 9)
    arrays, facts = image(9)
    arrays = {name: one for name, one in arrays.items() if name in ("top1", "code", "polygon")}
    cut = made(arrays, facts, RULES["trust"])
    other = np.where(cut.origin == 2, np.uint8(1), cut.origin)
    for wrong, said in (
        ({"label": cut.label}, "it has no origin, and top1 and code and polygon give one by the rule"),
        ({**cut.arrays, "origin": other}, "the origin is not what top1 and code and polygon say by the rule"),
        ({**cut.arrays, "origin": np.zeros_like(other)}, "pixels have a label and no origin, or the other way round"),
        ({**cut.arrays, "origin": other + 9}, "origin: it holds 10, which is no origin; expected 0 none, 1 teacher"),
    ):
        with pytest.raises(ValueError, match=f"image9: .*{said}"):
            segment.write(facts, {**wrong, **arrays})
    for counts in ({"predicted_px": (1, 2, 3, 4, 5)}, {"polygon_agree_px": (0,) * 5}, {"coarse_agreement": 0.123}):
        with pytest.raises(ValueError, match=f"image9: {next(iter(counts))} does not count the pixels: .* is stated"):
            segment.write(replace(facts, **counts), {**cut.arrays, **arrays})
    stated, told = replace(facts, **cut.facts), segment.write(facts, {**cut.arrays, **arrays})
    again = segment.write(stated, {**cut.arrays, **arrays})
    assert {name: getattr(told, name) for name in COUNTS} == {name: getattr(again, name) for name in COUNTS}
    assert told.teacher_px == cut.teacher_px != told.class_px


def test_labels_without_evidence_state_what_the_rule_made_of_them(uri: str) -> None:
    store = fill(uri, RULES["trust"], PLAIN[:1])
    segment = SegmentWriter(uri, "run", None, RULES["trust"], 9)
    arrays, facts = image(9)
    cut = made(arrays, facts, RULES["trust"])
    receipt = segment.write(replace(facts, **cut.facts), cut.arrays)
    assert (receipt.evidence_segment, receipt.polygon_px, receipt.origin_px) == (None, cut.polygons.px, cut.origin_px)
    with pytest.raises(ValueError, match="origin_px does not count the pixels"):
        segment.write(replace(facts, origin_px=(1, 1, 1, 1, 1)), cut.arrays)
    assert store.arrays_of("image1")[0] == "label"
    assert store.arrays_of("image1")[-1] == "origin"


def test_counts_that_a_row_states_wrongly_are_found(base: str, place: Path) -> None:
    uri = copied(base, str(place / "labels"))
    store = LabelStore.open(uri)
    path = Path(uri) / f"data/{store.receipt('image1').segment}/receipts/0.json"
    row = json.loads(path.read_text())
    assert row["polygon_px"] is not None
    wrong = replace(store.receipt("image1"), polygon_kept_px=(0,) * 5)
    said = [detail for kind, detail in image_faults(store, wrong) if kind == "rule"]
    assert len(said) == 1
    assert "polygon_kept_px does not count the pixels: (0, 0, 0, 0, 0) is stated" in said[0]


PANOPTIC = [image(4, panoptic=True), image(5, polygons=False, panoptic=True)]


@pytest.fixture(scope="module")
def panoptic(base: str) -> str:
    """A store of two images with instances beside everything else."""
    fill(f"{base}-panoptic", Rule(0.9), PANOPTIC)
    return f"{base}-panoptic"


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(DRAWN_RULES, DRAWN_RULES)
def test_drawn_rules_one_after_the_other_make_what_each_makes_alone(panoptic: str, first: Rule, second: Rule) -> None:
    with TemporaryDirectory(dir=Path(panoptic).parent) as folder:
        uri = copied(panoptic, f"{folder}/labels")
        for rule in (first, second):
            rule = rule if rule.mask is None else replace(rule, mask=MASK)
            rethreshold(uri, rule, mask=HOOD if rule.mask else None)
            store = LabelStore.open(uri)
            for arrays, facts in PANOPTIC:
                expected = made(arrays, facts, rule)
                np.testing.assert_array_equal(store.read(facts.key), expected.label)
                np.testing.assert_array_equal(store.origin(facts.key), expected.origins)
                row = store.receipt(facts.key)
                assert {name: getattr(row, name) for name in FACTS} == expected.facts
        assert verify(uri, every=True) == []
