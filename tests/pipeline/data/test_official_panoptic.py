"""Panoptic quality against the published evaluators, on label files as Cityscapes has them and on exported files."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.labelers.panoptic.quality import PanopticQuality, Quality
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.audit.store import export_labels
from hmsa_label.pipeline.config import DataConfig, EngineConfig, EvaluateConfig, LabelConfig, StoreConfig
from hmsa_label.pipeline.data.classes import classes_of
from hmsa_label.pipeline.data.panoptic_labels import images_with_instances, panoptic_map
from hmsa_label.pipeline.data.panoptic_scores import PanopticEvaluation
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.rules import RuleConfig
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.stores.format.instances import StoredInstance, exact
from hmsa_label.stores.format.receipt import ImageFacts
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from hmsa_label.stores.runs.segment import SegmentWriter
from hmsa_label.stores.runs.writer import RunWriter
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import FakeTeacher, fake

EVALUATORS = ("cityscapesscripts.evaluation.evalPanopticSemanticLabeling", "panopticapi.evaluation")
Ids = NDArray[np.uint16]
Labels = dict[str, tuple[NDArray[np.uint8], NDArray[np.uint16]]]


def published(module: str) -> Any:
    """A published module; its import warns of what NumPy and Python deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module, reason=f"needs {module.partition('.')[0]}")


