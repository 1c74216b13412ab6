"""What can be asked of a label store, and the few things that can be done to it without a teacher.

Each function opens the store, calls the storage layer once, and returns JSON-able facts.
"""

import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from hmsa_label.pipeline.config import StoreConfig
from hmsa_label.pipeline.label.cautions import classes_absent, warnings_of_version
from hmsa_label.pipeline.records import LabelSummary
from hmsa_label.pipeline.software import git_state, library_versions, package_version
from hmsa_label.stores.audit.card_facts import card_facts
from hmsa_label.stores.audit.diff import diff as diff_of_versions
from hmsa_label.stores.audit.history import show as facts_of
from hmsa_label.stores.audit.history import store_log
from hmsa_label.stores.audit.summary import summarise
from hmsa_label.stores.audit.verify import verify_store
from hmsa_label.stores.credentials import hide_in_arguments
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.exports.version import export_cityscapes, export_zarr
from hmsa_label.stores.versions.gc import gc
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.repair import repair_command
from hmsa_label.stores.versions.rethreshold import rethreshold as rethreshold_store
from hmsa_label.stores.versions.rollback import rollback
from hmsa_label.stores.versions.tags import tag, version_number

LABELLED_AGAIN = ("missing", "size", "corrupt", "digest", "receipt", "rule")  # problems that a new label ends
OnImage = Callable[[int, int], None]


def list_versions(store: StoreConfig, *, progress: bool = False) -> list[dict[str, Any]]:
    """The versions of a store, newest first; with `progress` every commit of a run as well.

    Raises:
        NotAStore: there is no store.
    """
    return store_log(store.uri, progress=progress, storage_options=store.storage_options)[::-1]


def show(store: StoreConfig, name: str | None = None) -> dict[str, Any]:
    """All that is known of a version (number, tag, "head", None for the last finished one) or of an image (its key).

    Raises:
        LabelMissing: the store knows no such version, tag or image.
    """
    return facts_of(store.uri, name, storage_options=store.storage_options)


def picture_of_label(store: StoreConfig, key: str) -> bytes:
    """PNG file of an image's label in the last finished version, in the colours of its classes; ignored pixels black.

    Raises:
        LabelMissing: the version has no label for the image.
    """
    reader = _open(store)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(reader.classes["colours"])] = reader.classes["colours"]
    return encode_png(palette[reader.read(key)])


