"""Rules about margin and disagreement: a run with one, and `rethreshold` of labels of another, make the same labels."""

from pathlib import Path

import numpy as np
import pytest

from hmsa_label import RuleConfig, rethreshold
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.evidence import DEFAULT_GRID
from tests.two_views import TWO_VIEWS

EVIDENCE = ("top2", "disagreement")
BASE = {"threshold": 0.5}  # what a rule leaves open, in runs and before `rethreshold`
RULES = {
    "all": {"threshold": 0.0},
    "surest": {"threshold": DEFAULT_GRID[-1]},
    "byte of the released code": {"threshold": 128 / 255},
    "margin": {"margin": 0.3},
    "no view against": {"max_disagreement": 0},
    "no view against, whatever its confidence": {"threshold": 0.0, "max_disagreement": 0},
    "by class": {"class_thresholds": {"road": 0.95, "car": 0.3, "sky": "off"}},
    "border": {"border_px": (3, 2, 5, 1)},
    "together": {
        "margin": 0.1,
        "max_disagreement": 1,
        "border_px": (1, 1, 1, 1),
        "class_thresholds": {"road": 0.7, "sky": "off"},
    },
}


@pytest.fixture
def three(bench):
    bench.draw(3)
    return bench


def labels_of(bench, store, **rule):
    """Every pixel's label, and the digest of the version, of a run with a rule."""
    bench.label(TWO_VIEWS, store=store, evidence=EVIDENCE, workers=1, **{**BASE, **rule})
    bench.store = store
    return bench.open()


def test_a_run_with_a_rule_and_a_change_to_it_make_the_same_labels(three, tmp_path):
    changed, seen = str(tmp_path / "changed"), set()
    labels_of(three, changed)
    for number, rule in enumerate(RULES.values()):
        fresh = labels_of(three, str(tmp_path / f"run{number}"), **rule)
        # back to what a rule leaves open, then the rule
        rethreshold(changed, RuleConfig(preset="paper-0.9", **{**BASE, **rule}))
        three.store = changed
        store = three.open()
        for key in fresh:
            np.testing.assert_array_equal(fresh.read(key), store.read(key))
        assert fresh.digest == store.digest
        seen.add(fresh.digest)
    assert len(seen) == len(RULES)
    assert verify(changed) == []


def test_labels_do_not_depend_on_the_evidence_that_is_kept(three, tmp_path):
    digests = set()
    for number, evidence in enumerate([("confidence",), ("top2",), ("disagreement",), EVIDENCE, ("none",)]):
        three.label(TWO_VIEWS, store=str(tmp_path / f"{number}"), evidence=evidence, workers=1, **BASE)
        three.store = str(tmp_path / f"{number}")
        store = three.open()
        digests.add(store.digest)
        kept = {name for name in ("top2", "margin", "disagreement") if name in store.arrays_of("all/000.png")}
        expected = {"top2": {"top2", "margin"}, "disagreement": {"disagreement"}}
        assert kept == set().union(*(expected.get(kind, set()) for kind in evidence))
    assert len(digests) == 1


@pytest.mark.parametrize("rule", [{"margin": 0.2}, {"max_disagreement": 0}])
def test_a_rule_that_was_not_asked_for_is_refused_with_the_way_out(three, rule):
    three.label(TWO_VIEWS, workers=1, **BASE)
    kind = "top2" if "margin" in rule else "disagreement"
    with pytest.raises(ValueError, match=rf"3 of 3 images .* label them again with --evidence {kind} --relabel"):
        rethreshold(three.store, RuleConfig(**rule))


def test_a_teacher_that_cannot_tell_is_refused_before_anything_is_labeled(three):
    for rule, line in (
        ({"margin": 0.2}, "gives top1, the best class alone"),
        ({"max_disagreement": 0}, "takes its labels from a single prediction"),
        ({"evidence": ("top2",)}, "leave top2 out of --evidence"),
    ):
        with pytest.raises(ValueError, match=line):
            three.label(workers=1, **rule)
    assert not Path(three.store).exists()
