"""What polygons do for labels: precision and recall of each rule, where the exact labels are known.

Three sets of images. Drawn streets with the coarse polygons of the demo. Photos with exact labels that the teacher has
not seen; polygons are drawn over these labels with care, and in a hurry. And photos whose exact labels are not known,
with polygons of two types. Every image is labeled once; each rule is then cut from the evidence, as `rethreshold` does.

    python benchmarks/polygon_rules.py --streets-weights demo/teacher/best.safetensors --data camvid \
        --weights teacher/last.safetensors --scales 0.5,1.0 --output benchmarks/results/polygon_rules.md
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from drawn_polygons import U8, careful, hurried, labeled_photos
from PIL import Image
from results_page import markdown, page

from hmsa_label import (
    CITYSCAPES,
    DataConfig,
    EngineConfig,
    LabelConfig,
    LabelStore,
    RuleConfig,
    TeacherConfig,
    label_images,
)
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.pipeline.demo.scenes.tree import CITIES, DEFAULT_SIZE, draw_tree
from hmsa_label.stores.format.cut import Cut
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.versions.recut import recut

THRESHOLD = 0.9
STREETS_SEED = 2000  # streets that no teacher was trained on
THINGS = tuple(CITYSCAPES.names[train_id] for train_id in CITYSCAPES.things)
PLAIN = Rule(THRESHOLD)
RULES = {
    "no polygons": PLAIN,
    "trust": replace(PLAIN, polygons="trust"),
    "add": replace(PLAIN, polygons="add"),
    "veto": replace(PLAIN, polygons="veto"),
    "seen": replace(PLAIN, polygons="seen"),
    "trust, grow 3 px": replace(PLAIN, polygons="trust", grow_px=3),
    "add, grow 3 px": replace(PLAIN, polygons="add", grow_px=3),
    "veto, things trust": replace(PLAIN, polygons="veto", class_polygons=dict.fromkeys(THINGS, "trust")),
    "polygons alone": replace(PLAIN, polygons="trust", class_thresholds=dict.fromkeys(CITYSCAPES.names, "off")),
}
BY_CLASS = ("no polygons", "trust", "add", "veto", "trust, grow 3 px", "veto, things trust", "polygons alone")
TAKEAWAY = """**What to take from it.** Over all classes `trust` cost no precision where the exact labels are known, and
it gives back what the teacher lacks (fence, traffic sign, person, rider): begin with it, and let polygons grow only if
they keep clear of the outlines. Where they were drawn in a hurry, `veto` makes what is kept more right than `trust`
does, for fewer labels.

