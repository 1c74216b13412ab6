"""A small store with every kind of object, and everything that can be asked of it."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hmsa_label.pipeline.audit.card import render_card
from hmsa_label.pipeline.audit.croissant import render_croissant
from hmsa_label.pipeline.audit.store import card, picture_of_label, show
from hmsa_label.pipeline.config import StoreConfig
from hmsa_label.pipeline.monitor.run_states import list_runs, run_status
from hmsa_label.stores.audit.diff import diff
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.exports.cityscapes_tree import export_cityscapes
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.files import FileRoot
from hmsa_label.stores.format.evidence import code_of, grid_with, label_at, level_of
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.layout import COMMITS, LOG
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.format.self_digest import CHECK, is_whole, seal
from hmsa_label.stores.manifest.delta_actions import COMMIT_KEY
from hmsa_label.stores.runs.events import write_part
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, tags
from tests.stores.conftest import changed

CLASSES = {
    "name": "three",
    "names": ["road", "car", "sky"],
    "colours": [[128, 64, 128], [0, 0, 142], [70, 130, 180]],
    "raw_ids": [7, 26, 23],
    "ignore_index": 255,
    "things": [1],
}
SIZES = {"a": (4, 6), "b/c": (3, 5)}
STATE = {
    "event": "state", "phase": "finished", "images_total": 2, "images_done": 2, "images_labelled": 2,
    "images_failed": 1, "images_per_second": 1.5, "seconds_left": 0.0, "workers": 1, "workers_ready": 1, "version": 3,
    "began_at": "2026-11-20T11:31:52.000Z", "time": "2026-11-20T11:32:52.000Z", "host": "h", "pid": 7, "restarts": 0,
    "error": None, "last_failures": [{"key": "x", "reason": "damaged"}],
    "last_losses": [{"time": "2026-11-20T11:31:59.000Z", "event": "worker_lost", "worker": 0, "reason": "killed"}],
}  # fmt: skip


class SmallStore:
    """A store of two images and several versions in a folder; `bodies` are its files as they were written.

    Attributes:
        labels: pixels of each key in each version that still has them.
        may_differ: whether records were sealed anew, so that a reader may take other pixels for those of an image.
    """

    may_differ = False

    def __init__(self, folder: Path) -> None:
        self.root = folder / "labels"
        self.uri, self.outside = str(self.root), folder / "out"
        LabelStore.create(self.uri, CLASSES)
        self._fill(0.9)
        tag(self.uri, "first", message="why")
        rethreshold(self.uri, 0.7)
        self._fill(0.7, relabel=True, panoptic=True)
        rethreshold(self.uri, changed(center_threshold=0.5))
        gc(self.uri, keep_last=2, apply=True)
        finished = [entry.version for entry in store_log(self.uri) if not entry.pruned]
        self.versions = finished
        self.labels = {v: {key: LabelStore.open(self.uri, v).read(key) for key in SIZES} for v in finished}
        files = (path for path in sorted(self.root.rglob("*")) if path.is_file())
        self.bodies = {path.relative_to(self.root): path.read_bytes() for path in files}

    def _fill(self, threshold: float, *, relabel: bool = False, panoptic: bool = False) -> None:
        record = {
            "settings": {"teacher_sha256": "a" * 64, "scales": [1.0], "model": "m", "threshold": threshold},
            "data": {"dataset": "folder", "root": "/images", "split": "train"},
            "teacher": {"weights": "w", "trained_on": {"data": "/d", "split": "train", "keys": ["k"]}},
            "package": {"version": "0.1"}, "host": "h",
        }  # fmt: skip
        writer = RunWriter(self.uri, record, relabel=relabel)
        grid = grid_with(threshold, (0.5, 0.7, 0.9))
        segment, receipts = SegmentWriter(self.uri, writer.run_id, grid, Rule(threshold), 4), []
        for key, size in SIZES.items():
            random = np.random.default_rng(len(key) + relabel)
            top1, code = random.integers(0, 3, size, np.uint8), code_of(random.random(size), grid)
            facts = ImageFacts(key=key, source=f"{key}.png", source_sha256="b" * 64, source_bytes=1, device="cpu")
            arrays = {"label": label_at(top1, code, level_of(threshold, grid)), "top1": top1, "code": code}
            if panoptic:
                instance, table = rows_of_things(top1)
                facts, arrays["instance"] = replace(facts, instances=table), instance
            receipts.append(segment.write(facts, arrays))
        writer.append(receipts)
        writer.finish([{"key": "x", "reason": "damaged"}])
        write_part(FileRoot(self.uri), writer.run_id, writer.attempt, 0, [{"event": "started"}, STATE])

    def restore(self, *, all_of_it: bool = False) -> None:
        """Makes every file what it was; `all_of_it` after something else than reading."""
        if all_of_it:
            shutil.rmtree(self.root)
        for path, body in self.bodies.items():
            if all_of_it or not (self.root / path).exists() or (self.root / path).read_bytes() != body:
                (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / path).write_bytes(body)

    def ask(self, random: Random) -> None:
        """Asks one of the things that can be asked; labels that are read must be those that were written.

        Raises:
            what is not an error of the package.
        """
        question = random.choice(QUESTIONS)
        try:
            question(self, random)
        except (StoreError, OSError):
            pass
        except ValueError as error:
            if type(error) is not ValueError:  # json's, numpy's, Arrow's and others are no messages for people
                raise
        finally:
            shutil.rmtree(self.outside, ignore_errors=True)
            if question in WRITERS:
                self.restore(all_of_it=True)


def chain(root: Path, changed: Path | None = None) -> None:
    """Makes digests and seals agree again after a record was changed: of runs and outcomes, log files and marks."""
    before = ""
    for path in sorted((root / LOG).glob("*.json")):
        lines = []
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError, RecursionError, TypeError, KeyError):  # damaged on purpose
                action = json.loads(line)
                record = action["commitInfo"][COMMIT_KEY]
                action["commitInfo"][COMMIT_KEY] = _rebound(root, record, before, kept=path == changed)
                line = json.dumps(action)
            lines.append(line)
        path.write_text("\n".join(lines) + "\n")
        before = _sha256(path)
        mark = root / COMMITS / f"{int(path.stem)}.json"
        if mark.exists() and mark != changed:
            mark.write_text(json.dumps(seal({"version": int(path.stem), "log_sha256": before})))


def _rebound(root: Path, record: dict[str, Any], before: str, kept: bool) -> dict[str, Any]:
    """A commit's record with the digests of what it names; `kept` leaves those alone, as it was changed on purpose."""
    if kept and not is_whole(record):
        return record
    plain = {name: value for name, value in record.items() if name != CHECK}
    if not kept:
        run, attempt = root / "runs" / f"{plain.get('run')}.json", f"{plain.get('attempt')}.json"
        named = {"run_sha256": run, "outcome_sha256": run.with_suffix("") / attempt}
        plain |= {name: _sha256(path) for name, path in named.items() if plain.get(name) and path.exists()}
        plain |= {"log_sha256": before} if plain.get("log_sha256") else {}
    return seal(plain)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of_things(top1: np.ndarray) -> tuple[np.ndarray, tuple[StoredInstance, ...]]:
    """Map and table of instances: the cars of each row of an image are one; every second has a low center score."""
    instance, found = np.zeros(top1.shape, np.uint16), []
    for y, row in enumerate(top1):
        x = np.flatnonzero(row == 1)
        if len(x):
            found.append(StoredInstance(1, 0.9 - 0.6 * (len(found) % 2), 0.7, len(x), (x[0], y, np.ptp(x) + 1, 1)))
            instance[y, x] = len(found)
    return instance, exact(found)


