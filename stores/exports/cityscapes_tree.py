"""A version as PNG files in the layout of Cityscapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hmsa_label.stores.exports.destination import Destination, Exported, Progress, refuse_outside, require_plain_name
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.exports.regions import Regions, find_regions
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.versions.label_store import LabelStore

UNLABELED_ID = 0  # Cityscapes' raw id for "unlabeled"
DIVISOR = 1000  # of instanceIds
MAX_THING_ID = 64  # 64,999 fits into 16 bits


def export_cityscapes(
    store: LabelStore,
    destination: str,
    *,
    name: str = "gtAuto",
    threads: int = 4,
    on_image: Progress | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Exported:
    """Three PNG files per image: `<name>/<key>_<name>_{labelIds,labelTrainIds,color}.png`; with instances a fourth.

    With the keys of a Cityscapes tree, such as `train_extra/troisdorf/troisdorf_000000_000073`, that is the layout of
    the data set's own labels, and `name="gtCoarse"` takes their place for tools that know no other. labelIds are the
    class table's raw ids, 0 (unlabeled) where ignored; labelTrainIds keep 255; colors are black where ignored.
    instanceIds are raw id * 1000 + number for an instance, numbered from 0 within its class, and raw ids for all else:
    stuff, and things whose instances nobody told apart. An export that was interrupted is finished by the same call.

    Raises:
        ValueError: if something else is at the destination already, `name` or a key would lead outside of it, or the
            ids of things do not fit into instanceIds.
    """
    require_plain_name(name)
    refuse_outside(store)
    panoptic = store.keys_with_instances()
    if panoptic:
        _require_room(store.classes)
    to = Destination.begin(store, destination, storage_options, {"layout": "cityscapes", "name": name})
    ids, colors = _raw_ids(store.classes), _colors(store.classes)

    def write(key: str) -> None:
        label = store.read(key)
        stem = f"{name}/{key}_{name}"
        to.put(f"{stem}_labelIds.png", encode_png(ids[label]))
        to.put(f"{stem}_labelTrainIds.png", encode_png(label))
        to.put(f"{stem}_color.png", encode_png(colors[label]))
        if key in panoptic:
            regions = find_regions(label, store.instance_map(key, label))
            to.put(f"{stem}_instanceIds.png", encode_png(_instance_ids(regions, ids, key)))

    to.fill(write, threads, on_image)
    scores = "scores of instances, " if panoptic else ""
    return to.end(3 * len(store) + len(panoptic), f"{scores}evidence, and how the labels were made")


def _raw_ids(classes: dict[str, Any]) -> U8:
    """[256] uint8 raw ids by trainId."""
    ids = np.full(256, UNLABELED_ID, np.uint8)
    ids[: len(classes["names"])] = classes["raw_ids"]
    return ids


def _colors(classes: dict[str, Any]) -> U8:
    """[256, 3] uint8 RGB by trainId."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(classes["names"])] = classes["colours"]
    return colors


def _instance_ids(regions: Regions, raw_ids: U8, key: str) -> NDArray[np.uint16]:
    """[H, W] uint16 numbers of an instanceIds file.

    Raises:
        ValueError: a class has more instances than numbers; names the image.
    """
    values = raw_ids[regions.train_ids].astype(np.int64)
    for train_id in np.unique(regions.train_ids[regions.instances > 0]):
        places = np.flatnonzero((regions.train_ids == train_id) & (regions.instances > 0))
        if len(places) > DIVISOR:
            found = f"{key} has {len(places)} instances of class {train_id}"
            raise ValueError(f"{found}; {DIVISOR} fit into instanceIds; use --format coco")
        values[places] = DIVISOR * values[places] + np.arange(len(places))
    return values.astype(np.uint16)[regions.region_of]


def _require_room(classes: dict[str, Any]) -> None:
    """Refuses things whose ids times 1000 do not fit into 16 bits, or are not told from ids without instance."""
    for train_id in classes.get("things", []):
        if not 0 < classes["raw_ids"][train_id] <= MAX_THING_ID:
            raise ValueError(
                f"class {classes['names'][train_id]!r} has raw id {classes['raw_ids'][train_id]}; instanceIds hold "
                f"instances of ids 1 to {MAX_THING_ID}; use --format coco"
            )
