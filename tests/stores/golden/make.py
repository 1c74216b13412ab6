"""Makes the store in v1/, which every later version of the code must read. Run once per format version, never again.

    python tests/stores/golden/make.py tests/stores/golden/v1

Two images of different sizes, then a change of threshold, then a tag on the first version; see test_golden.py.
"""

import sys

import numpy as np

from hmsa_label.stores.format.evidence import DEFAULT_GRID, code_of, label_at, level_of
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from hmsa_label.stores.versions.rethreshold import rethreshold
from hmsa_label.stores.versions.tags import tag

CLASSES = {
    "name": "three",
    "names": ["road", "car", "sky"],
    "colours": [[128, 64, 128], [0, 0, 142], [70, 130, 180]],
    "raw_ids": [7, 26, 23],
    "ignore_index": 255,
}
SIZES = {"town/wide": (2, 6), "town/tall": (4, 3)}


def arrays(height: int, width: int) -> dict[str, np.ndarray]:
    """label, top1 and code of an image whose class and confidence follow from the place of the pixel."""
    place = np.arange(height * width).reshape(height, width)
    top1 = (place % 3).astype(np.uint8)
    code = code_of((0.45 + 0.05 * place).astype(np.float32), DEFAULT_GRID)
    return {"label": label_at(top1, code, level_of(0.9, DEFAULT_GRID)), "top1": top1, "code": code}


def main(uri: str) -> None:
    LabelStore.create(uri, CLASSES)
    settings = {"teacher_sha256": "0" * 64, "scales": [0.5, 1.0, 2.0], "threshold": 0.9}
    run = RunWriter(uri, {"settings": settings, "data": {"dataset": "folder", "root": "/images", "split": "train"}})
    segment = SegmentWriter(uri, run.run_id, DEFAULT_GRID, Rule(0.9), 2)
    facts = {"source_sha256": "1" * 64, "source_bytes": 1, "device": "cpu", "mean_confidence": 0.75}
    run.append([segment.write(ImageFacts(key=key, source=f"{key}.png", **facts), arrays(*SIZES[key])) for key in SIZES])
    run.finish([{"key": "town/broken", "reason": "truncated"}], seconds=1.0)
    tag(uri, "first", message="before the threshold changed")
    rethreshold(uri, 0.7)


if __name__ == "__main__":
    main(sys.argv[1])
