"""A small store with a history (labels, relabels, another threshold, a tag, a pruned version) and what readers see."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import zarr
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.datasets import AutoLabelDataset
from hmsa_label.stores.audit.history import show_version
from hmsa_label.stores.errors import StoreError
from hmsa_label.stores.exports.cityscapes_tree import export_cityscapes
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.bounds import Bounds
from hmsa_label.stores.format.cut import cut
from hmsa_label.stores.format.evidence import code_of, grid_with
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.receipt import ImageFacts, Receipt
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import store_log
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.tags import tag, tags

TAG = "students"
RULE = Rule(0.9)
SIZES = {"a": (24, 48), "b": (24, 48), "c": (24, 48), "d": (16, 20), "e": (24, 48)}
STORED = ("label", "evidence", "instances")
PIXELS = (*STORED, "dataset", "threshold", "panoptic", "png", "zarr")
LOWER = 0.7  # another stored threshold
Seen = dict[str, tuple[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of the sound store.

    Attributes:
        versions: finished versions that can be read.
        keys_of: images that need an object, by its path.
        images: root of the images that were labeled.
        before: what `observe` sees of it.
    """

    versions: list[int]
    keys_of: dict[str, set[str]]
    images: str
    before: Seen


def build(uri: str) -> Facts:
    """Makes the store: five images, two of them labeled again, all at another threshold; the first version pruned."""
    LabelStore.create(uri, CITYSCAPES.to_dict())
    label(uri, sorted(SIZES), seed=0)
    label(uri, ["a", "d"], seed=100, relabel=True)
    tag(uri, TAG, message="what the students were trained on")
    rethreshold(uri, Rule(0.8, 0.3), provenance={"command": "rethreshold"}, threads=1)
    label(uri, ["b"], seed=200, relabel=True, rule=Rule(0.8, 0.3))
    gc(uri, keep_last=2, apply=True)
    versions = [entry.version for entry in store_log(uri) if entry.finished and not entry.pruned]
    keys_of: dict[str, set[str]] = {}
    for version in versions:
        for row in LabelStore.open(uri, version).table().to_pylist():
            for path in objects_of(Receipt.from_row(row)):
                keys_of.setdefault(path, set()).add(row["key"])
    facts = Facts(versions=versions, keys_of=keys_of, images=draw_images(f"{uri}.images"), before={})
    return replace(facts, before=observe(uri, facts))


def draw_images(root: str) -> str:
    """An image for every key, below the root that comes back."""
    Path(root).mkdir(exist_ok=True)
    for key in SIZES:
        (Path(root) / f"{key}.png").write_bytes(image_of(key))
    return root


def image_of(key: str) -> bytes:
    """The image that a key's label is of, as a file."""
    return encode_png(np.zeros((*SIZES[key], 3), np.uint8))


def label(uri: str, keys: list[str], *, seed: int, relabel: bool = False, rule: Rule = RULE) -> None:
    """One finished run over `keys`, with evidence, instances and one failed image."""
    run = {
        "settings": {"teacher_sha256": f"{seed:064x}", "scales": [0.5, 1.0], **rule.settings},
        "data": {"dataset": "folder", "root": "/images", "split": "train"},
    }
    writer = RunWriter(uri, run, relabel=relabel)
    grid = grid_with(rule.threshold)
    segment = SegmentWriter(uri, writer.run_id, grid, rule, len(keys))
    receipts = []
    for key in keys:
        generator = np.random.default_rng([seed, ord(key)])
        top1, confidence = blocks(generator, SIZES[key])
        code = code_of(confidence, grid)
        instance, table = things_of(generator, top1)
        facts = ImageFacts(
            key=key,
            source=f"{key}.png",
            source_sha256=hashlib.sha256(image_of(key)).hexdigest(),
            source_bytes=len(image_of(key)),
            device="cpu",
            mean_confidence=float(confidence.mean()),
            coarse_agreement=0.9,
            seconds=0.5,
            instances=table,
        )
        evidence = {"top1": top1, "code": code, "instance": instance}
        bounds = Bounds(names=segment.names, thresholds=grid, instances=table)
        receipts.append(segment.write(facts, {**cut(evidence, rule, bounds).arrays, **evidence}))
    writer.append(receipts)
    writer.finish([{"key": "f", "reason": "truncated"}], seconds=2.0)