def verify(
    store: StoreConfig,
    version: str | None = None,
    *,
    every: bool = False,
    deep: bool = True,
    sources: str | None = None,
    source_options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a look for damage finds.

    Keys: ok; versions (those that could be looked at, newest first); images (their rows, shared ones counted once);
    problems (a list of key, kind, detail and version, the newest that is touched); repair (what labels images again).

    Args:
        every: look at all finished versions, not at `version` alone.
        sources: data root; its images are compared with the digests taken when they were labelled.

    Raises:
        NotAStore, LabelMissing: there is no such store or version to look at.
    """
    found = verify_store(
        store.uri,
        version,
        every=every,
        deep=deep,
        data_root=sources,
        storage_options=store.storage_options,
        data_options=source_options,
    )
    newest = found.versions[:1]
    keys = sorted({p.key for p in found.problems if p.key and p.kind in LABELLED_AGAIN and p.version in newest})
    return {
        "ok": not found.problems,
        "versions": found.versions,
        "images": found.images,
        "problems": [asdict(problem) for problem in found.problems],
        "repair": repair_command(keys) if keys else None,
    }


def diff(store: StoreConfig, a: str, b: str | None = None, *, pixels: bool = True) -> dict[str, Any]:
    """What changed from version `a` to `b` (None: the last finished one): images and, if asked, pixels by class.

    Raises:
        LabelMissing: there is no such version or tag.
    """
    return diff_of_versions(store.uri, a, b, pixels=pixels, storage_options=store.storage_options).to_dict()


def card(store: StoreConfig, version: str | None = None) -> dict[str, Any]:
    """Facts for the card of a version: classes, sizes, settings, sources, runs, images without a label.

    Raises:
        LabelMissing: there is no such version or tag.
    """
    return card_facts(store.uri, version, storage_options=store.storage_options)


def tag_version(store: StoreConfig, name: str, version: int | str | None = None, message: str = "") -> dict[str, Any]:
    """Names a finished version (number or tag; None: the last one) for ever: name, version, digest, message, time.

    Raises:
        ValueError: a bad name, or an unfinished version. StoreConflict: the name is taken.
    """
    return tag(store.uri, name, version, message, storage_options=store.storage_options)


def roll_back(store: StoreConfig, version: int | str, message: str = "") -> dict[str, Any]:
    """Makes the labels of an earlier version (number or tag) the newest one.

    Keys: `version`, the newest version now; `restores`, the number that was asked for; `changed`, False if the newest
    version held these labels already and nothing was done.

    Raises:
        ValueError: `version` is unfinished. LabelMissing: there is no such version or tag, or its pixels are gone.
    """
    before = _open(store)
    number = version_number(before.root, version)
    made = rollback(store.uri, number, message, storage_options=store.storage_options)
    return {"store": before.uri, "version": made, "restores": number, "changed": made != before.version}


def collect_garbage(
    store: StoreConfig, *, keep_last: int | None = None, older_than: float | None = None, apply: bool = False
) -> dict[str, Any]:
    """What no kept version needs: objects, bytes, pruned, kept, applied, paths; deleted only with `apply`.

    Args:
        older_than: seconds; only versions made longer ago lose their pixels.

    Raises:
        ValueError: keep_last is below 1. StoreConflict: a version was tagged meanwhile; nothing was deleted.
    """
    options = store.storage_options
    return asdict(gc(store.uri, keep_last=keep_last, older_than=older_than, apply=apply, storage_options=options))


def rethreshold(store: StoreConfig, threshold: float, on_image: OnImage | None = None) -> LabelSummary:
    """Labels of the last finished version at another stored threshold, as a new version; needs no teacher.

    Raises:
        ThresholdNotStored: the threshold is not on the grid. ValueError: labels without evidence.
        StoreConflict: an unfinished run holds the store.
    """
    started = time.monotonic()
    done = rethreshold_store(
        store.uri, threshold, provenance=_provenance(), on_image=on_image, storage_options=store.storage_options
    )
    seconds = time.monotonic() - started
    after = LabelStore.open(store.uri, done.version, storage_options=store.storage_options)
    summary = summarise(after.table(), after.classes)
    return LabelSummary(
        store=after.uri,
        version=done.version,
        digest=done.digest,
        images_total=done.images_total,
        images_done_before=done.images_done_before,
        images_labelled=done.images_labelled,
        images_failed=0,
        kept_share=summary["kept_share"],
        classes_absent=classes_absent(summary),
        warnings=warnings_of_version(after, summary, threshold),
        images_per_second=done.images_labelled / seconds if done.images_labelled else None,
        seconds=seconds,
    )


def export_labels(
    store: StoreConfig,
    destination: str,
    *,
    version: str | None = None,
    layout: str = "cityscapes",
    name: str = "gtAuto",
    on_image: OnImage | None = None,
) -> dict[str, Any]:
    """Writes a version for other tools: destination, version, digest, images, files.

    Args:
        layout: `cityscapes` (PNG files) or `zarr` (one dense array). name: label type in the names of PNG files.

    Raises:
        ValueError: the destination is not empty, or the layout is unknown.
    """
    if layout not in ("cityscapes", "zarr"):
        raise ValueError(f"layout must be cityscapes or zarr; got {layout!r}")
    reader = _open(store, version)
    if layout == "zarr":
        return asdict(export_zarr(reader, destination, on_image=on_image))
    return asdict(export_cityscapes(reader, destination, name=name, on_image=on_image))


def _open(store: StoreConfig, version: str | None = None) -> LabelStore:
    return LabelStore.open(store.uri, version, storage_options=store.storage_options)


def _provenance() -> dict[str, Any]:
    return {
        "package": {"name": "hmsa-label", "version": package_version(), "git": git_state()},
        "libraries": library_versions(),
        "command": hide_in_arguments(sys.argv),
        "host": socket.gethostname(),
    }
