"""A child process of test_arrays.py: all that a store does, with a table of arrays that has two rows more.

Prints what was seen as JSON.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import zarr

from hmsa_label.stores.audit.summary import summarize
from hmsa_label.stores.audit.verify import verify
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.format.arrays import Pixels
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from tests.stores.conftest import CLASSES as CLASS_TABLE
from tests.stores.conftest import draw, table_of

NAMES = ("label", "top1", "code", "instance", "second_class", "depth")
SETTINGS = {"settings": {"threshold": 0.9}}
GOLDEN = Path(__file__).parent.parent / "golden/v1"


def arrays_of(seed: int) -> dict[str, Pixels]:
    drawn = draw(seed)
    runner_up = ((drawn.top1.astype(int) + 1) % 5).astype(np.uint8)
    depth = (np.arange(drawn.label.size, dtype=np.int32) * 70_000).reshape(drawn.label.shape)
    return {
        "label": drawn.label,
        "top1": drawn.top1,
        "code": drawn.code,
        "instance": drawn.instance,
        "second_class": runner_up,
        "depth": depth,
    }


def facts(key: str, arrays: dict[str, Pixels]) -> ImageFacts:
    """The facts of an image, its instances among them if it has any."""
    instances = table_of(arrays["instance"], arrays["top1"]) if "instance" in arrays else None
    return ImageFacts(key=key, source=key, instances=instances)


def write(uri: str, images: dict[str, dict[str, Pixels]], *, lost: bool = False) -> RunWriter:
    """A run over images; the receipts that are lost are there, but nobody has heard of them."""
    run = RunWriter(uri, SETTINGS)
    segment = SegmentWriter(uri, run.run_id, grid_with(0.9), Rule(0.9), 10)
    receipts = [segment.write(facts(key, arrays), arrays) for key, arrays in images.items()]
    if not lost:
        run.append(receipts)
        run.finish()
    return run


def objects(uri: str, name: str) -> list[Path]:
    return sorted(Path(uri).glob(f"data/*/*/{name}/c.*"))


def flipped(path: Path) -> bytes:
    """The bytes of a file, one bit of which is another now."""
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    return data


def faults_of_damage(uri: str) -> dict[str, list[tuple[str, str]]]:
    """What `verify` says of a flipped bit, and of a lost object, of each new array."""
    found = {}
    for name in ("second_class", "depth"):
        path = objects(uri, name)[0]
        data = flipped(path)
        found[f"{name} flipped"] = [(problem.key, problem.kind) for problem in verify(uri)]
        path.unlink()
        found[f"{name} lost"] = [(problem.key, problem.kind) for problem in verify(uri, deep=False)]
        path.write_bytes(data)
    return found


def refusals(uri: str) -> list[str]:
    arrays = arrays_of(1)
    run = RunWriter(uri, SETTINGS)
    segment = SegmentWriter(uri, run.run_id, grid_with(0.9), Rule(0.9), 10)
    bad = [
        {**arrays, "depth": -arrays["depth"]},
        {**arrays, "depth": arrays["depth"].astype(np.int64)},
        {**arrays, "second_class": np.full_like(arrays["label"], 77)},
        {name: arrays[name] for name in ("label", "second_class")},
    ]
    found = []
    for wrong in bad:
        try:
            segment.write(facts("x", wrong), wrong)
        except ValueError as error:
            found.append(str(error))
    run.finish()
    return found


def dense_equals(folder: str, images: dict[str, dict[str, Pixels]]) -> bool:
    """Whether zarr itself reads every exported array as it was written."""
    group, manifest = zarr.open_group(folder, mode="r"), pq.read_table(f"{folder}/manifest.parquet").to_pylist()
    return all(
        np.array_equal(group[name][row["index"]], images[row["key"]][name]) for row in manifest for name in NAMES
    )


def adopted(uri: str) -> list[str]:
    """Of images `d` and `e`, those that the next attempt takes over from a killed one; an array of `e` is damaged."""
    images = {"d": arrays_of(7), "e": arrays_of(8)}
    LabelStore.create(uri, CLASS_TABLE)
    write(uri, images, lost=True)
    flipped(objects(uri, "depth")[-1])
    run = RunWriter(uri, SETTINGS)
    run.adopt()
    return sorted(run.done_keys())


def look(uri: str, export: str) -> dict[str, Any]:
    """Everything in turn, on stores whose places begin with `uri`."""
    images = {key: arrays_of(number) for number, key in enumerate("abc")}
    LabelStore.create(uri, CLASS_TABLE)
    write(uri, images)
    store = LabelStore.open(uri)
    seen: dict[str, Any] = {
        "read": all(np.array_equal(store.read_array(key, name), images[key][name]) for key in store for name in NAMES),
        "types": {name: str(store.read_array("a", name).dtype) for name in NAMES},
        "columns": [column for column in store.table().column_names if column.startswith(("second_class", "depth"))],
        "evidence_bytes": summarize(store).evidence_bytes,
        "bytes": {name: sum(path.stat().st_size for path in objects(uri, name)) for name in NAMES},
        "sound": verify(uri) == [],
        "damage": faults_of_damage(uri),
        "sound again": verify(uri) == [],
        "refused": refusals(uri),
    }
    export_zarr(store, export, arrays=list(NAMES))
    seen["exported"] = dense_equals(export, images)
    rethreshold(uri, 0.7)
    after = LabelStore.open(uri)
    kept = all(
        np.array_equal(after.read_array(key, name), images[key][name])
        for key in after
        for name in ("second_class", "depth")
    )
    seen["rethreshold"] = {"version is another": after.digest != store.digest, "evidence stays": kept}
    gc(uri, keep_last=1, apply=True)
    seen["gc"] = {name: len(objects(uri, name)) for name in NAMES}
    seen["sound after gc"] = verify(uri) == []
    seen["adopted"] = adopted(f"{uri}.adopted")
    seen["golden"] = goes_on_with_golden(f"{uri}.golden")
    without_depth(f"{uri}.second_class")
    return seen


def without_depth(uri: str) -> None:
    """A store for readers that know of neither row."""
    LabelStore.create(uri, CLASS_TABLE)
    write(uri, {"a": {name: array for name, array in arrays_of(0).items() if name != "depth"}})


def goes_on_with_golden(uri: str) -> dict[str, Any]:
    """A store from before the table had these rows: it is read, verified and written to."""
    shutil.copytree(GOLDEN, uri)
    before = LabelStore.open(uri)
    sound = verify(uri) == []
    rethreshold(uri, 0.95)
    label = np.zeros((2, 6), np.uint8)
    run = RunWriter(uri, {"settings": {**_settings(uri), "threshold": 0.95}})
    segment = SegmentWriter(uri, run.run_id, None, Rule(0.95), 1)
    run.append([segment.write(ImageFacts(key="new", source="new"), {"label": label, "depth": label.astype("i4")})])
    run.finish()
    return {"sound": sound, "keys": before.keys(), "sound after": verify(uri) == [], "has": _have_depth(uri)}


def _settings(uri: str) -> dict[str, Any]:
    path = next(path for path in Path(uri).glob("runs/*.json") if json.loads(path.read_text())["kind"] == "label")
    return dict(json.loads(path.read_text())["settings"])


def _have_depth(uri: str) -> list[str]:
    store = LabelStore.open(uri)
    return [key for key in store if store.receipt(key).array("depth") is not None]
