"""Tells a run that has nothing left to do, without starting Ray or loading a teacher."""

from collections.abc import Iterable

from hmsa_label.pipeline.config import LabelConfig
from hmsa_label.pipeline.label.keeping import Keeping
from hmsa_label.pipeline.label.provenance import coarse_labels_of, told_settings
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, NotAStore
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.runs.record import read_run
from hmsa_label.stores.versions.label_store import LabelStore


def finished_store(
    config: LabelConfig, keeping: Keeping, images: list[ImageRef], known: Iterable[str] = ()
) -> LabelStore | None:
    """The store at its last finished version, if that holds every image as this run would label it.

    Args:
        known: images that failed before and need not be tried again.

    None if images are left to do, and also if anything differs or cannot be told from here: then the run itself finds
    out, and says so.
    """
    if config.relabel:
        return None
    try:
        store = LabelStore.open(config.store, storage_options=config.storage_options)
        if store.commit.run is None or not {image.key for image in images} <= {*store.keys(), *known}:
            return None
        record = read_run(store.root, store.commit.run).record
        labeling = record
        while labeling.get("base_run"):  # a change of the rule keeps the teacher of the run before it
            labeling = read_run(store.root, str(labeling["base_run"])).record
    except (NotAStore, LabelMissing, LabelCorrupt):
        return None
    settings, before = record["settings"], (labeling.get("config") or {}).get("teacher") or {}
    # With equal weights this decides the labels, on whatever device.
    absent = {"rule": None, "semantics": None, "coarse_labels": None, "imported": None}  # of most runs
    told = {**told_settings(config.teacher), **keeping.settings, **coarse_labels_of(config)}
    asked = {"teacher_sha256": None, **absent, **told}
    settings = {**absent, **settings}
    same = all(name in settings and settings[name] == value for name, value in asked.items())
    return store if same and before.get("precision") == getattr(config.teacher, "precision", None) else None
