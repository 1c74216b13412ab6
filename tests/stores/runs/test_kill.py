"""A driver killed without warning, again and again: nothing committed is lost, nothing unfinished is seen."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.stores.rules import HOOD, RULES, fill, image, made

# Ends a process at the operation of its number `last` on the files of a store `uri`.
DIE = """
import os, signal
seen = 0
def die_at_the_last(event, args):
    global seen
    if event in ("open", "os.rename", "os.link", "os.remove") and str(args[0]).startswith(os.path.dirname(uri)):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die_at_the_last)
"""
DRIVER = """
import sys
import numpy as np
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.runs.segment import SegmentWriter

uri, total, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
{DIE}
writer = RunWriter(uri, {"settings": {"threshold": 0.9}})
writer.adopt()
done = writer.done_keys()
segment = SegmentWriter(uri, writer.run_id, None, Rule(0.9), total)
receipts = []
for number in range(total):
    if f"{number:03d}" not in done:
        label = np.full((8, 8), number % 5, np.uint8)
        thing = number % 5 in (1, 2, 4)
        table = (StoredInstance(number % 5, 0.5, 0.5, 64, (0, 0, 8, 8)),) if thing else ()
        arrays = {"label": label, "instance": np.full((8, 8), int(thing), np.uint16)}
        receipts.append(segment.write(ImageFacts(key=f"{number:03d}", source="x", instances=table), arrays))
    if len(receipts) == 4:
        writer.append(receipts)
        receipts = []
writer.append(receipts)
writer.finish()
"""


def start(script: Path, uri: str, total: int, last: int = -1) -> "subprocess.Popen[bytes]":
    """A driver that kills itself before the `last` file below the store is opened, renamed, linked or removed."""
    return subprocess.Popen([sys.executable, str(script), uri, str(total), str(last)])


PLACES = (30, 101, 307)  # in the first images, after a commit, in the middle


@pytest.mark.timeout(300)
@pytest.mark.parametrize("places", [PLACES, pytest.param(range(1, 200, 7), marks=pytest.mark.slow, id="many")])
def test_killed_drivers_lose_nothing_and_show_nothing(
    uri: str, classes: dict[str, Any], tmp_path: Path, places: Sequence[int]
) -> None:
    LabelStore.create(uri, classes)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{DIE}", DIE))
    committed: set[str] = set()
    for last in places:
        with start(script, uri, 60, last) as driver:
            assert driver.wait(60) == -signal.SIGKILL
        progress = LabelStore.open(uri, "head")
        assert committed <= set(progress)
        committed = set(progress)
        assert LabelStore.open(uri).keys() == []
        assert verify(uri, "head") == []
    with start(script, uri, 60) as driver:
        assert driver.wait(60) == 0
    store = LabelStore.open(uri)
    assert len(store) == 60
    for key in store:
        np.testing.assert_array_equal(store.read(key), np.full((8, 8), int(key) % 5))
        assert len(store.instances(key)[1]) == store.instances(key)[0].max() == (int(key) % 5 in (1, 2, 4))
    assert verify(uri) == []


CHANGE = """
import sys
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.stores.rules import HOOD, RULES

uri, last = sys.argv[1], int(sys.argv[2])
{DIE}
rethreshold(uri, RULES["all"], mask=HOOD, threads=1)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("places", [(112,), pytest.param(range(1, 212, 7), marks=pytest.mark.slow, id="many")])
def test_a_killed_change_of_the_rule_goes_on_where_it_stopped(uri: str, places: Sequence[int]) -> None:
    images = [image(seed, polygons=seed % 2 == 0) for seed in range(6)]
    fill(uri, Rule(0.9), images)
    for last in places:
        words = [sys.executable, "-c", CHANGE.replace("{DIE}", DIE), uri, str(last)]
        killed = subprocess.run(words, check=False, cwd=Path(__file__).parents[3]).returncode
        assert killed in (-signal.SIGKILL, 0)
        rules = {LabelStore.open(uri).rule(key) for key in LabelStore.open(uri)}  # killed after its commit, it is done
        assert rules in (({Rule(0.9)}, {RULES["all"]}) if killed else ({RULES["all"]},))
        assert verify(uri, "head") == []
    done = rethreshold(uri, RULES["all"], mask=HOOD)
    assert done.images_total == 6
    store = LabelStore.open(uri)
    for arrays, facts in images:
        expected = made(arrays, facts, RULES["all"])
        np.testing.assert_array_equal(store.read(facts.key), expected.label)
        np.testing.assert_array_equal(store.origin(facts.key), expected.origins)
    assert verify(uri, every=True) == []
