"""What a network was trained on, written into its checkpoint, and the check that nothing is validated on it."""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.config import to_dict
from hmsa_label.pipeline.data.auto_images import ImageRoot
from hmsa_label.pipeline.data.datasets import AutoLabelDataset, FineLabelDataset
from hmsa_label.pipeline.software import git_state, package_version
from hmsa_label.pipeline.training.config import AutoLabels, CoarseLabels, TrainConfig
from hmsa_label.pipeline.training.crops import keys_digest
from hmsa_label.stores.errors import NotAStore
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.images.source import ImageRef, ImageSource, split_names
from hmsa_label.stores.parallel import map_threads
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore

HELD_OUT_SPLITS = ("val", "test", "validation", "testing")
READERS = 8
SHOWN = 3


def open_auto_labels(
    config: TrainConfig, labels: AutoLabels, classes: ClassTable, version: int | None = None
) -> AutoLabelDataset:
    """The labels of a store, at the version and thresholds that a training asks for.

    Args:
        version: takes the place of the one asked for: that of an interrupted training.

    Raises:
        NotAStore, LabelMissing, ThresholdNotStored: no such store, version or threshold.
        ValueError: the store's classes are not those of the data, or it is empty.
    """
    store = LabelStore.open(labels.store, version or labels.version, storage_options=labels.storage_options)
    if tuple(store.classes["names"]) != classes.names:
        raise ValueError(
            f"the labels of {store.uri} have {len(store.classes['names'])} classes of {store.classes.get('name')!r}, "
            f"the data has {classes.num_classes} of {classes.name!r}; train on data of the same classes"
        )
    if not len(store):
        raise ValueError(f"version {store.version} of {store.uri} holds no labels yet; finish a run first")
    data = config.data
    auto = AutoLabelDataset(
        store,
        labels.data,
        dataset=labels.dataset,
        threshold=labels.threshold,
        class_thresholds=labels.read_class_thresholds,
        keep_empty=False,
        storage_options=labels.data_options or data.storage_options,
        near=ImageRoot(root=data.root, dataset=data.dataset, options=data.storage_options),
    )
    if not len(auto):
        raise ValueError(
            f"none of {len(store)} images of version {store.version} of {store.uri} has a labeled pixel; train on "
            "labels of a lower threshold (hmsa-label rethreshold)"
        )
    return auto


def held_out_images(source: ImageSource, val_split: str, *, besides: Iterable[str] = ()) -> list[ImageRef]:
    """The images kept for scoring: those of the splits to validate on, and of the splits that are named for it.

    Args:
        val_split: empty if nothing is validated.
        besides: keys that are left out of the latter, as they are trained on by the name of their split.
    """
    named = frozenset(besides)
    found: dict[str, ImageRef] = {}
    validating = split_names(val_split) if val_split else ()
    for split in (*validating, *HELD_OUT_SPLITS):
        with suppress(ValueError, NotAStore):  # most data sets have only some of them
            validated = split in validating
            found |= {ref.key: ref for ref in source.list(split) if validated or ref.key not in named}
    return list(found.values())


def leaked_images(
    source: ImageSource, held_out: list[ImageRef], trained: list[ImageRef], auto: AutoLabelDataset | None
) -> list[str]:
    """Keys held out for scoring that are trained on too, sorted.

    An auto-labeled image is known by the digest of its file, whatever it is called. Of the finely labeled ones only
    those are read whose name below the split is that of a held-out image.
    """
    names = {below_split(ref.key) for ref in held_out}
    suspects = [ref for ref in trained if below_split(ref.key) in names]
    known = set(file_digests(source, suspects).values())
    if auto is None:
        names = {below_split(ref.key) for ref in suspects}
        held_out = [ref for ref in held_out if below_split(ref.key) in names]
    else:
        known |= set(auto.store.table(["source_sha256"])["source_sha256"].to_pylist())
    return sorted(key for key, digest in file_digests(source, held_out).items() if digest in known)