def drawn_truth(rng: np.random.Generator, size: tuple[int, int]) -> Ids:
    """Blocks of stuff and of ignored ids; over them instances, crowds, and caravans and trailers, which are ignored."""
    height, width = size
    blocks = rng.choice([0, 1, 4, 7, 7, 8, 11, 17, 21, 23], (-(-height // 8), -(-width // 8)))
    ids = blocks.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint16)
    values = [26000, 26001, 26003, 24000, 24001, 33000, 25000, 28000, 27000, 26, 24, 33, 29000, 30001, 29]
    for value in rng.permutation(values):
        top, left = rng.integers(0, height), rng.integers(0, width)
        ids[top : top + rng.integers(3, 16), left : left + rng.integers(3, 20)] = value
    return ids


def disturbed(ids: Ids, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Label and instances [H, W] of a teacher that is often right: things move, cover others, change their class."""
    raw = np.where(ids >= 1000, ids // 1000, ids)
    label = CITYSCAPES.train_id_of[raw]
    label[label == 255] = 0  # a teacher has a class for what nobody labeled
    instance = np.zeros(ids.shape, np.uint16)
    for number, value in enumerate(rng.permutation(np.unique(ids[ids >= 24])), 1):
        mask = np.roll(ids == value, tuple(rng.integers(-2, 3, 2)), (0, 1))
        class_of = CITYSCAPES.train_id_of[value // 1000 if value >= 1000 else value]
        class_of = rng.choice([class_of, class_of, class_of, 13]) if class_of != 255 else 13
        label[mask], instance[mask] = class_of, number
    missed = np.isin(label, CITYSCAPES.things) & (instance == 0)  # what an instance moved away from
    label[missed] = 255
    label[rng.random(ids.shape) < 0.03] = 255
    label[: ids.shape[0] // 5] = np.where(rng.random() < 0.3, 255, label[: ids.shape[0] // 5])
    return label, instance


def edges() -> list[tuple[Ids, tuple[NDArray[np.uint8], NDArray[np.uint16]]]]:
    """Where the rules turn, in rows of 8 px; a pair is (labels, (label, instance) of the teacher)."""

    def row(*values: int) -> Any:
        return np.array([values])

    def predicted(label: Any, instance: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        return label.astype(np.uint8), instance.astype(np.uint16)

    car, none = row(*[13] * 8), row(*[0] * 8)
    return [
        # an IoU of one half is no match
        (row(*[26000] * 8), predicted(row(*[13] * 4, *[255] * 4), row(*[1] * 4, *[0] * 4))),
        # half of a region on void, or on a crowd of its class, is not more than half
        (row(*[0] * 4, *[7] * 4), predicted(car, none + 1)),
        (row(*[26] * 4, *[7] * 4), predicted(car, none + 1)),
        (row(*[26] * 5, *[7] * 3), predicted(car, none + 1)),
        # void and the crowd together are; a crowd of another class does not count
        (row(*[26] * 3, *[1] * 2, *[7] * 3), predicted(car, none + 1)),
        (row(*[24] * 5, *[7] * 3), predicted(car, none + 1)),
        # void does not count for the union: 3 of 5 px
        (row(*[26000] * 3, *[3] * 3, *[7] * 2), predicted(row(*[13] * 6, 0, 0), row(*[1] * 6, 0, 0))),
        # road is trainId 0, and is no void
        (row(*[7] * 8), predicted(row(*[0] * 7, 255), none)),
        (row(*[0] * 8), predicted(none, none)),
        (row(*[7] * 4, *[8] * 4), predicted(none + 255, none)),
    ]


def write_tree(root: Path, truth: dict[str, Ids], images: dict[str, NDArray[np.uint8]] | None = None) -> None:
    for key, ids in truth.items():
        labels = np.where(ids >= 1000, ids // 1000, ids)
        image = np.zeros((*ids.shape, 3), np.uint8) if images is None else images[key]
        for path, pixels in (
            (f"leftImg8bit/{key}_leftImg8bit.png", image),
            (f"gtFine/{key}_gtFine_labelIds.png", labels.astype(np.uint8)),
            (f"gtFine/{key}_gtFine_instanceIds.png", ids.astype(np.uint16)),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / path)


def write_store(uri: str, labels: Labels, *, panoptic: bool) -> None:
    """A finished store; `panoptic` leaves out the instances otherwise."""
    LabelStore.create(uri, CITYSCAPES.to_dict())
    rule = Rule(0.5)
    run = {"settings": {"teacher_sha256": "a" * 64, "scales": [1.0], **rule.settings}}
    writer = RunWriter(uri, {**run, "data": {"dataset": "cityscapes", "root": "/images", "split": "val"}})
    segment = SegmentWriter(uri, writer.run_id, None, rule, 100)
    receipts = []
    for key, (label, instance) in labels.items():
        table, numbers = instances_of(label, instance)
        facts = ImageFacts(
            key=key,
            source=f"leftImg8bit/{key}_leftImg8bit.png",
            source_sha256="ab" * 32,
            source_bytes=9,
            device="cpu",
            mean_confidence=0.8,
            instances=table if panoptic else None,
        )
        receipts.append(segment.write(facts, {"label": label, **({"instance": numbers} if panoptic else {})}))
    writer.append(receipts)
    writer.finish()


def instances_of(label: Any, instance: Any) -> tuple[tuple[StoredInstance, ...], NDArray[np.uint16]]:
    """The table of a map, and the map numbered as the table is."""
    found, table = np.zeros(instance.shape, np.uint16), []
    for number in np.unique(instance[(instance > 0) & (label != 255)]):
        mask = (instance == number) & (label != 255)
        (top, bottom), (left, right) = ((at.min(), at.max()) for at in np.nonzero(mask))
        box = (left, top, right - left + 1, bottom - top + 1)
        table.append(StoredInstance(label[mask][0], 0.9, 0.9, mask.sum(), box))
        found[mask] = len(table)
    return exact(table), found


class Scene(NamedTuple):
    """Labels in a Cityscapes tree, what a teacher says in a store, and the same exported as COCO panoptic."""

    tree: Path
    labels: Labels
    store: str
    exported: Path


@pytest.fixture(scope="module", params=["panoptic", "semantic"])
def scene(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Of a store with instances, and of one without."""
    folder, rng, pairs = tmp_path_factory.mktemp("scene"), np.random.default_rng(7), edges()
    for size in ((40, 64), (41, 67), (64, 33), (24, 24)):
        ids = drawn_truth(rng, size)
        pairs.append((ids, disturbed(ids, rng)))
    keys = [f"val/ulm/ulm_{number:06}_000019" for number in range(len(pairs))]
    labels = {key: labels for key, (_, labels) in zip(keys, pairs, strict=True)}
    write_tree(folder / "tree", {key: ids for key, (ids, _) in zip(keys, pairs, strict=True)})
    write_store(str(folder / "store"), labels, panoptic=request.param == "panoptic")
    export_labels(StoreConfig(uri=str(folder / "store")), folder / "exported", layout="coco")
    return Scene(folder / "tree", labels, str(folder / "store"), folder / "exported")


def our_quality(tree: Path, predicted: Callable[[str], Any]) -> PanopticQuality:
    quality, source = PanopticQuality(CITYSCAPES), open_images("cityscapes", tree)
    for ref in images_with_instances(source, "val"):
        quality.add(panoptic_map(source, ref, CITYSCAPES), predicted(ref.key))
    return quality


def in_store(store: str) -> Callable[[str], Any]:
    """Panoptic maps of a store's labels by key."""
    opened = LabelStore.open(store)

    def read(key: str) -> Any:
        instance = opened.instances(key)[0] if opened.has_instances else 0
        return opened.read(key).astype(np.int32) * DIVISOR + instance

    return read


def official_counts(evaluator: str, tree: Path, exported: Path, folder: Path) -> tuple[Any, dict[int, Any]]:
    """What a published evaluator counts of exported files, against labels that a published script has converted."""
    official, converter = published(evaluator), published("cityscapesscripts.preparation.createPanopticImgs")
    converter.convert2panoptic(str(tree / "gtFine"), str(folder), setNames=["val"])
    truth = json.loads((folder / "cityscapes_panoptic_val.json").read_text())
    ours = json.loads((exported / "annotations/panoptic_gtAuto.json").read_text())
    by_image = {entry["image_id"]: entry for entry in ours["annotations"]}
    pairs = [(entry, by_image[entry["image_id"]]) for entry in truth["annotations"]]
    categories = {entry["id"]: entry for entry in truth["categories"]}
    folders = str(folder / "cityscapes_panoptic_val"), str(exported / "annotations/panoptic_gtAuto")
    return official.pq_compute_single_core(0, pairs, *folders, categories), categories


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_panoptic_quality_is_that_of_the_published_evaluators(
    evaluator: str, scene: Scene, tmp_path: Path, capsys: Any
) -> None:
    counts, categories = official_counts(evaluator, scene.tree, scene.exported, tmp_path)
    quality = our_quality(scene.tree, in_store(scene.store))
    for train_id, raw_id in enumerate(CITYSCAPES.raw_ids):
        found = counts[raw_id]
        expected = [found.iou, found.tp, found.fp, found.fn]
        assert quality.counts[train_id] == pytest.approx(expected, abs=1e-9), CITYSCAPES.names[train_id]
    for isthing, mean in ((None, quality.mean()), (True, quality.of_things), (False, quality.of_stuff)):
        average, _ = counts.pq_average(categories, isthing=isthing)
        assert isinstance(mean, Quality)
        assert mean == pytest.approx((average["pq"], average["sq"], average["rq"]), abs=1e-6)
    assert 0.1 < quality.mean().pq < 0.9
    assert (quality.counts.sum(0) > 0).all()
    capsys.readouterr()


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_evaluate_scores_a_teacher_as_the_published_evaluators_score_its_exported_labels(
    evaluator: str, tmp_path: Path, capsys: Any
) -> None:
    rng, teacher, truth, images = (
        np.random.default_rng(1),
        FakeTeacher(None, torch.device("cpu"), instances=True),
        {},
        {},
    )
    sure = [color for color in rng.integers(16, 256, (20, 3)) if color @ [5, 3, 1] % 256]  # none of confidence 0
    for number in range(3):
        key = f"val/ulm/ulm_{number:06}_000019"
        images[key] = np.array(sure)[rng.integers(0, len(sure), (5, 8))].repeat(8, 0).repeat(8, 1).astype(np.uint8)
        images[key][10:14, :7] = 0  # nothing, says the teacher
        truth[key] = nearly(teacher.predict(torch.from_numpy(images[key])[None]), rng)
    write_tree(tmp_path / "tree", truth, images)
    data, fake_teacher = DataConfig(root=tmp_path / "tree", split="val"), fake(instances=True)
    scores = evaluate(EvaluateConfig(data=data, teacher=fake_teacher))
    store, engine = str(tmp_path / "store"), EngineConfig(executor="local", workers=1)
    label_images(
        LabelConfig(data=data, teacher=fake_teacher, store=store, rule=RuleConfig(threshold=1e-6), engine=engine)
    )
    export_labels(StoreConfig(uri=store), tmp_path / "exported", layout="coco")
    counts, categories = official_counts(evaluator, tmp_path / "tree", tmp_path / "exported", tmp_path)
    average, by_class = counts.pq_average(categories, isthing=None)
    assert isinstance(scores, PanopticEvaluation)
    assert (scores.pq, scores.sq, scores.rq) == pytest.approx((average["pq"], average["sq"], average["rq"]), abs=1e-6)
    for raw_id, name in zip(CITYSCAPES.raw_ids, CITYSCAPES.names, strict=True):
        assert (scores.classes[name].pq or 0.0) == pytest.approx(by_class[raw_id]["pq"], abs=1e-6), name
    assert 0.3 < scores.pq < 0.98
    capsys.readouterr()


def nearly(predicted: Any, rng: np.random.Generator) -> Ids:
    """Labels that the teacher meets but for borders, a crowd, and what nobody labeled."""
    top1, instance = predicted.top1[0].numpy(), predicted.instance[0].numpy().astype(np.int64)
    raw = CITYSCAPES.raw_id_of[top1].astype(np.int64)
    ids = np.where(instance > 0, 1000 * raw + instance, raw)
    ids = np.roll(ids, tuple(rng.integers(0, 3, 2)), (0, 1))
    crowd = rng.choice(ids[ids >= 1000])
    ids[ids == crowd] = crowd // 1000
    ids[:, 50:55] = 0
    return ids.astype(np.uint16)


def test_exported_coco_files_give_the_same_maps_back(scene: Scene, tmp_path: Path) -> None:
    shutil.copytree(scene.tree / "leftImg8bit", tmp_path / "leftImg8bit")
    shutil.copytree(scene.exported / "annotations", tmp_path / "annotations")
    source, read = open_images("coco", tmp_path), in_store(scene.store)
    classes = classes_of(source)
    assert (classes.names, classes.raw_ids, classes.colors, classes.things) == (
        CITYSCAPES.names,
        CITYSCAPES.raw_ids,
        CITYSCAPES.colors,
        CITYSCAPES.things,
    )
    refs = images_with_instances(source, "gtAuto")
    assert len(refs) == len(scene.labels)
    for ref in refs:
        key = ref.image.removeprefix("leftImg8bit/").removesuffix("_leftImg8bit.png")
        np.testing.assert_array_equal(panoptic_map(source, ref, classes), numbered_by_class(read(key)))


def numbered_by_class(panoptic: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same map with instances of each class numbered 1, 2, 3 in the order of their numbers."""
    found = panoptic.copy()
    for train_id in CITYSCAPES.things:
        values = np.unique(panoptic[panoptic // DIVISOR == train_id])
        for number, value in enumerate(values[values % DIVISOR > 0], 1):
            found[panoptic == value] = train_id * DIVISOR + number
    return found


def test_exported_instance_ids_are_read_back_as_those_of_cityscapes(scene: Scene, tmp_path: Path) -> None:
    export_labels(StoreConfig(uri=scene.store), tmp_path / "png", name="gtFine")
    shutil.copytree(scene.tree / "leftImg8bit", tmp_path / "png/leftImg8bit")
    source, read = open_images("cityscapes", tmp_path / "png"), in_store(scene.store)
    if not LabelStore.open(scene.store).has_instances:
        assert not list(tmp_path.rglob("*_instanceIds.png"))
        return
    refs = images_with_instances(source, "val")
    assert len(refs) == len(scene.labels)
    for ref in refs:
        np.testing.assert_array_equal(panoptic_map(source, ref, CITYSCAPES), numbered_by_class(read(ref.key)))
    assert VOID in read(refs[-1].key)


def test_exported_coco_files_keep_the_rules_of_the_format(scene: Scene) -> None:
    exported = scene.exported
    document = json.loads((exported / "annotations/panoptic_gtAuto.json").read_text())
    categories = {entry["id"]: entry for entry in document["categories"]}
    images = {entry["id"]: entry for entry in document["images"]}
    assert len(categories) == len(document["categories"])
    assert {entry["isthing"] for entry in categories.values()} == {0, 1}
    assert [entry["image_id"] for entry in document["annotations"]] == list(images)
    for entry in document["annotations"]:
        with Image.open(exported / "annotations/panoptic_gtAuto" / entry["file_name"]) as file:
            assert (file.format, file.mode) == ("PNG", "RGB")
            colors = np.asarray(file).astype(np.int64)
        image, ids = images[entry["image_id"]], colors @ [1, 256, 65536]
        assert ids.shape == (image["height"], image["width"])
        segments = {segment["id"]: segment for segment in entry["segments_info"]}
        assert len(segments) == len(entry["segments_info"])
        assert set(segments) == set(np.unique(ids).tolist()) - {0}
        for number, segment in segments.items():
            mask = ids == number
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
            assert (segment["area"], segment["bbox"]) == (mask.sum(), box)
            assert segment["iscrowd"] in (0, categories[segment["category_id"]]["isthing"])
        stuff = [s["category_id"] for s in segments.values() if not categories[s["category_id"]]["isthing"]]
        assert len(set(stuff)) == len(stuff)  # one region per stuff class
