"""What can be asked of a label store, and the few things that can be done to it without a teacher.

Each function takes the store as a path, a URL or a `StoreConfig`, calls the storage layer once, and returns a frozen
dataclass; its `to_dict()` is what the command prints with `--json`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hmsa_label.pipeline.config import EXPORT_LAYOUTS, StorePlace, store_config
from hmsa_label.pipeline.data.ego_mask import ego_mask_of
from hmsa_label.pipeline.guard_config import GuardConfig
from hmsa_label.pipeline.label.cautions import figures_of
from hmsa_label.pipeline.label.guard import guard_of
from hmsa_label.pipeline.label.policy import settle
from hmsa_label.pipeline.label.provenance import this_call
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.pipeline.rules import RuleConfig, refuse_unknown_classes
from hmsa_label.stores.audit.card_facts import Card, card_facts
from hmsa_label.stores.audit.diff import Diff
from hmsa_label.stores.audit.diff import diff as diff_of_versions
from hmsa_label.stores.audit.history import ImageHistory, VersionFacts
from hmsa_label.stores.audit.history import show as facts_of
from hmsa_label.stores.audit.verify import Verified, verify_store
from hmsa_label.stores.exports.cityscapes_tree import export_cityscapes
from hmsa_label.stores.exports.coco_panoptic import export_coco
from hmsa_label.stores.exports.dense_zarr import export_zarr
from hmsa_label.stores.exports.destination import Exported
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.format.arrays import INSTANCE, LABEL, ORIGIN
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.location import Location, location_text
from hmsa_label.stores.result import Result
from hmsa_label.stores.versions.gc import Garbage, gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.log import Version, store_log
from hmsa_label.stores.versions.rethreshold import rethreshold as rethreshold_store
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import Tag, tag, version_number

GUARD_WAY_OUT = "The labels stay as they were; give --guard warn, or another rule"

OnImage = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class RolledBack(Result):
    """What a rollback did.

    Attributes:
        version: the newest version now. restores: the number of the version that was asked for.
        changed: False if the newest version held its labels already and nothing was done.
    """

    store: str
    version: int
    restores: int
    changed: bool


def list_versions(store: StorePlace, *, progress: bool = False) -> list[Version]:
    """The versions of a store, newest first; with `progress` every commit of a run as well.

    Raises:
        NotAStore: there is no store.
    """
    uri, options = _at(store)
    return store_log(uri, progress=progress, storage_options=options)[::-1]


def show(
    store: StorePlace, name: int | str | None = None, version: int | str | None = None
) -> VersionFacts | ImageHistory:
    """All that is known of a version (number, tag, "head", None for the last finished one) or of an image (its key).

    Args:
        version: in which an image is looked at: number or tag; None is the last finished one.

    Raises:
        LabelMissing: the store knows no such version, tag or image.
        ValueError: `name` is a version and `version` is given too.
    """
    uri, options = _at(store)
    return facts_of(uri, name, version, storage_options=options)


def picture_of_label(store: StorePlace, key: str, version: int | str | None = None) -> bytes:
    """PNG file of an image's label in the colors of its classes; ignored pixels black.

    Args:
        version: number or tag; None is the last finished one.

    Raises:
        LabelMissing: there is no such version, or it has no label for the image.
    """
    reader = _open(store, version)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(reader.classes["colours"])] = reader.classes["colours"]
    label = reader.read(key)
    picture = palette[label]
    if key in reader.keys_with_instances():
        from hmsa_label.pipeline.report.panoptic_picture import with_instances  # loads OpenCV

        picture = with_instances(picture, reader.instances(key)[0], label == reader.classes["ignore_index"])
    return encode_png(picture)


def verify(
    store: StorePlace,
    version: int | str | None = None,
    *,
    every: bool = False,
    deep: bool = True,
    sources: Location | None = None,
    source_options: dict[str, Any] | None = None,
) -> Verified:
    """What a look for damage finds.

    Args:
        version: number or tag; None is the last finished one. every: look at all finished versions instead.
        deep: read and hash every label, not only look for it.
        sources: data root; its images are compared with the digests taken when they were labeled.

    Raises:
        NotAStore, LabelMissing: there is no such store or version to look at.
    """
    uri, options = _at(store)
    return verify_store(
        uri,
        version,
        every=every,
        deep=deep,
        data_root=None if sources is None else location_text(sources),
        storage_options=options,
        data_options=source_options,
    )


def diff(store: StorePlace, a: int | str, b: int | str | None = None, *, pixels: bool = True) -> Diff:
    """What changed from version `a` to `b` (None: the last finished one): images and, if asked, pixels by class.

    Raises:
        LabelMissing: there is no such version or tag.
    """
    uri, options = _at(store)
    return diff_of_versions(uri, a, b, pixels=pixels, storage_options=options)


def card(store: StorePlace, version: int | str | None = None) -> Card:
    """Facts for the card of a version: classes, sizes, settings, sources, runs, images without a label.

    Raises:
        LabelMissing: there is no such version or tag.
    """
    uri, options = _at(store)
    return card_facts(uri, version, storage_options=options)


def tag_version(store: StorePlace, name: str, version: int | str | None = None, message: str = "") -> Tag:
    """Names a finished version (number or tag; None: the last one) for ever.

    Raises:
        ValueError: a bad name, or an unfinished version. StoreConflict: the name is taken.
    """
    uri, options = _at(store)
    return tag(uri, name, version, message, storage_options=options)


def roll_back(store: StorePlace, version: int | str, message: str = "") -> RolledBack:
    """Makes the labels of an earlier version (number or tag) the newest one.

    Raises:
        ValueError: `version` is unfinished. LabelMissing: there is no such version or tag, or its pixels are gone.
    """
    uri, options = _at(store)
    before = _open(store)
    number = version_number(before.root, version)
    made = rollback(uri, number, message, storage_options=options)
    return RolledBack(store=before.uri, version=made, restores=number, changed=made != before.version)


def collect_garbage(
    store: StorePlace, *, keep_last: int | None = None, older_than: float | None = None, apply: bool = False
) -> Garbage:
    """What no kept version needs; deleted only with `apply`.

    Args:
        keep_last: finished versions to keep beside the tagged ones; None keeps all.
        older_than: seconds; only versions made longer ago lose their pixels.

    Raises:
        ValueError: keep_last is below 1. StoreConflict: a version was tagged meanwhile; nothing was deleted.
    """
    uri, options = _at(store)
    return gc(uri, keep_last=keep_last, older_than=older_than, apply=apply, storage_options=options)


def rethreshold(
    store: StorePlace,
    rule: RuleConfig | float,
    on_image: OnImage | None = None,
    *,
    guard: GuardConfig | None = None,
) -> LabelSummary:
    """Labels of the last finished version by another rule, as a new version; needs no teacher.

    Args:
        rule: what is to change; what it does not give stays as it is. A number is another threshold.
        guard: what happens if next to nothing is left of a class; None warns.

    Raises:
        ThresholdNotStored: a threshold is not among the stored ones. ValueError: nothing is to change, the rule is
            about classes that there are not, or needs what was not stored with the labels.
        ClassesLost: the guard is strict, and classes are all but lost; the labels stay as they were.
        FileNotFoundError: the mask of the rule is not there. StoreConflict: an unfinished run holds the store.
    """
    (uri, options), started = _at(store), time.monotonic()
    asked = rule if isinstance(rule, RuleConfig) else RuleConfig(threshold=rule)
    if asked.is_empty:
        raise ValueError("say what is to change in the rule, such as --threshold 0.8")
    mask, watch = ego_mask_of(asked), guard_of(guard or GuardConfig())

    def over(old: Rule, labels: LabelStore) -> Rule:
        found = asked.over(old, None if mask is None else mask.of)
        refuse_unknown_classes(found, labels.classes["names"])
        return settle(found, labels)

    done = rethreshold_store(
        uri,
        over,
        mask=None if mask is None else mask.pixels,
        before_finish=lambda run: watch.check(run, GUARD_WAY_OUT),
        provenance=this_call(),
        on_image=on_image,
        storage_options=options,
    )
    seconds = time.monotonic() - started
    after = _open(store, done.version)
    figures, warnings = ({}, []) if done.rule is None else figures_of(after, done.rule, watch)
    return LabelSummary(
        store=after.uri,
        version=done.version,
        digest=done.digest,
        images_total=done.images_total,
        images_done_before=done.images_done_before,
        images_labelled=done.images_labelled,
        images_failed=0,
        threshold=None if done.rule is None else done.rule.threshold,
        rule=None if done.rule is None else done.rule.more or None,
        warnings=warnings,
        **figures,
        images_per_second=done.images_labelled / seconds if done.images_labelled else None,
        seconds=seconds,
    )


def export_labels(
    store: StorePlace,
    destination: Location,
    *,
    version: int | str | None = None,
    layout: str = "cityscapes",
    name: str = "gtAuto",
    on_image: OnImage | None = None,
) -> Exported:
    """Writes a version for other tools.

    Args:
        layout: `cityscapes` (PNG files), `coco` (panoptic PNG and JSON files) or `zarr` (one dense array).
        name: label type in the names of PNG and JSON files.

    Raises:
        ValueError: the destination is not empty, or the layout is unknown.
    """
    if layout not in EXPORT_LAYOUTS:
        raise ValueError(f"--format must be {', '.join(EXPORT_LAYOUTS[:-1])} or {EXPORT_LAYOUTS[-1]}; got {layout!r}")
    reader = _open(store, version)
    if layout == "zarr":
        told = {ORIGIN: reader.has_origins, INSTANCE: reader.has_instances}
        arrays = (LABEL, *(name for name, there in told.items() if there))
        return export_zarr(reader, location_text(destination), arrays=arrays, on_image=on_image)
    export = export_coco if layout == "coco" else export_cityscapes
    return export(reader, location_text(destination), name=name, on_image=on_image)


def _at(store: StorePlace) -> tuple[str, dict[str, Any]]:
    """Where a store is, and the fsspec options of its storage."""
    config = store_config(store)
    return location_text(config.uri), config.storage_options


def _open(store: StorePlace, version: int | str | None = None) -> LabelStore:
    uri, options = _at(store)
    return LabelStore.open(uri, version, storage_options=options)