def file_digests(source: ImageSource, refs: list[ImageRef]) -> dict[str, str]:
    """Hex sha256 of the files of images, by key."""
    digests = map_threads(lambda ref: hashlib.sha256(source.read(ref.image)).hexdigest(), refs, READERS)
    return dict(zip((ref.key for ref in refs), digests, strict=True))


def refuse_leak(leaked: list[str]) -> None:
    """Raises ValueError if images held out for scoring are trained on; the message names some and the way out."""
    if leaked:
        names = ", ".join(leaked[:SHOWN]) + (f" and {len(leaked) - SHOWN} more" if len(leaked) > SHOWN else "")
        raise ValueError(
            f"{len(leaked)} images held out for scoring are among those trained on ({names}), so scores on them would "
            "mean nothing; train on other images, validate on others (--val-split, empty for none), or use "
            "--allow-leak of train-student, which is recorded"
        )


def describe_training(
    config: TrainConfig,
    fine: FineLabelDataset,
    second: AutoLabelDataset | FineLabelDataset | None,
    leaked: list[str],
    *,
    panoptic: bool = False,
) -> dict[str, Any]:
    """The JSON-able part of a checkpoint's metadata that says what it was trained on; no credentials.

    Args:
        panoptic: labels are panoptic maps, so the files of instances count, too.

    Returns:
        `classes`, `config`, `hmsa_label` (version), `code` (state of the source tree), `trained_on` (the fine labels:
        where, how many, which, with digests), `coarse_labels` (the same of polygons mixed in) and, for a student,
        `auto_labels` (the version of the store, its content digest, thresholds and mix, and the teacher that made it).
    """
    record = {
        "classes": fine.classes.to_dict(),
        "config": to_dict(config),
        "hmsa_label": package_version(),
        "code": git_state(),
        "trained_on": _drawn_labels(config, config.data.split, config.labels, fine, panoptic=panoptic),
    }
    if isinstance(second, AutoLabelDataset):
        return {**record, "auto_labels": _auto_labels(config, second, leaked)}
    if second is not None and isinstance(config.second, CoarseLabels):
        coarse = _drawn_labels(config, str(config.second.split), config.second.labels, second, panoptic=panoptic)
        return {**record, "coarse_labels": {**coarse, "mix": config.mix, "fine_tail": config.fine_tail}}
    return record


def _drawn_labels(
    config: TrainConfig, split: str, labels: str, drawn: FineLabelDataset, *, panoptic: bool
) -> dict[str, Any]:
    return {
        "data": public_uri(config.data.root),
        "split": split,
        "labels": labels,
        "images": len(drawn),
        "keys_sha256": keys_digest(drawn.keys),
        "labels_sha256": drawn.digest,
        **({"instances_sha256": drawn.instances_digest} if panoptic else {}),
        "keys": drawn.keys,
    }


def _auto_labels(config: TrainConfig, auto: AutoLabelDataset, leaked: list[str]) -> dict[str, Any]:
    store, labels = auto.store, config.second
    assert isinstance(labels, AutoLabels)
    commit = store.commit
    teacher = read_run(store.root, commit.run).record.get("teacher") if commit.run else None
    return {
        "store": store.uri,
        "store_uuid": store.identity.uuid,
        "version": store.version,
        "digest": store.digest,
        "threshold": commit.threshold if labels.threshold is None else labels.threshold,
        "labels_threshold": commit.threshold,
        "rule": commit.rule,
        "rule_changes": auto.changes,
        "trained_rule": None if auto.rule is None else auto.rule.settings,
        "class_thresholds": labels.read_class_thresholds or {},
        "images": len(auto),
        "images_left_out": len(auto.left_out),
        "data": auto.images.places,
        "mix": config.mix,
        "fine_tail": config.fine_tail,
        "confidence_weight": labels.confidence_weight,
        "run": commit.run,
        "teacher_sha256": commit.teacher_sha256,
        "teacher": teacher,
        "leaked": leaked,
    }


def below_split(key: str) -> str:
    """A key without its first part, which is the split in a Cityscapes tree."""
    return key.partition("/")[2] or key
