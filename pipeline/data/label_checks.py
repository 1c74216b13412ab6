"""Ground truth that cannot be what it is taken for."""

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.labelers.taxonomy import ClassTable
from hmsa_label.pipeline.data.decode import decode_labels
from hmsa_label.stores.images.coco import CocoSource
from hmsa_label.stores.images.mapillary import MapillarySource
from hmsa_label.stores.images.source import ImageRef, ImageSource, split_names
from hmsa_label.stores.parallel import map_threads

SAMPLED_FILES = 8
READERS = 4
LAST_TRAIN_ID, LAST_LABEL_ID = 18, 33  # of Cityscapes
VOID_LABEL_IDS = range(7)  # labelIds of no class; trainIds of road, sidewalk, building and so on
MANY_VOID_IDS = 3


def refuse_train_ids(source: ImageSource, refs: list[ImageRef]) -> None:
    """Looks into a few label files of a tree of labelIds.

    They are taken for trainIds if none has an id that only labelIds go up to (vegetation, sky and cars among them), and
    ids that labelIds have for no class at all are frequent.

    Raises:
        ValueError: they hold trainIds; the message names a file, what is expected and what to do.
    """
    if isinstance(source, MapillarySource | CocoSource):
        return
    step = max(1, len(refs) // SAMPLED_FILES)
    sampled = [str(ref.labels) for ref in refs[::step] if ref.labels is not None][:SAMPLED_FILES]
    counts = np.zeros(256, np.int64)
    for found in map_threads(lambda path: _ids(source, path), sampled, READERS):
        counts += found
    if counts[LAST_TRAIN_ID + 1 : LAST_LABEL_ID + 1].any():
        return
    if np.count_nonzero(counts[VOID_LABEL_IDS]) >= MANY_VOID_IDS:
        raise ValueError(
            f"the labels of {source.root} look like trainIds: of {len(sampled)} files such as {sampled[0]} none has an "
            f"id of {LAST_TRAIN_ID + 1} to {LAST_LABEL_ID}, and there are ids below {VOID_LABEL_IDS.stop}, which are "
            f"no class; *_labelIds.png must hold labelIds, 0 to {LAST_LABEL_ID}, as in the official archives"
        )


def refuse_without_instances(source: ImageSource, refs: list[ImageRef], classes: ClassTable) -> None:
    """Holds that every labeled image has a file that tells its instances.

    Raises:
        ValueError: the classes have no things, or files are missing; the message names one and what was looked for.
    """
    if not classes.things:
        raise ValueError(
            f"the classes of {source.root} ({classes.name}) have no things, so no instances can be learned from them; "
            "train a semantic model, or use data with things"
        )
    missing = [ref for ref in refs if ref.instances is None]
    if missing:
        wanted = (
            "instances/NAME.png or panoptic/NAME.png"
            if isinstance(source, MapillarySource)
            else (f"{str(missing[0].labels).removesuffix('labelIds.png')}instanceIds.png")
        )
        raise ValueError(
            f"{len(missing)} of {len(refs)} labeled images of {source.root} have no file of instances, which a "
            f"panoptic model learns from; for {missing[0].key} {wanted} was looked for: add the files, or train a "
            "semantic model"
        )


def about_held_out(split: str, teacher: dict[str, Any]) -> str | None:
    """What to know of a run on images that the training of its weights held out for validation; None for other runs.

    Args:
        split: that is labeled. teacher: a worker's info.
    """
    semantics = teacher.get("semantics") or {}
    validated = {name for one in (teacher, semantics) if one.get("val_split") for name in split_names(one["val_split"])}
    both = [name for name in split_names(split) if name in validated]
    if not both:
        return None
    return (
        f"the training of these weights held out split {' and '.join(both)} for validation; a student that learns from "
        "labels of these images cannot be scored on them"
    )


def _ids(source: ImageSource, path: str) -> NDArray[np.int64]:
    """[256] pixels of each id in a file; zeros for one that cannot be read, which is named when its turn comes."""
    with suppress(ValueError):
        return np.bincount(decode_labels(source.read(path)).ravel(), minlength=256)
    return np.zeros(256, np.int64)
