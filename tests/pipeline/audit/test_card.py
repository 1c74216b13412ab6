"""The card of a label set: what a store says of itself is text there, and nothing else."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from hmsa_label.pipeline.audit.card import render_card
from hmsa_label.pipeline.audit.croissant import render_croissant
from hmsa_label.pipeline.audit.markdown import code, text
from hmsa_label.stores.audit.card_facts import Card, ClassFacts
from hmsa_label.stores.audit.summary import Summary

EVIL = "<script>alert(1)</script> | x\n# Title [a](javascript:b) ![i](//h/p) `c`"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("traffic light", "traffic light"),
        ("lane-marking_2", "lane-marking_2"),
        ("a | b", "a \\| b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[a](b)", "\\[a\\](b)"),
        ("*a* `b` \\", "\\*a\\* \\`b\\` \\\\"),
        ("a\n# b\x1b[31m\u2028c", "a # b \\[31mc".replace("mc", "m c")),
        (None, "None"),
    ],
)
def test_markup_in_a_value_is_text(value: object, expected: str) -> None:
    assert text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a/b", "`a/b`"), ("a`b", "``a`b``"), ("`a``", "``` `a`` ```"), ("a\n\nb", "`a b`"), ("", "` `")],
)
def test_a_code_span_holds_whatever_it_is_given(value: str, expected: str) -> None:
    assert code(value) == expected


def facts(word: str) -> Card:
    """All that a card says of a version, `word` wherever a store may write what it likes."""
    unset: dict[str, Any] = dict.fromkeys(("parent", "run", "threshold", "rule", "teacher_sha256", "restores", "note"))
    names = ("class_px", "class_share", "class_instances", "images_with_class", "thresholds", "rules", "runs",
             "class_kept_share", "origin_share", "class_polygon_agreement", "class_polygon_held")  # fmt: skip
    counts: dict[str, Any] = {name: {} for name in names}
    return Card(
        version=3, digest="ab" * 32, store=f"/{word}", uuid="5f", time="2026-11-20T11:31:52+00:00", kind="label",
        images=1, finished=True, format_version=1, tags=["paper"], damaged_tags=[],
        summary=Summary(images=1, pixels=2, valid_px=1, sizes={"16x24": 1}, kept_share=0.5, coarse_agreement=None,
                        converted={word: 1}, mean_confidence=None, devices={}, label_bytes=1,
                        evidence_bytes=0, **counts),
        sources=[{"dataset": word, "root": word, "split": word}],
        settings=[{"model": word, "teacher_sha256": word, "threshold": word, "rule": {word: word}}],
        runs=[{"run": "r", "kind": "label", "package": {"version": word},
               "teacher": {"trained_on": {"data": word}}}],
        classes=[ClassFacts(train_id=0, name=word, colour=[0, 0, 0], pixels=1, share=0.5, images=1)],
        failed=[{"key": word, "reason": word}],
        **unset,
    )  # fmt: skip


def test_what_is_said_of_imported_labels_claims_no_network() -> None:
    imported = {"labels": "/x/maps", "format": "maps", "sha256": "ab", "made_by": "polygons by hand"}
    card = replace(
        facts("road"),
        settings=[{"model": "imported labels", "imported": {"format": "maps"}, "teacher_sha256": "ab"}],
        runs=[{"run": "r", "kind": "label", "teacher": {"imported": imported}}],
    )
    text_of_card, croissant = render_card(card), json.dumps(render_croissant(card))
    for said in (text_of_card, croissant):
        assert "network" not in said
        assert "polygons by hand" in said
        assert "/x/maps" in said
    assert "network" in render_card(facts("road"))
    assert "network" in json.dumps(render_croissant(facts("road")))


def test_a_card_says_how_much_of_the_labels_people_drew() -> None:
    card = facts("road")
    drawn = replace(card, summary=replace(card.summary, origin_share={"teacher": 0.25, "polygon": 0.5, "grown": 0.25}))
    assert "not by people (75.00 % follow polygons drawn by hand); a confident" in render_card(drawn)
    assert "not by people; a confident" in render_card(card)


def test_a_card_has_the_same_lines_and_cells_whatever_the_store_says() -> None:
    plain, evil = render_card(facts("road")).splitlines(), render_card(facts(EVIL)).splitlines()
    assert len(evil) == len(plain)
    escaped = r"&lt;script&gt;alert(1)&lt;/script&gt; \| x # Title \[a\](javascript:b) !\[i\](//h/p) \`c\`"
    assert any(line.startswith(f"| 0 | {escaped} | 50.00 % | 1 |") for line in evil)
    outside = [re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line.replace("\\`", "")) for line in evil]
    assert not any("<" in line for line in outside)
