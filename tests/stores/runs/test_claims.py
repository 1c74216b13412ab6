"""Who is at a run and what each has claimed: every image once, and nothing for ever."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hmsa_label.stores.errors import StoreConflict
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.runs import claims as claims_module
from hmsa_label.stores.runs import presence
from hmsa_label.stores.runs.claims import Claims, drivers_of
from hmsa_label.stores.runs.presence import Process, this_process
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.rethreshold import rethreshold

RUN = "20261121T120000Z-0badca"
KEYS = [f"{number:03}" for number in range(60)]
DRIVER = """
import sys, time
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.files import FileRoot
claims = Claims.enrol(FileRoot(sys.argv[1]), sys.argv[2], "elsewhere", join=True)
print(len(claims.take(map(str, range(5)), 5)), flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> FileRoot:
    return FileRoot(str(tmp_path))


@pytest.fixture
def elsewhere(root: FileRoot) -> Any:
    """Another process that is at the run and has claimed the keys 0 to 4."""
    command = [sys.executable, "-c", DRIVER, root.uri, RUN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "5\n"
        yield process
        process.kill()


def share_out(root: FileRoot) -> list[list[str]]:
    """What each of four drivers gets that claim at once, three keys at a time."""

    def drive(name: str) -> list[str]:
        claims, mine = Claims.enrol(root, RUN, name, join=True), list[str]()
        while found := claims.take([key for key in KEYS if key not in mine], 3):
            mine += found
        return mine

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(drive, "abcd"))


def test_every_key_is_claimed_once_on_a_disk(root: FileRoot) -> None:
    assert sorted(key for found in share_out(root) for key in found) == KEYS


def test_every_key_is_claimed_once_on_s3(s3_environment: str) -> None:
    assert sorted(key for found in share_out(FileRoot("s3://labels/claims")) for key in found) == KEYS


def test_second_driver_is_told_who_is_at_the_run(root: FileRoot, elsewhere: Any) -> None:
    match = rf"run {RUN} is live: process {elsewhere.pid} on .*, last seen \d+ s ago. --join shares its work"
    with pytest.raises(StoreConflict, match=match):
        Claims.enrol(root, RUN, "here")
    claims = Claims.enrol(root, RUN, "here", join=True)
    assert claims.take(map(str, range(7)), 7) == ["5", "6"]


def test_claims_of_a_killed_driver_are_free_at_once_on_its_machine(root: FileRoot, elsewhere: Any) -> None:
    claims = Claims.enrol(root, RUN, "here", join=True)
    elsewhere.kill()
    while claims.others():  # until the signal has arrived; the process is not collected yet
        time.sleep(0.01)
    assert claims.departed == 1
    assert claims.take(map(str, range(7)), 7) == [str(number) for number in range(7)]
    assert Claims.enrol(root, "another run", "next").others() == []


def test_claims_of_a_silent_driver_on_another_machine_expire(
    root: FileRoot, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.kill()
    elsewhere.wait()
    monkeypatch.setattr(presence, "this_machine", lambda: "another machine")
    claims = Claims(root, RUN, "here")
    assert [driver.attempt for driver in claims.others()] == ["elsewhere"]  # nobody can know yet
    assert claims.take(map(str, range(7)), 7) == ["5", "6"]
    monkeypatch.setattr(claims_module, "LIVE_SECONDS", 0.0)
    assert claims.others() == []
    assert claims.take(map(str, range(7)), 7) == [str(number) for number in range(7)]


def test_driver_that_leaves_lets_go_and_tells_what_failed(root: FileRoot) -> None:
    one, two = Claims.enrol(root, RUN, "one"), Claims.enrol(root, RUN, "two", join=True)
    assert one.take(["a", "b"], 1) == ["a"]
    assert two.take(["a", "b"], 2) == ["b"]
    one.give_up([{"key": "a", "reason": "truncated"}])
    assert two.others()[0].attempt == "one"
    assert two.given_up() == {"a": {"key": "a", "reason": "truncated"}}
    one.leave()
    assert (two.others(), two.take(["a"], 1)) == ([], ["a"])
    assert [driver.attempt for driver in drivers_of(root, RUN)] == ["two"]


def test_claims_of_a_driver_that_is_found_gone_while_claiming_stay_until_the_next_call(root: FileRoot) -> None:
    first = Claims.enrol(root, RUN, "first")
    assert first.take(KEYS, 50) == KEYS[:50]
    second = Claims.enrol(root, RUN, "second", join=True)
    first.leave()  # it may have finished all 50, which the second driver has not looked for
    assert second.take(KEYS, 60) == KEYS[50:]
    assert second.departed == 1
    assert second.take(KEYS[:50], 50) == KEYS[:50]


def test_damaged_entries_count_for_nothing(root: FileRoot) -> None:
    one = Claims.enrol(root, RUN, "one")
    one.take(["a"], 1)
    folder = Path(root.uri) / "runs" / RUN / "claims"
    (folder / "000001.json").write_bytes(b"\xff")
    (folder / "000002.json").write_text("[]")
    assert Claims.enrol(root, RUN, "two", join=True).take(["a"], 1) == ["a"]
    assert json.loads((folder / "000003.json").read_text())["attempt"] == "two"


def test_entries_that_are_being_written_are_not_counted(root: FileRoot) -> None:
    one = Claims.enrol(root, RUN, "one")
    (Path(root.uri) / "runs" / RUN / "claims/.000001.json.0badcafe.partial").write_bytes(b"half")
    two = Claims.enrol(root, RUN, "two", join=True)
    assert two.take(["a", "b"], 1) == ["a"]
    assert one.take(["a", "b"], 2) == ["b"]


def test_a_process_is_told_from_another_one_of_its_number() -> None:
    mine = this_process()
    assert mine.is_alive
    assert replace(mine, started="1").is_alive is False
    assert replace(mine, machine="another").is_alive is None
    assert Process.from_dict({"pid": "x"}).is_alive is None
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = replace(mine, pid=process.pid, started=presence._started(process.pid))
        assert other.is_alive
        process.kill()
        while other.is_alive:  # ends as a process that nobody has collected
            time.sleep(0.01)


def test_second_rethreshold_at_once_is_refused_and_the_first_one_goes_on(uri: str, labels: Any) -> None:
    labels.fill(uri)
    refusals = []

    def again(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(StoreConflict, match=r"run .* is live: process .* Wait for its end") as caught:
                rethreshold(uri, 0.5)
            refusals.append(caught)
            with pytest.raises(
                StoreConflict, match=r"audit rollback 3`; that would end run .*, which is live: process"
            ):
                labels.begin(uri)

    assert rethreshold(uri, 0.5, on_image=again, threads=1).images_labelled == 3
    assert len(refusals) == 1


def fail(done: int, total: int) -> None:
    raise OSError("away")


def test_claims_are_deleted_when_the_run_ends_and_by_gc_after_a_kill(uri: str, labels: Any) -> None:
    run = labels.fill(uri)
    rethreshold(uri, 0.5)
    with pytest.raises(OSError, match="away"):
        rethreshold(uri, 0.6, on_image=fail)
    folder = Path(uri) / "runs"
    assert list(folder.glob("*/claims/*")) == []
    Claims.enrol(run.writer.root, run.writer.run_id, "killed").take(["a"], 1)
    still_on = labels.begin(uri, split="val", threshold=0.5)
    Claims.enrol(still_on.writer.root, still_on.writer.run_id, "still on")
    assert sum("/claims/" in path for path in gc(uri, apply=True).paths) == 2
    assert [path.parent.parent.name for path in folder.glob("*/claims/*")] == [still_on.writer.run_id]
