"""A version as PNG files in the layout of Cityscapes."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from hmsa_label.stores.exports.destination import Destination, Exported, Progress
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.format.forms import is_plain_name
from hmsa_label.stores.format.layout import U8
from hmsa_label.stores.versions.label_store import LabelStore

UNLABELED_ID = 0  # Cityscapes' raw id for "unlabeled"


def export_cityscapes(
    store: LabelStore,
    destination: str,
    *,
    name: str = "gtAuto",
    threads: int = 4,
    on_image: Progress | None = None,
    storage_options: dict[str, Any] | None = None,
) -> Exported:
    """Three PNG files per image: `<name>/<key>_<name>_{labelIds,labelTrainIds,color}.png`.

    With the keys of a Cityscapes tree, such as `train_extra/troisdorf/troisdorf_000000_000073`, that is the layout of
    the data set's own labels, and `name="gtCoarse"` takes their place for tools that know no other. labelIds are the
    class table's raw ids, 0 (unlabeled) where ignored; labelTrainIds keep 255; colors are black where ignored. An
    export that was interrupted is finished by the same call.

    Raises:
        ValueError: if something else is at the destination already, or `name` or a key would lead outside of it.
    """
    if not is_plain_name(name):
        raise ValueError(f"--name becomes a folder and part of file names: letters, digits, . _ - only; got {name!r}")
    for key in store:
        _refuse_outside(key)
    to = Destination.begin(store, destination, storage_options, {"layout": "cityscapes", "name": name})
    ids, colors = _raw_ids(store.classes), _colors(store.classes)

    def write(key: str) -> None:
        label = store.read(key)
        stem = f"{name}/{key}_{name}"
        to.put(f"{stem}_labelIds.png", encode_png(ids[label]))
        to.put(f"{stem}_labelTrainIds.png", encode_png(label))
        to.put(f"{stem}_color.png", encode_png(colors[label]))

    to.fill(write, threads, on_image)
    return to.end(3 * len(store))


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


def _refuse_outside(key: str) -> None:
    parts = PurePosixPath(key).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"the key {key!r} would be written outside of the destination")
