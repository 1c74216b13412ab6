"""Label files of any data set -> raw class ids."""

import numpy as np

from hmsa_label.pipeline.data.decode import decode_colored_ids, decode_labels
from hmsa_label.pipeline.records import U8
from hmsa_label.stores.images.coco import CocoSource
from hmsa_label.stores.images.panoptic_json import NO_REGION, NUM_IDS
from hmsa_label.stores.images.source import BadImage, ImageSource

NO_CLASS = 255  # no category of a COCO tree has this id


def read_raw_ids(source: ImageSource, path: str) -> U8:
    """[H, W] uint8 raw class ids of a label file that a listing gave.

    Raises:
        BadImage: the file cannot be used; the reason in one line.
    """
    data = source.read(path)
    if not isinstance(source, CocoSource):
        return decode_labels(data)
    ids, regions = decode_colored_ids(data), source.regions(path)
    table = np.zeros(NUM_IDS, np.uint16)  # raw id + 1 by id; 0 where there is no region
    table[regions.ids] = regions.raw_ids + 1
    table[NO_REGION] = NO_CLASS + 1
    found = table[ids]
    if not found.all():
        raise BadImage(f"it holds id {ids[found == 0][0]}, which its JSON file does not list")
    return (found - 1).astype(np.uint8)


def label_content(source: ImageSource, path: str) -> bytes:
    """All that a label file says, for a digest: its bytes, and what a JSON file beside it says of its ids."""
    data = source.read(path)
    if not isinstance(source, CocoSource):
        return data
    regions = source.regions(path)
    return b"".join([data, *(np.asarray(part).tobytes() for part in regions)])
