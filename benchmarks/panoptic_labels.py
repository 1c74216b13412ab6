"""What fused teachers are worth, and whether panoptic labels are the same however they are made.

Three teachers are scored on a split with instances: a semantic one alone, whose things have no instances (each class of
an image is one region), a panoptic one alone, and the classes of the first with the instances of the second
(--semantic-from), or with the mean of what both say of classes. Their stored labels are scored, too, at a threshold.
Then the split is labeled by threads and by Ray with several workers, and each of the three thresholds is changed
without the teacher and by a fresh run.

    python benchmarks/panoptic_labels.py --data demo/streets --panoptic axial/best.safetensors \
        --semantic hmsa/best.safetensors --output benchmarks/results/panoptic_labels.md
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from results_page import markdown, page, publish

from hmsa_label import (
    CITYSCAPES,
    DataConfig,
    EngineConfig,
    EvaluateConfig,
    LabelConfig,
    LabelStore,
    PanopticEvaluation,
    Prediction,
    StoredInstance,
    Teacher,
    TeacherConfig,
    evaluate,
    label_images,
    rethreshold,
)
from hmsa_label.pipeline.data.panoptic_labels import images_with_instances, read_panoptic
from hmsa_label.pipeline.data.panoptic_scores import PanopticScores
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.stores.images.open import open_images

THRESHOLD = 0.5
RULES = (
    {"threshold": 0.7},
    {"threshold": THRESHOLD, "center_threshold": 0.3},
    {"threshold": THRESHOLD, "instance_threshold": 0.6},
    {"threshold": 0.6, "center_threshold": 0.2, "instance_threshold": 0.5},
)
BOTH = "fused, classes of both"
COLUMNS = ("", "PQ", "PQ things", "PQ stuff", "SQ", "RQ", "AP", "mIoU")


def as_regions(top1: np.ndarray, confidence: np.ndarray) -> Prediction:
    """A semantic prediction whose things are one region for each class of an image."""
    instance, listed = np.zeros(top1.shape, np.uint16), []
    for train_id in CITYSCAPES.things:
        if (inside := top1 == train_id).any():
            instance[inside] = len(listed) + 1
            sure = float(confidence[inside].mean())
            listed.append(StoredInstance(train_id, 1.0, sure, int(inside.sum()), (0, 0, 1, 1)))
    return Prediction(label=top1, top1=top1, confidence=confidence, instance=instance, instances=tuple(listed))


def scored(data: DataConfig, predict: Callable[[str, np.ndarray], Prediction]) -> PanopticEvaluation:
    """Scores of what `predict` says of each image of a split, by its key and its pixels."""
    source, scores = open_images(data.dataset, data.root), PanopticScores(CITYSCAPES)
    for ref in images_with_instances(source, data.split):
        image, labels = read_panoptic(source, ref, CITYSCAPES)
        scores.add(labels, predict(ref.key, image))
    return scores.scores()


def of_store(store: LabelStore) -> Callable[[str, np.ndarray], Prediction]:
    """What a store holds of an image, as a prediction; what the rule dropped belongs to nothing."""

    def read(key: str, image: np.ndarray) -> Prediction:
        label = store.read(key)
        sure = (label != CITYSCAPES.ignore_index).astype(np.float32)
        if not store.has_instances:
            return as_regions(label, sure)
        instance, listed = store.instances(key)
        return Prediction(label=label, top1=label, confidence=sure, instance=instance, instances=tuple(listed))

    return read


def row(name: str, found: PanopticEvaluation) -> list[str]:
    things, stuff = (kind["pq"] if kind else 0.0 for kind in (found.things, found.stuff))
    figures = (found.pq, things, stuff, found.sq, found.rq, found.ap, found.miou)
    return [name, *(f"{100 * figure:.1f}" for figure in figures)]


def run(data: DataConfig, teacher: TeacherConfig, store: str, rule: dict, **engine: object) -> str:
    """Labels a split; the digest."""
    chosen = EngineConfig(**{"executor": "local", "workers": 1, **engine})
    asked = RuleConfig(**rule)
    return label_images(LabelConfig(data=data, teacher=teacher, store=store, engine=chosen, rule=asked)).digest


def equal_pixels(first: str, second: str) -> bool:
    """Whether two stores hold the same labels, instances and tables."""
    a, b = LabelStore.open(first), LabelStore.open(second)
    if a.keys() != b.keys():
        return False
    return all(
        np.array_equal(a.read(key), b.read(key))
        and np.array_equal(a.instances(key)[0], b.instances(key)[0])
        and a.instances(key)[1] == b.instances(key)[1]
        for key in a
    )


def same_everywhere(data: DataConfig, teacher: TeacherConfig, folder: str) -> tuple[list[list[str]], bool]:
    """Digests by executor and number of workers, and by rule with and without the teacher; whether all agree."""
    rule = {"threshold": THRESHOLD}
    first, rows, agree = run(data, teacher, f"{folder}/threads-1", rule), [], True
    for name, engine in (("threads, 2 workers", {"workers": 2}), ("Ray, 2 workers", {"executor": "ray", "workers": 2})):
        digest = run(data, teacher, f"{folder}/{name.replace(', ', '-').replace(' ', '-')}", rule, **engine)
        agree &= digest == first
        rows.append([f"{name}, against threads, 1 worker", digest[:16], first[:16], yes(digest == first)])
    for number, changed in enumerate(RULES):
        fresh_store, store = f"{folder}/fresh-{number}", f"{folder}/changed-{number}"
        fresh = run(data, teacher, fresh_store, changed)
        run(data, teacher, store, rule)
        digest = rethreshold(store, RuleConfig(**changed)).digest
        same = digest == fresh and equal_pixels(store, fresh_store)
        agree &= same
        rows.append([f"rethreshold {told(changed)}, against a fresh run", digest[:16], fresh[:16], yes(same)])
    return rows, agree


def told(rule: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in rule.items())


def yes(agree: bool) -> str:
    return "the same" if agree else "DIFFERENT"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--panoptic", required=True, help="weights of a panoptic network")
    parser.add_argument("--panoptic-options", type=json.loads, default={})
    parser.add_argument("--semantic", required=True, help="weights of a semantic network")
    parser.add_argument("--semantic-options", type=json.loads, default={})
    parser.add_argument("--share", type=float, default=0.5, help="of the semantic teacher, where both tell the classes")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    data = DataConfig(root=arguments.data, split=arguments.split)
    semantic = TeacherConfig(weights=arguments.semantic, options=arguments.semantic_options, device="cpu")
    panoptic = TeacherConfig(
        weights=arguments.panoptic, teacher="axial_deeplab", options=arguments.panoptic_options, device="cpu"
    )
    fused = replace(panoptic, semantic_from=arguments.semantic, semantic_settings=arguments.semantic_options)
    loaded = Teacher(semantic)

    def regions(key: str, image: np.ndarray) -> Prediction:
        found = loaded.predict(image)
        return as_regions(found.top1, found.confidence)

    both = replace(fused, options={**panoptic.options, "semantic_share": arguments.share})
    teachers = {"semantic alone": semantic, "panoptic alone": panoptic, "fused": fused, BOTH: both}
    rows = [row("semantic alone", scored(data, regions))]
    for name in ("panoptic alone", "fused", BOTH):
        rows.append(row(name, evaluate(EvaluateConfig(data=data, teacher=teachers[name]))))
    with tempfile.TemporaryDirectory() as folder:
        stored = []
        for name, teacher in teachers.items():
            store = str(Path(folder) / name.replace(",", "").replace(" ", "-"))
            run(data, teacher, store, {"threshold": THRESHOLD})
            stored.append(row(name, scored(data, of_store(LabelStore.open(store)))))
        checks, agree = same_everywhere(data, panoptic, folder)
        fused_checks, fused_agree = same_everywhere(data, fused, f"{folder}/fused")
        text = page(
            "Panoptic labels: fused teachers, and the same labels however they are made",
            folder,
            f"Teachers on {arguments.split}, percent:",
            markdown(COLUMNS, rows),
            f"Their stored labels at threshold {THRESHOLD}, where what is not sure belongs to nothing, percent:",
            markdown(COLUMNS, stored),
            "Content digests of the panoptic teacher's labels:",
            markdown(("", "digest", "expected", "pixels and tables"), checks),
            "Of the fused teachers' labels:",
            markdown(("", "digest", "expected", "pixels and tables"), fused_checks),
        )
    publish(text, arguments.output)
    if not (agree and fused_agree):
        raise SystemExit("labels that should be the same are not")


if __name__ == "__main__":
    main()
