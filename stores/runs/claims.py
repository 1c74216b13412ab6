"""Who is at a run, and which images each has taken: a log of numbered entries that every driver of the run extends.

An entry is created under the next number if that is absent, so all drivers see one order, on a disk as on S3, and an
image is claimed once. Claims of a driver that has left or died do not count. No label depends on claims: without them,
or with damaged ones, images are only labeled more than once, and the first receipt counts.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hmsa_label.stores.errors import RunIsLive
from hmsa_label.stores.files import FileRoot, create_bytes, delete_files, join, list_names
from hmsa_label.stores.format.layout import RUNS
from hmsa_label.stores.format.receipt import now
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.events import last_state, list_logs
from hmsa_label.stores.runs.presence import LIVE_SECONDS, Process, seconds_since, this_process

FOLDER = "claims"
ENTRY = re.compile(r"\d+\.json")
JOIN = "--join shares its work"
ENDED = ("finished", "interrupted", "failed")  # phases of an event log
THREADS = 8  # reading is waiting
_here: set[str] = set()  # attempts of this very process that have not left


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Somebody at a run, as far as the store tells."""

    attempt: str
    process: Process
    seen_at: str

    def __str__(self) -> str:
        silent = max(0, round(seconds_since(self.seen_at)))
        return f"process {self.process.pid} on {self.process.host}, last seen {silent} s ago"


class Claims:
    """One attempt's part in the claims of a run; use it in one thread."""

    def __init__(self, root: FileRoot, run_id: str, attempt: str) -> None:
        self.root, self.run_id, self.attempt = root, run_id, attempt
        self._next, self._dissolved = 0, False
        self._taken: dict[str, set[str]] = {}  # keys by attempt
        self._given_up: dict[str, dict[str, Any]] = {}
        self._drivers: dict[str, Driver] = {}
        self._over: set[str] = set()
        self._read_all()

    @classmethod
    def enrol(cls, root: FileRoot, run_id: str, attempt: str, *, join: bool = False, way_out: str = JOIN) -> "Claims":
        """Takes part in a run.

        Args:
            join: whether others may be at it. way_out: what the refusal says that can be done.

        Raises:
            RunIsLive: if somebody is at it and `join` is not given; naming run, host and process.
        """
        claims = cls(root, run_id, attempt)
        _here.add(attempt)  # first, or another thread that reads the entry would take it for left behind
        try:
            while join or not (others := claims.others()):
                if claims._append({"process": this_process().to_dict()}):
                    return claims
            raise RunIsLive(second_run(run_id, others, way_out=way_out))
        except BaseException:
            _here.discard(attempt)
            raise

    def others(self) -> list[Driver]:
        """Who else is at the run now."""
        self._read_on()
        asked = [driver for attempt, driver in self._drivers.items() if attempt not in {*self._over, self.attempt}]
        alive = _alive(self.root, self.run_id, asked)
        self._over |= {driver.attempt for driver in asked} - {driver.attempt for driver in alive}
        return alive

    @property
    def departed(self) -> int:
        """How many drivers are known to have left or died."""
        return len(self._over - {self.attempt})

    def take(self, keys: Iterable[str], count: int) -> list[str]:
        """Claims the first `count` of the keys that nobody else at the run has claimed; fewer if there are not as many.

        Keys that were claimed here before may come again: the storage's answer to that claim may have been lost. Those
        of a driver that turns out to be gone only now stay claimed until the next call: it may have finished them, and
        `departed` tells the caller to look.
        """
        gone = {*self._over, self.attempt}
        while True:
            taken = set().union(*(found for attempt, found in self._taken.items() if attempt not in gone))
            chosen = _first(count, (key for key in keys if key not in taken))
            if not chosen or self._append({"keys": chosen}):
                return chosen

    def give_up(self, failures: Sequence[dict[str, Any]]) -> None:
        """Tells the others which images cannot be labeled, as {"key", "reason", ...}."""
        while failures and not self._append({"given_up": list(failures)}):
            pass

    def given_up(self) -> dict[str, dict[str, Any]]:
        """What others have told of images that cannot be labeled, by key."""
        return self._given_up

    def beat(self) -> None:
        """Shows a sign of life; for a driver that keeps no event log."""
        while not self._append({}):
            pass

    def leave(self) -> None:
        """Lets go of all that was claimed. A storage that is away is no error: an ended process shows by itself."""
        _here.discard(self.attempt)
        with contextlib.suppress(Exception):
            while not self._dissolved and not self._append({"left": True}):
                pass

    def dissolve(self) -> None:
        """Deletes the claims of a run that is closed, unless somebody has not noticed yet; gc would do it later."""
        with contextlib.suppress(Exception):
            if not self.others():
                self._dissolved = True
                filesystem, path = self.root.open()
                folder = join(path, RUNS, self.run_id, FOLDER)
                delete_files(filesystem, [join(folder, name) for name in list_names(filesystem, folder)])
                filesystem.rmdir(folder)  # object stores know no folders

    def _append(self, facts: dict[str, Any]) -> bool:
        """Creates the next entry; False if somebody else did, and it has been read now."""
        # Two equal entries would pass for one whose answer was lost.
        entry = {"attempt": self.attempt, "time": now(), "token": secrets.token_hex(8), **facts}
        filesystem, path = self.root.open()
        try:
            create_bytes(filesystem, join(path, _path(self.run_id, self._next)), json.dumps(entry).encode())
        except FileExistsError:
            self._read_on()
            return False
        self._keep(entry)
        self._next += 1
        return True

    def _read_all(self) -> None:
        names = self.root.list_names(f"{RUNS}/{self.run_id}/{FOLDER}")
        # Beside the entries there may be half-written ones of those who are at it.
        numbers = [int(name.removesuffix(".json")) for name in names if ENTRY.fullmatch(name)]
        for entry in map_threads(lambda number: _read(self.root, self.run_id, number), numbers, THREADS):
            self._keep(entry or {})
        self._next = max(numbers, default=-1) + 1

    def _read_on(self) -> None:
        while (entry := _read(self.root, self.run_id, self._next)) is not None:
            self._keep(entry)
            self._next += 1

    def _keep(self, entry: dict[str, Any]) -> None:
        attempt, known = str(entry.get("attempt") or ""), self._drivers.get(str(entry.get("attempt") or ""))
        if not attempt:
            return
        process = Process.from_dict(entry["process"]) if "process" in entry else known.process if known else None
        if process is not None:
            self._drivers[attempt] = Driver(attempt=attempt, process=process, seen_at=str(entry.get("time")))
        self._taken.setdefault(attempt, set()).update(map(str, entry.get("keys") or ()))
        if attempt != self.attempt:
            self._given_up |= {str(failure["key"]): failure for failure in entry.get("given_up") or ()}
        if entry.get("left"):
            self._over.add(attempt)