Question = Callable[[SmallStore, Random], Any]


def _read(store: SmallStore, random: Random) -> None:
    version = random.choice((None, *store.versions, "first"))
    opened = LabelStore.open(store.uri, version)
    for key in opened:
        pixels = opened.read(key)
        known = [labels[key] for labels in store.labels.values() if key in labels]
        store_is_sound = any(pixels.shape == other.shape and (pixels == other).all() for other in known)
        assert store_is_sound or store.may_differ, f"other pixels of {key}"
        opened.read_evidence(key)
        if opened.has_instances:
            opened.instances(key)
        opened.receipt(key)
    opened.table()


def _show(store: SmallStore, random: Random) -> None:
    show(StoreConfig(uri=store.uri), random.choice((None, "head", "first", "a", "b/c")))


def _card(store: SmallStore, random: Random) -> None:
    facts = card(StoreConfig(uri=store.uri), random.choice((None, "first")))
    render_card(facts)
    json.dumps(render_croissant(facts))


def _verify(store: SmallStore, random: Random) -> None:
    verify(store.uri, random.choice((None, "first")), deep=random.random() < 0.5, threads=1)


def _status(store: SmallStore, random: Random) -> None:
    for run in list_runs(StoreConfig(uri=store.uri)):
        run_status(StoreConfig(uri=store.uri), run.run)


def _export(store: SmallStore, random: Random) -> None:
    export = random.choice((export_cityscapes, export_zarr))
    export(LabelStore.open(store.uri), str(store.outside), threads=1)


def _begin(store: SmallStore, random: Random) -> None:
    settings = {"teacher_sha256": "a" * 64, "threshold": random.choice((0.7, 0.9))}
    writer = RunWriter(store.uri, {"settings": settings}, relabel=random.random() < 0.5)
    writer.adopt()
    writer.finish()


READERS: tuple[Question, ...] = (
    _read,
    _read,
    _show,
    _card,
    _verify,
    _verify,
    _status,
    _export,
    lambda store, random: store_log(store.uri, progress=True),
    lambda store, random: tags(store.uri),
    lambda store, random: diff(store.uri, "first", threads=1),
    lambda store, random: diff(store.uri, store.versions[-2], threads=1),
    lambda store, random: gc(store.uri, keep_last=1),
    lambda store, random: picture_of_label(StoreConfig(uri=store.uri), "a"),
)
WRITERS: tuple[Question, ...] = (
    _begin,
    lambda store, random: rollback(store.uri, store.versions[0]),
    lambda store, random: rethreshold(store.uri, 0.9, threads=1),
    lambda store, random: rethreshold(store.uri, changed(instance_threshold=0.8), threads=1),
    lambda store, random: tag(store.uri, random.choice(("first", "second"))),
)
QUESTIONS: tuple[Question, ...] = READERS + WRITERS
