"""Which classes the guard takes for lost: two shares compared, by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.pipeline.audit.store import rethreshold
from hmsa_label.pipeline.config import DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.guard_config import GuardConfig
from hmsa_label.pipeline.label import guard
from hmsa_label.pipeline.label.guard import FEW, KEPT, LOW, ClassesLost, Expected, guarded
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.audit.coverage import Coverage
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake

NAMES = ("road", "pole", "bus")
MANY = (20, 20, 20)


def found(**counts: tuple[int, ...]) -> Coverage:
    """What is not named is nothing, and in twenty images."""
    images = {"predicted_images": MANY, "polygon_images": MANY}
    given = {**dict.fromkeys(Coverage.__dataclass_fields__, (0, 0, 0)), **images, **counts}
    return Coverage(names=NAMES, **{name: np.array(given[name]) for name in given if name != "names"})


def states(coverage: Coverage, rule: Rule | None = None, **expected: Expected) -> dict[tuple[str, str], str]:
    return {(one.name, one.against): one.state for one in guarded(coverage, rule or Rule(0.9), expected)}


def test_a_class_is_lost_that_labels_hold_half_as_much_of_as_of_all_polygons() -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0)}
    assert states(found(**drawn, polygon_held_px=(81_000, 3_000, 0))) == {
        ("road", "polygons"): KEPT,
        ("pole", "polygons"): LOW,
    }
    assert states(found(**drawn, polygon_held_px=(81_000, 5_000, 0)))["pole", "polygons"] == KEPT


def test_the_two_shares_are_told() -> None:
    pole = guarded(found(polygon_px=(90_000, 10_000, 0), polygon_held_px=(81_000, 3_000, 0)), Rule(0.9))[1]
    assert (pole.share, pole.expected, pole.pixels, pole.images) == (0.3, 0.84, 10_000, 20)


@pytest.mark.parametrize("rare", [{"polygon_px": (90_000, 999, 0)}, {"polygon_images": (20, 7, 0)}])
def test_a_rare_class_is_named_and_not_judged(rare: dict[str, tuple[int, ...]]) -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0), "polygon_held_px": (81_000, 0, 0), **rare}
    assert states(found(**drawn))["pole", "polygons"] == FEW


def test_a_class_that_does_not_occur_is_not_judged() -> None:
    coverage = found(label_px=(900, 0, 0), predicted_px=(9_000, 0, 0), teacher_px=(900, 0, 0), polygon_px=(9_000, 0, 0))
    expected = Expected(kept_share=0.8, fine_share=0.3)
    assert {name for name, _ in states(coverage, road=expected, pole=expected, bus=expected)} == {"road"}


def test_kept_pixels_are_compared_with_those_that_the_calibration_kept() -> None:
    coverage = found(predicted_px=(90_000, 10_000, 5_000), teacher_px=(80_000, 2_000, 1_000))
    expected = {"pole": Expected(kept_share=0.5, fine_share=None), "bus": Expected(kept_share=0.3, fine_share=None)}
    assert states(coverage, **expected) == {("pole", "calibration"): LOW, ("bus", "calibration"): KEPT}


def test_a_share_of_fine_labels_is_asked_of_a_class_that_the_teacher_predicts_as_often() -> None:
    pole = {"pole": Expected(kept_share=None, fine_share=0.1)}
    kept = {"label_px": (90_000, 1_000, 0), "teacher_px": (90_000, 1_000, 0)}
    assert states(found(**kept, predicted_px=(92_000, 8_000, 0)), **pole) == {("pole", "fine labels"): LOW}
    assert states(found(**kept, predicted_px=(97_000, 3_000, 0)), **pole) == {}


def test_a_class_that_is_off_on_purpose_is_left_alone() -> None:
    drawn = {"polygon_px": (90_000, 10_000, 0), "polygon_held_px": (81_000, 0, 0)}
    off = Rule(0.9, class_thresholds={"pole": "off"})
    assert ("pole", "polygons") not in states(found(**drawn), off)
    taken = Rule(0.9, class_thresholds={"pole": "off"}, polygons="trust")  # then its polygons are to be in the labels
    assert states(found(**drawn), taken)["pole", "polygons"] == LOW


def test_what_helps_a_lost_class_keeps_what_the_rule_says_of_others() -> None:
    drawn = {"polygon_px": (90_000, 10_000, 5_000), "polygon_held_px": (81_000, 0, 0)}
    rule = Rule(0.9, class_polygons={"road": "veto", "pole": "seen"})
    (line,) = guard.warnings_of(guarded(found(**drawn), rule), rule)
    assert "--class-polygons pole=trust,road=veto,bus=trust would keep more of them" in line


WITH_POLYGONS = RuleConfig(threshold=0.99, polygons="trust")
WITHOUT_ROAD = RuleConfig(threshold=0.99, polygons="trust", class_polygons={"road": "off"})


def run(blocks: Path, store: Path, mode: str, rule: RuleConfig) -> Any:
    """Four images with polygons of road, building and sky; the teacher is sure of next to nothing."""
    return label_images(
        LabelConfig(
            data=DataConfig(root=str(blocks)),
            teacher=fake(),
            store=str(store),
            rule=rule,
            guard=GuardConfig(mode=mode),
            engine=EngineConfig(executor="local", workers=1),
        )
    )


@pytest.fixture
def any_count_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FEW_IMAGES", 1)


@pytest.mark.usefixtures("any_count_tells")
@pytest.mark.parametrize("rule", [WITHOUT_ROAD, replace(WITHOUT_ROAD, threshold=None, class_share=0.9)])
def test_a_strict_guard_ends_a_run_before_its_version_and_warn_finishes_it(blocks, tmp_path, rule):
    with pytest.raises(ClassesLost, match=r"--guard strict: .*road.*--guard warn") as refused:
        run(blocks, tmp_path / "labels", "strict", rule)
    assert "\n" not in str(refused.value)
    done = run(blocks, tmp_path / "labels", "warn", rule)
    assert (done.images_labelled, done.images_done_before) == (0, 4)
    assert LabelStore.open(done.store, "head").commit.open_runs == ()
    assert LabelStore.open(done.store).version == done.version
    assert {one.name for one in done.guard if one.state == LOW} >= {"road"}
    assert sum("all but lost" in text for text in done.warnings) == 1


@pytest.mark.usefixtures("any_count_tells")
def test_a_strict_guard_leaves_labels_as_they_were(blocks, tmp_path):
    kept = run(blocks, tmp_path / "labels", "strict", WITH_POLYGONS)
    assert {one.state for one in kept.guard} == {KEPT}
    with pytest.raises(ClassesLost, match="The labels stay as they were; give --guard warn"):
        rethreshold(kept.store, WITHOUT_ROAD, guard=GuardConfig(mode="strict"))
    head = LabelStore.open(kept.store, "head")
    assert (head.commit.finished, head.commit.open_runs) == (kept.version, ())
    made = rethreshold(kept.store, WITHOUT_ROAD)
    assert {one.name for one in made.guard if one.state == LOW} == {"road"}
    assert rethreshold(kept.store, RuleConfig(threshold=0.95), guard=GuardConfig(mode="off")).guard == []


def test_few_images_are_named_and_never_warned_of(blocks, tmp_path):
    done = run(blocks, tmp_path / "labels", "strict", WITHOUT_ROAD)
    assert {one.state for one in done.guard} == {FEW}
    assert not any("lost" in text for text in done.warnings)
    assert guard.summary_of(done.guard) == "polygons: 0 kept, 3 too rare to tell (road, building, sky)"