def drivers_of(root: FileRoot, run_id: str) -> list[Driver]:
    """Who is at a run now."""
    return Claims(root, run_id, "").others()


def second_run(run_id: str, drivers: Sequence[Driver], way_out: str = JOIN) -> str:
    """The refusal of a run that others are at already."""
    return (
        f"run {run_id} is live: {'; '.join(map(str, drivers))}. {way_out}; if it has died, the same "
        f"command goes on {LIVE_SECONDS:.0f} s after its last sign of life, at once on its own host"
    )


def _alive(root: FileRoot, run_id: str, drivers: Sequence[Driver]) -> list[Driver]:
    """Those that are still there, each with its last sign of life."""
    if not drivers:
        return []
    names = set(root.list_names(f"{RUNS}/{run_id}"))
    logs = list_logs(root, run_id)
    found = []
    for driver in drivers:
        state = last_state(root, logs.get(driver.attempt, []))
        seen_at = max(driver.seen_at, str(state.get("time") or ""))
        ended = f"{driver.attempt}.json" in names or state.get("phase") in ENDED
        if not ended and _is_alive(driver, seen_at):
            found.append(Driver(attempt=driver.attempt, process=driver.process, seen_at=seen_at))
    return found


def _is_alive(driver: Driver, seen_at: str) -> bool:
    if driver.process == this_process():
        return driver.attempt in _here
    alive = driver.process.is_alive
    return seconds_since(seen_at) <= LIVE_SECONDS if alive is None else alive


def _first(count: int, keys: Iterable[str]) -> list[str]:
    chosen: list[str] = []
    for key in keys:
        chosen.append(key)
        if len(chosen) >= count:
            break
    return chosen


def _path(run_id: str, number: int) -> str:
    return f"{RUNS}/{run_id}/{FOLDER}/{number:06}.json"


def _read(root: FileRoot, run_id: str, number: int) -> dict[str, Any] | None:
    """An entry; None if there is none of that number, empty if it does not read."""
    filesystem, path = root.open()
    try:
        # Not by `read`, which asks a second time whether a folder of that name is there.
        entry = json.loads(filesystem.cat_file(join(path, _path(run_id, number))))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}