def blocks(generator: np.random.Generator, size: tuple[int, int]) -> tuple[layout.U8, Any]:
    """[H, W] uint8 classes in blocks of 4 px, [H, W] float32 confidences between 0.4 and 1."""
    shape = (size[0] // 4, size[1] // 4)
    top1 = np.kron(generator.integers(0, 19, shape), np.ones((4, 4))).astype(np.uint8)
    confidence = np.kron(generator.random(shape), np.ones((4, 4))).astype(np.float32)
    return top1, (0.4 + 0.6 * confidence**0.5).astype(np.float32)


def things_of(generator: np.random.Generator, top1: layout.U8) -> tuple[Any, tuple[StoredInstance, ...]]:
    """[H, W] uint16 map and table of instances: all of a thing class is one."""
    instance, found = np.zeros(top1.shape, np.uint16), []
    for train_id in CITYSCAPES.things:
        y, x = np.nonzero(top1 == train_id)
        if len(y):
            box = (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
            found.append(StoredInstance(train_id, generator.random(), generator.random(), len(y), box))
            instance[y, x] = len(found)
    return instance, exact(found)


def objects_of(receipt: Receipt) -> list[str]:
    """Objects that hold or describe one image, relative to the store."""
    paths = [layout.receipt_path(receipt.segment, receipt.row)]
    for path in (receipt.path_of(array.name) for array in receipt.arrays):
        folders = list(PurePosixPath(path).parents)[:3]  # of the array, of its size, of its segment
        paths += [path, *(f"{folder}/{layout.ROOT}" for folder in folders)]
    return paths


def observe(uri: str, facts: Facts) -> Seen:
    """All that a reader can ask a store for: ("seen", value) or ("refused" or "crashed", error) by what was asked."""
    seen: Seen = {"log": ask(lambda: store_log(uri)), "tags": ask(lambda: tags(uri))}
    for version in (None, TAG, *facts.versions):  # None is the newest
        name = f"version {version or 'newest'}"
        opened = ask(lambda version=version: LabelStore.open(uri, version))
        whole = version in (None, TAG)  # what is made of labels is asked for where it is most used
        if opened[0] == "seen":
            answers = answers_of(opened[1], facts.images) if whole else stored_in(opened[1])
        else:
            answers = dict.fromkeys(questions(whole=whole), opened)
        seen |= {f"{name} {what}": answer for what, answer in answers.items()}
    return seen


def labels_at(uri: str, version: int | str | None) -> dict[str, tuple[str, Any]]:
    """What a reader of a version gets for each key; a refusal to open is one for every key."""
    opened = ask(lambda: LabelStore.open(uri, version))
    if opened[0] != "seen":
        return dict.fromkeys(SIZES, opened)
    return {key: ask(lambda key=key: opened[1].read(key).tobytes()) for key in SIZES}


def questions(*, whole: bool) -> list[str]:
    """What `answers_of`, or without `whole` `stored_in`, asks an opened store."""
    pixels = PIXELS if whole else STORED
    return ["identity", "commit", "rows", "summary", "grids", *(f"{what} {key}" for what in pixels for key in SIZES)]


def answers_of(store: LabelStore, images: str) -> Seen:
    """All that an opened store says, and what trainings and exports make of it."""
    answers = stored_in(store)
    for what, threshold in (("dataset", None), ("threshold", LOWER)):
        answers |= each_key(what, lambda threshold=threshold: items_of(store, images, threshold))
    answers |= each_key("panoptic", lambda: panoptic_of(store, images))
    return {**answers, **each_key("png", lambda: exported_png(store)), **each_key("zarr", lambda: exported_zarr(store))}


def stored_in(store: LabelStore) -> Seen:
    """All that an opened store says."""
    answers = {
        "identity": ask(lambda: asdict(store.identity)),
        "commit": ask(lambda: (store.version, asdict(store.commit))),
        "rows": ask(lambda: store.table().to_pylist()),
        "summary": ask(lambda: show_version(store)),
        "grids": ask(lambda: [store.grid(s) for s in sorted(set(store.table()["evidence_segment"].to_pylist()))]),
    }
    for key in SIZES:
        answers[f"label {key}"] = ask(lambda key=key: store.read(key).tobytes())
        answers[f"evidence {key}"] = ask(lambda key=key: evidence_of(store, key))
        answers[f"instances {key}"] = ask(lambda key=key: instances_of(store, key))
    return answers


def each_key(what: str, question: Callable[[], dict[str, bytes]]) -> Seen:
    """The answer for each key to one question that all keys hang on."""
    state, value = ask(question)
    return {f"{what} {key}": (state, value[key] if state == "seen" else value) for key in SIZES}


def items_of(store: LabelStore, images: str, threshold: float | None) -> dict[str, bytes]:
    """Labels as a training gets them."""
    dataset = AutoLabelDataset(store, images, dataset="folder", threshold=threshold)
    return {key: dataset[place][1].tobytes() for place, key in enumerate(dataset.keys)}


def panoptic_of(store: LabelStore, images: str) -> dict[str, bytes]:
    """Panoptic maps as a training gets them."""
    dataset = AutoLabelDataset(store, images, dataset="folder")
    return {key: dataset.panoptic(place).tobytes() for place, key in enumerate(dataset.keys)}


def exported_png(store: LabelStore) -> dict[str, bytes]:
    """Labels as other tools get them from PNG files."""
    with tempfile.TemporaryDirectory(dir=Path(store.uri).parent) as folder:
        export_cityscapes(store, f"{folder}/out", threads=1)
        names = {key: f"{folder}/out/gtAuto/{key}_gtAuto_labelTrainIds.png" for key in SIZES}
        return {key: np.asarray(Image.open(name)).tobytes() for key, name in names.items()}


def exported_zarr(store: LabelStore) -> dict[str, bytes]:
    """Labels as other tools get them from one dense array, in the place that the manifest beside it states."""
    with tempfile.TemporaryDirectory(dir=Path(store.uri).parent) as folder:
        export_zarr(store, f"{folder}/out", threads=1)
        group = zarr.open_group(f"{folder}/out", mode="r")
        rows = pq.read_table(f"{folder}/out/manifest.parquet").to_pylist()
        return {row["key"]: np.asarray(group[row["array"]][row["index"]]).tobytes() for row in rows}


def evidence_of(store: LabelStore, key: str) -> tuple[bytes, bytes, tuple[float, ...]]:
    top1, code, grid = store.read_evidence(key)
    return top1.tobytes(), code.tobytes(), grid


def instances_of(store: LabelStore, key: str) -> tuple[bytes, list[StoredInstance]]:
    instance, found = store.instances(key)
    return instance.tobytes(), found


def ask(question: Callable[[], Any]) -> tuple[str, Any]:
    """The answer, a refusal in the store's own words, or a crash."""
    try:
        return "seen", question()
    except StoreError as error:
        return "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return "crashed", f"{type(error).__name__}: {error}"


def wrong_labels(before: Seen, now: Seen) -> list[str]:
    """Pixels that a reader got and that are not those of the version it asked for."""
    arrays = [name for name in before if name.split()[2:3] and name.split()[2] in PIXELS]
    return [name for name in arrays if now[name][0] == "seen" and now[name] != before[name]]
