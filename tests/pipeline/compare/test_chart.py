"""The charts: round axes that hold every value, marks where they belong."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from hmsa_label.pipeline.compare.chart import LEFT, RIGHT, WIDTH, Bar, axis, chart


@pytest.mark.parametrize(("low", "high"), [(0.41, 0.55), (-0.02, 0.003), (0.5, 0.5), (0.0, 1.0), (-1e-5, 2e-5)])
def test_axis_is_round_and_holds_its_values(low, high):
    ticks = axis(low, high)
    assert ticks[0] <= low + 1e-9
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 8
    steps = {round(b - a, 12) for a, b in pairwise(ticks)}
    assert len(steps) == 1
    assert re.fullmatch(r"[125]e[-+]\d+", f"{steps.pop():.0e}")


def test_marks_lie_at_their_values():
    bar = Bar(name="a < b", kind="auto", text="0.6", value=0.6, low=0.2, high=0.8, dots=[("seed 0", 0.4)])
    text = chart([bar], "mIoU")
    root = ElementTree.fromstring(text)
    mean, dot = (float(circle.get("cx")) for circle in root.iter("circle"))
    span = next(line for line in root.iter("line") if line.get("class") == "range")
    left, right = LEFT, WIDTH - RIGHT
    assert (left, right) == (float(span.get("x1")), float(span.get("x2")))  # the axis reaches from 0.2 to 0.8
    assert mean == pytest.approx(left + (right - left) * 2 / 3, abs=0.1)
    assert dot == pytest.approx(left + (right - left) / 3, abs=0.1)
    assert "a &lt; b" in text


def test_zero_is_marked_where_differences_are_shown():
    root = ElementTree.fromstring(
        chart([Bar(name="a", kind="auto", text="", value=0.02, low=0.01, high=0.03)], "d", zero=True)
    )
    assert [line.get("class") for line in root.iter("line")].count("zero") == 1
