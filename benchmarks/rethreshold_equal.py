"""Whether another rule without the teacher gives what a run with it gives: all stored thresholds, all kinds of rules.

Images of CamVid with polygons are labeled once with all kinds of evidence; then, for every rule, once more by a run of
its own, and by `rethreshold` of the first labels. Both versions must have one content digest, which covers label and
origin of every pixel; where they differ, the pixels are counted.

    python benchmarks/rethreshold_equal.py --data DATA --weights TEACHER --output RESULT.md
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from results_page import markdown, page, publish

from hmsa_label import DataConfig, EngineConfig, LabelConfig, RuleConfig, TeacherConfig, label_images, rethreshold
from hmsa_label.stores.exports.png import encode_png
from hmsa_label.stores.format.evidence import DEFAULT_GRID, MARGIN_GRID, spelled
from hmsa_label.stores.versions.label_store import LabelStore

PER_CLASS = {"road": 0.95, "building": 0.97, "sky": 0.8, "vegetation": 0.85, "car": 0.7, "person": 0.5, "pole": "off"}
MODES = "trust", "add", "veto", "seen"
EVIDENCE = "confidence", "top2", "disagreement", "growth"


def rules(mask: str) -> dict[str, RuleConfig]:
    """Every rule by its name; `mask` is the file of an ego mask."""
    asked = {f"threshold {spelled(value)}": RuleConfig(threshold=value) for value in (0.0, *DEFAULT_GRID)}
    asked |= {f"margin {spelled(value)}": RuleConfig(threshold=0.0, margin=value) for value in MARGIN_GRID[::3]}
    asked |= {f"disagreement {most}": RuleConfig(max_disagreement=most) for most in (0, 1)}
    asked |= {f"polygons {mode}": RuleConfig(polygons=mode) for mode in MODES}
    asked |= {f"polygons trust, grown {px} px": RuleConfig(polygons="trust", grow_px=px) for px in (1, 3, 8, 16)}
    everything = RuleConfig(
        class_thresholds=PER_CLASS,
        margin=0.3,
        max_disagreement=1,
        border_px=(8, 8, 8, 8),
        ego_mask=mask,
        polygons="add",
        class_polygons={"road": "veto", "car": "seen"},
        grow_px=8,
    )
    return {
        **asked,
        "per class": RuleConfig(class_thresholds=PER_CLASS),
        "polygons by class": RuleConfig(class_polygons={"road": "veto", "car": "seen", "sky": "trust"}),
        "border": RuleConfig(border_px=(15, 18, 84, 14)),
        "ego mask": RuleConfig(ego_mask=mask),
        "preset released-code-0.5": RuleConfig(preset="released-code-0.5"),
        "preset released-code-0.9": RuleConfig(preset="released-code-0.9"),
        "preset no-threshold": RuleConfig(preset="no-threshold"),
        "all at once": everything,
    }


class Labels:
    """Runs of one teacher over the same images, each into a store of its own."""

    def __init__(self, data: str, weights: str, images: int, folder: Path) -> None:
        self._data = DataConfig(root=data, split="train_extra", limit=images)
        self._teacher = TeacherConfig(weights=weights, device="cpu", options={"scales": (0.5, 1.0)})
        self._folder, self._runs = folder, 0

    def run(self, rule: RuleConfig) -> LabelStore:
        """The labels of a run with this rule."""
        self._runs += 1
        place = str(self._folder / f"labels_{self._runs}")
        engine = EngineConfig(executor="local", workers=1, threads=1)
        config = LabelConfig(
            data=self._data, teacher=self._teacher, store=place, rule=rule, evidence=EVIDENCE, engine=engine
        )
        done = label_images(config)
        assert done.images_labelled == done.images_total, done.failed
        return LabelStore.open(place)


def different_pixels(one: LabelStore, other: LabelStore) -> int:
    """Pixels whose label or origin is not the same."""
    return sum(
        int(np.count_nonzero((one.read(key) != other.read(key)) | (one.origin(key) != other.origin(key))))
        for key in one
    )


def compared(labels: Labels, asked: Mapping[str, RuleConfig]) -> list[list[str]]:
    """One row for each rule; the labels that rules are changed of begin at a threshold that no rule has."""
    changed = labels.run(RuleConfig(threshold=0.123))
    rows = []
    for name, rule in asked.items():
        fresh = labels.run(rule)
        # what a rule leaves open is that of a run; `rethreshold` would leave it as it was
        rethreshold(changed.uri, rule if rule.preset else _whole(rule))
        recut = LabelStore.open(changed.uri)
        kept = sum(int(np.count_nonzero(fresh.read(key) != 255)) for key in fresh) / _pixels(fresh)
        pixels = different_pixels(fresh, recut)
        rows.append([name, str(len(fresh)), f"{100 * kept:.2f}", str(pixels), str(fresh.digest == recut.digest)])
    return rows


def _whole(rule: RuleConfig) -> RuleConfig:
    """The same rule over that of a run without one, `paper-0.9`."""
    given = {name: value for name, value in vars(rule).items() if value is not None}
    return RuleConfig(**{**given, "preset": "paper-0.9"})


def _pixels(store: LabelStore) -> int:
    return sum(store.read(key).size for key in store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--output")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as place:
        mask = np.zeros((360, 480), np.uint8)
        mask[310:] = 255
        file = Path(place) / "ego.png"
        file.write_bytes(encode_png(mask))
        rows = compared(Labels(asked.data, asked.weights, asked.images, Path(place)), rules(str(file)))
        columns = ["rule", "images", "kept, %", "different pixels", "same digest"]
        publish(
            page("Another rule without the teacher, and a run with it", place, markdown(columns, rows)), asked.output
        )


if __name__ == "__main__":
    main()
