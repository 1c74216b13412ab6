"""A driver killed without warning, again and again: nothing committed is lost, nothing unfinished is seen."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.versions.label_store import LabelStore

DRIVER = """
import sys
import numpy as np
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.runs.segment import SegmentWriter

uri, total = sys.argv[1], int(sys.argv[2])
writer = RunWriter(uri, {"settings": {"threshold": 0.9}})
writer.adopt()
done = writer.done_keys()
segment = SegmentWriter(uri, writer.run_id, None, 0.9, total)
receipts = []
for number in range(total):
    if f"{number:03d}" not in done:
        label = np.full((8, 8), number % 5, np.uint8)
        receipts.append(segment.write(ImageFacts(key=f"{number:03d}", source="x"), {"label": label}))
        print("wrote", flush=True)
    if len(receipts) == 4:
        writer.append(receipts)
        receipts = []
writer.append(receipts)
writer.finish()
"""


def start(script: Path, uri: str, total: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(script), uri, str(total)], stdout=subprocess.PIPE)


@pytest.mark.timeout(120)
def test_killed_drivers_lose_nothing_and_show_nothing(uri: str, classes: dict[str, Any], tmp_path: Path) -> None:
    LabelStore.create(uri, classes)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    committed: set[str] = set()
    for number in range(4):
        with start(script, uri, 60) as driver:
            assert driver.stdout is not None
            driver.stdout.readline()
            time.sleep(0.003 * (number + 1))
            os.kill(driver.pid, signal.SIGKILL)
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
    assert verify(uri) == []