A pixel is kept if it has a class. Precision is the share of the kept pixels that are right, recall the share of all
pixels that are kept and right, both among pixels with an exact label. Polygons that are drawn over exact labels flatter
every rule: people also mistake one thing for another. The threshold is 0.9 throughout; *polygons alone* keeps nothing
of the teacher."""
Exact = Callable[[str], U8]  # key -> [H, W] exact trainIds, 255 where there are none


@dataclass
class Score:
    """Pixels by exact class, and by label: row and column 255 are pixels without one."""

    pixels: np.ndarray = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, exact: U8, label: U8) -> None:
        pairs = exact.astype(np.int64).ravel() * 256 + label.ravel()
        self.pixels += np.bincount(pairs, minlength=65536).reshape(256, 256)

    @property
    def kept(self) -> float:
        return 1 - self.pixels[:, 255].sum() / self.pixels.sum()

    def right(self, train_id: int | None = None) -> tuple[float, float]:
        """(precision, recall) of a class, or of all; NaN where there is nothing to divide by."""
        known = self.pixels[:255]
        hit = np.diag(known[:, :255])
        kept, there = known[:, :255].sum(0), known.sum(1)
        if train_id is None:
            return hit.sum() / kept.sum(), hit.sum() / there.sum()
        with np.errstate(invalid="ignore"):
            return hit[train_id] / np.float64(kept[train_id]), hit[train_id] / np.float64(there[train_id])


def cuts_of(store: LabelStore, rule: Rule) -> Iterator[tuple[str, Cut]]:
    for key in store:
        yield key, recut(store, key, rule)


def scored(store: LabelStore, exact_of: Exact) -> dict[str, Score]:
    """The score of each rule."""
    scores = {name: Score() for name in RULES}
    for name, rule in RULES.items():
        for key, made in cuts_of(store, rule):
            scores[name].add(exact_of(key), made.label)
    return scores


def percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def tables_of(scores: dict[str, Score]) -> list[str]:
    """All classes together, then by class the precision and recall of some rules."""
    rows = [(name, percent(score.kept), *map(percent, score.right())) for name, score in scores.items()]
    whole = markdown(("rule", "kept %", "precision %", "recall %"), rows)
    there = np.flatnonzero(scores["no polygons"].pixels[:255].sum(1))
    by_class = [
        (CITYSCAPES.names[train_id],
         *("{}, {}".format(*map(percent, scores[rule].right(train_id))) for rule in BY_CLASS))
        for train_id in there
    ]  # fmt: skip
    return [whole, "Precision, recall in % by class:", markdown(("class", *BY_CLASS), by_class)]


def label(root: Path, split: str, teacher: TeacherConfig, store: Path, kind: str = "gtCoarse") -> LabelStore:
    config = LabelConfig(
        data=DataConfig(root=str(root), split=split),
        teacher=teacher,
        store=str(store),
        rule=RuleConfig(threshold=THRESHOLD),
        evidence=("growth",),
        coarse_labels=kind,
        engine=EngineConfig(executor="local", workers=1),
    )
    label_images(config)
    return LabelStore.open(store)


def streets(folder: Path, count: int, teacher: TeacherConfig) -> tuple[LabelStore, Exact]:
    """Drawn streets with the polygons of the demo, and their exact labels."""
    draw_tree(folder / "streets", {"train_extra": count}, seed=STREETS_SEED)
    place = sorted(CITIES).index("train_extra")
    keys = sorted(path.relative_to(folder / "streets/leftImg8bit").as_posix().removesuffix("_leftImg8bit.png")
                  for path in (folder / "streets/leftImg8bit").rglob("*.png"))  # fmt: skip
    exact = {}
    for index, key in enumerate(keys):  # the same draws as in the tree
        ids = draw_street(DEFAULT_SIZE, np.random.default_rng([STREETS_SEED, place, index]))[1]
        exact[key] = CITYSCAPES.train_id_of[np.where(ids >= 1000, ids // 1000, ids)]
    return label(folder / "streets", "train_extra", teacher, folder / "street_labels"), exact.__getitem__


def photos(folder: Path, data: str, split: str, draw: Any, teacher: TeacherConfig) -> tuple[LabelStore, Exact]:
    """Photos with polygons that are drawn over their exact labels."""
    exact = {}
    for number, (key, image, raw) in enumerate(labeled_photos(data, split)):
        exact[f"{split}/{key}"] = CITYSCAPES.train_id_of[raw]
        drawn = draw(raw, np.random.default_rng([11, number]))
        for kind, name, pixels in (("leftImg8bit", "leftImg8bit", image), ("gtCoarse", "gtCoarse_labelIds", drawn)):
            path = folder / f"tree/{kind}/{split}/{key}_{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return label(folder / "tree", split, teacher, folder / "labels"), exact.__getitem__


def kept_and_agreement(stores: dict[str, LabelStore]) -> list[str]:
    """What each rule keeps, and by class how the teacher and the polygons agree."""
    kept, classes = {}, {}
    for kind, store in stores.items():
        for name, rule in RULES.items():
            counts = np.zeros(2)
            for _, made in cuts_of(store, rule):
                counts += (made.label != 255).sum(), made.label.size
            kept[name, kind] = counts[0] / counts[1]
        found = [made.polygons for _, made in cuts_of(store, PLAIN)]
        classes[kind] = np.sum([(one.px, one.kept_px, one.agree_px) for one in found if one is not None], axis=0)
    rows = [(name, *(percent(kept[name, kind]) for kind in stores)) for name in RULES]
    parts = [markdown(("kept %", *stores), rows)]
    heads = [f"{kind}: {what}" for kind in stores for what in ("teacher keeps %", "of these agree %")]
    there = np.flatnonzero(np.sum([counts[0] for counts in classes.values()], axis=0))
    by_class = [(CITYSCAPES.names[place], *cells(classes.values(), place)) for place in there]
    return [*parts, markdown(("class of the polygon", *heads), by_class)]


def cells(counts: Iterable[np.ndarray], place: int) -> Iterator[str]:
    for px, kept, agree in counts:
        yield percent(np.float64(kept[place]) / px[place] if px[place] else np.nan)
        yield percent(np.float64(agree[place]) / kept[place] if kept[place] else np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--streets-weights", "--data", "--weights", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--streets", type=int, default=60, help="how many to draw")
    parser.add_argument("--streets-scales", default="1.0")
    parser.add_argument("--scales", default="1.0")
    options = parser.parse_args()
    given = {"scales": tuple(map(float, options.scales.split(",")))}
    drawn = {"scales": tuple(map(float, options.streets_scales.split(","))), "fusion": "average"}
    teacher = TeacherConfig(weights=options.weights, options=given, device="cpu")
    parts = [TAKEAWAY]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        street_teacher = TeacherConfig(weights=options.streets_weights, options=drawn, device="cpu")
        parts += [f"## {options.streets} drawn streets, polygons of the demo",
                  *tables_of(scored(*streets(folder, options.streets, street_teacher)))]  # fmt: skip
        for title, draw in (("with care", careful), ("in a hurry", hurried)):
            found = photos(folder / title.replace(" ", "_"), options.data, "val", draw, teacher)
            parts += [f"## {len(found[0])} photos (val), polygons drawn {title}", *tables_of(scored(*found))]
        extra = {kind: label(Path(options.data), "train_extra", teacher, folder / kind, kind)
                 for kind in ("gtCoarse", "gtRough")}  # fmt: skip
        parts += [
            f"## {len(extra['gtCoarse'])} photos (train_extra), polygons of two types",
            *kept_and_agreement(extra),
        ]
        Path(options.output).write_text(page("Rules about polygons", name, *parts))


if __name__ == "__main__":
    main()
