"""What is printed: tables, one JSON object, and never a credential."""

import json
import math
from dataclasses import dataclass

import click
import numpy as np
from click.testing import CliRunner

from hmsa_label.cli import output


def printed(function, *args):
    """What a show function writes to stdout."""
    command = click.Command("c", callback=lambda: function(*args))
    return CliRunner().invoke(command, catch_exceptions=False).stdout


@dataclass
class Inner:
    name: str
    share: float


def test_json_is_one_object_with_dataclasses_arrays_and_nan_made_plain():
    text = printed(output.show_json, {"a": [Inner("x", math.nan)], "n": np.float32(0.5), "m": np.arange(2), "t": (1,)})
    assert json.loads(text) == {"a": [{"name": "x", "share": None}], "n": 0.5, "m": [0, 1], "t": [1]}


def test_table_aligns_numbers_right_and_shows_missing_as_a_dash():
    text = printed(output.show_table, ["class", "IoU"], [("road", 0.9712), ("sky", None)])
    assert text == "class     IoU\nroad   0.9712\nsky         -\n"


def test_facts_leave_out_what_is_unknown():
    assert printed(output.show_facts, {"store": "s", "kept": None, "version": 3}) == "store    s\nversion  3\n"


def test_tree_indents_levels_and_cuts_long_lists():
    text = printed(output.show_tree, {"run": {"id": "r", "scales": [0.5, 1.0]}, "keys": list(range(30)), "none": None})
    assert text.splitlines()[:3] == ["run:", "  id: r", "  scales: 0.5, 1.0"]
    assert text.splitlines()[3].endswith("23 ... (30)")
    assert text.splitlines()[4] == "none: -"


def test_tree_numbers_the_entries_of_a_list():
    text = printed(output.show_tree, {"runs": [{"id": "a"}, {"id": "b"}]})
    assert text.splitlines() == ["runs 1:", "  id: a", "runs 2:", "  id: b"]


def test_sizes_and_shares_are_shown_in_units():
    assert [output.size(n) for n in (0, 999, 1000, 2_400_000_000, None)] == ["0 B", "999 B", "1.0 kB", "2.4 GB", None]
    assert output.percent(0.8314) == "83.1 %"
