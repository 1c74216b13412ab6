"""A model that learns from panoptic maps: what it is given, and that it trains and resumes as others do."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hmsa_label.labelers.axial_deeplab.training.settings import PanopticLoss
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.training import labels_of
from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.audit.store import picture_of_label
from hmsa_label.pipeline.audit.trace import trace
from hmsa_label.pipeline.compare.students import teacher_of
from hmsa_label.pipeline.config import DataConfig, EngineConfig, EvaluateConfig, LabelConfig, TraceConfig
from hmsa_label.pipeline.data.datasets import FineLabelDataset
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.training.config import AugmentConfig, AutoLabels, ModelConfig
from hmsa_label.pipeline.training.crops import TrainingCrops, tiles_of
from hmsa_label.pipeline.training.distributed import Processes
from hmsa_label.pipeline.training.loop import Trainer, train_student, train_teacher
from hmsa_label.stores.versions.label_store import LabelStore
from tests.fake_teacher import fake
from tests.tiny_training import tiny_panoptic_training

CAR = 13


def settings(parked, output, **changes):
    usual = {"max_steps": 4, "validate_every": 2, "save_every": 1}
    return tiny_panoptic_training(parked, output, **{**usual, **changes})


def trainer(config):
    return Trainer(config, Processes(), torch.device("cpu"))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(path):
    return decode_checkpoint(path.read_bytes())[0]


def test_crops_have_panoptic_maps_that_lie_on_the_image(parked):
    fine = FineLabelDataset(parked)
    config = AugmentConfig(crop_px=(128, 160), scale_range=(1.0, 1.0), colour_jitter=0.0)
    crops = TrainingCrops([fine], [None], config, seed=0, panoptic=True)
    trained = next(iter(trainer_batches(crops)))
    image, maps = trained[0].numpy(), trained[1].numpy()
    assert (maps.dtype, maps.shape) == (np.int64, (128, 160))
    outside = (image == 0).all(2)
    assert (maps[outside] == 255_000).all()
    cars = [number for number in np.unique(maps) if number // 1000 == CAR]
    assert cars == [13_000, 13_001, 13_002, 13_003]  # a crowd and three cars
    assert all((image[maps == number][:, 2] > 150).all() for number in cars)
    assert all((maps == number).sum() == 24 * 28 for number in cars[1:])


def trainer_batches(crops):
    from hmsa_label.pipeline.data.sampler import FINE, Draw

    return (crops[Draw(kind=FINE, number=number, position=0)] for number in range(4))


def test_weights_and_classes_are_drawn_for_panoptic_maps_as_for_trainids(parked):
    fine = FineLabelDataset(parked)
    tiles = tiles_of(fine, (32, 32), lambda name, make: make())
    config = AugmentConfig(crop_px=(32, 32), scale_range=(1.0, 1.0), class_uniform=1.0)
    kinds = [TrainingCrops([fine], [tiles], config, 0, weighted=True, panoptic=panoptic) for panoptic in (False, True)]
    for semantic, panoptic in zip(*map(trainer_batches, kinds), strict=True):
        assert torch.equal(semantic[0], panoptic[0])
        assert torch.equal(semantic[1], panoptic[1] // 1000)
        assert torch.equal(semantic[3], panoptic[3])


def test_a_step_counts_instances_and_crowds_over_its_passes(parked, tmp_path):
    one, two = (trainer(settings(parked, tmp_path / str(n), batch_size=4, accumulate=n)) for n in (1, 2))
    total = one._total(next(one.batches()))
    assert two._total(next(two.batches())) == total
    maps = next(one.batches())[0][1]
    assert total.labeled_px == int((maps != 255_000).sum())
    assert total.crowd_px == int((maps == 1000 * CAR).sum())
    assert total.instance_px == int((maps // 1000 == CAR).sum()) - total.crowd_px


@pytest.mark.slow
def test_a_panoptic_model_learns_to_find_cars(parked, tmp_path):
    summary = train_teacher(
        settings(parked, tmp_path, max_steps=60, validate_every=30, batch_size=4, learning_rate=1e-2, crop_px=(96, 128))
    )
    assert summary.score == "PQ"
    scores = [line for line in lines(tmp_path) if "pq" in line]
    assert scores[-1]["pq"] == summary.best_score > 0.4
    assert scores[-1]["pq_by_class"]["car"] > 0.3
    assert {"sq", "rq", "pq_things", "pq_stuff", "miou"} <= scores[-1].keys()


def test_panoptic_validation_gives_the_figures_of_evaluate(parked, tmp_path):
    loss = replace(settings(parked, tmp_path).objective, val_scales=(0.75, 1.0), center_kernel_px=5)
    config = settings(parked, tmp_path, max_steps=24, validate_every=24, learning_rate=5e-3, objective=loss)
    summary = train_teacher(config)
    teacher = teacher_of(config, summary.checkpoint, CITYSCAPES)
    scores = evaluate(EvaluateConfig(data=DataConfig(root=str(parked), split="val"), teacher=teacher))
    logged = lines(tmp_path)[-1]
    assert summary.best_score == logged["pq"] == scores.pq
    assert (logged["sq"], logged["rq"], logged["miou"]) == (scores.sq, scores.rq, scores.miou)
    assert scores.miou > 0


def test_a_panoptic_checkpoint_says_what_it_learned_from(parked, tmp_path):
    train_teacher(settings(parked, tmp_path, max_steps=1))
    _, info = decode_checkpoint((tmp_path / "last.safetensors").read_bytes())
    assert (info["model"], info["config"]["center_sigma_px"]) == ("axial_deeplab_tiny", 4.0)
    assert info["classes"]["things"] == list(range(11, 19))
    fine = FineLabelDataset(parked)
    assert info["trained_on"]["instances_sha256"] == fine.instances_digest != fine.digest
    assert 0 <= info["val_pq"] <= 1


def test_trace_notices_instances_that_changed_since_the_training(parked, tmp_path):
    root = shutil.copytree(parked, tmp_path / "tree")
    train_teacher(settings(root, tmp_path / "out", max_steps=1, val_split=""))

    def state():
        links = trace(str(tmp_path / "out/last.safetensors"), TraceConfig()).links
        return {link.check: link.state for link in links if link.check in ("fine labels", "fine instances")}

    assert state() == {"fine labels": "ok", "fine instances": "ok"}
    path = root / "gtFine/train/town/town_000000_000000_gtFine_instanceIds.png"
    ids = np.array(Image.open(path))
    ids[ids == 26_001] = 26_000
    Image.fromarray(ids).save(path)
    assert state() == {"fine labels": "ok", "fine instances": "broken"}


def test_a_resumed_panoptic_training_equals_an_uninterrupted_one(parked, tmp_path):
    whole = settings(parked, tmp_path / "whole", optimizer="radam-lookahead", ema_decay=0.9, max_steps=6)
    parts = replace(whole, output=str(tmp_path / "parts"))
    train_teacher(whole)
    interrupted = trainer(parts)
    for passes, _ in zip(interrupted.batches(), range(3), strict=False):
        interrupted.advance(passes)
        interrupted.save(None)
    train_teacher(replace(parts, resume=True))
    expected, actual = (tensors(tmp_path / folder / "last.safetensors") for folder in ("whole", "parts"))
    assert all(torch.equal(actual[key], value) for key, value in expected.items())


def test_a_panoptic_training_starts_from_a_checkpoint(parked, tmp_path):
    train_teacher(settings(parked, tmp_path / "first", max_steps=1))
    model = ModelConfig(name="axial_deeplab_tiny", init_weights=str(tmp_path / "first/last.safetensors"))
    started = trainer(replace(settings(parked, tmp_path / "second"), model=model)).net.state_dict()
    given = tensors(tmp_path / "first/last.safetensors")
    assert all(torch.equal(started[key], value) for key, value in given.items())


def test_labels_without_instances_are_refused_and_the_file_is_named(parked, blocks, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"6 of 6 labeled images of .* have no file of instances.*; for train/town/"
        r"town_000000_000000 .*/town_000000_000000_gtFine_instanceIds\.png was looked for",
    ):
        trainer(settings(blocks, tmp_path / "none"))
    some = shutil.copytree(parked, tmp_path / "some")
    (some / "gtFine/val/town/town_000001_000000_gtFine_instanceIds.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 labeled images .* for val/town/town_000001_000000 "):
        trainer(settings(some, tmp_path / "one"))


def test_classes_without_things_are_refused(tmp_path):
    root = tmp_path / "vistas"
    names, colors = ("Road", "Unlabeled"), [(10, 20, 30), (0, 0, 0)]
    labels = [
        {"readable": name, "color": color, "evaluate": name == "Road"}
        for name, color in zip(names, colors, strict=True)
    ]
    for folder in ("images", "labels"):
        (root / "training" / folder).mkdir(parents=True)
    (root / "config.json").write_text(json.dumps({"labels": labels}))
    ids = np.zeros((64, 96), np.uint8)
    Image.fromarray(np.array(colors, np.uint8)[ids]).save(root / "training/images/0.jpg")
    Image.fromarray(ids).save(root / "training/labels/0.png")
    config = settings(root, tmp_path / "out", val_split="")
    with pytest.raises(ValueError, match=r"the classes of .*vistas .* have no things"):
        trainer(replace(config, data=replace(config.data, dataset="mapillary")))


def test_a_model_that_asks_for_unknown_labels_is_refused():
    class Model:
        labels = "boxes"

    with pytest.raises(ValueError, match=r"Model\.labels must be one of semantic, panoptic, image; got 'boxes'"):
        labels_of(Model())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"top_share": 0.0}, "--top-share"),
        ({"center_sigma_px": 0.0}, "--center-sigma"),
        ({"stuff_area_px": -1}, "--stuff-area"),
        ({"val_scales": ()}, "--val-scales"),
        ({"center_kernel_px": 8}, "--center-kernel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        PanopticLoss(**wrong)


@pytest.fixture
def stores(parked, tmp_path):
    """The tree with two images more, and two stores of their labels: with instances and without."""
    root = shutil.copytree(parked, tmp_path / "tree")
    more = root / "leftImg8bit/train_extra/town"
    more.mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(more / f"town_{number:06}_000000_leftImg8bit.png")
    for name, teacher in (("panoptic", fake(instances=True)), ("semantic", fake())):
        label(root, tmp_path / name, teacher)
    return root, tmp_path


def label(root, store, teacher, limit=None, **how):
    data = DataConfig(root=str(root), split="train_extra", limit=limit)
    engine = EngineConfig(executor="local", workers=1)
    label_images(LabelConfig(data=data, teacher=teacher, store=str(store), engine=engine, **how))


def test_a_panoptic_student_learns_from_the_instances_of_a_store(stores, tmp_path):
    root, folder = stores
    auto = AutoLabels(store=str(folder / "panoptic"), confidence_weight=True)
    config = settings(root, tmp_path / "student", second=auto, batch_size=4, max_steps=2, crop_px=(96, 128))
    student = trainer(config)
    second = student.data.auto
    kinds = [draw.kind for draw in next(iter(student.data.sampler(0, 2)))]
    maps, weights = (next(student.batches())[0][place][np.array(kinds) == 1] for place in (1, 3))
    instances = maps[(maps % 1000) > 0]
    assert len(instances.unique()) > 2
    assert set((instances // 1000).tolist()) <= set(CITYSCAPES.things)
    assert weights[maps != 255_000].min() >= 0.9 - 1 / 255
    assert (second.panoptic(0) // 1000 == np.where(second.label(0) == 255, 255, second.label(0))).all()
    train_student(config)
    _, info = decode_checkpoint((tmp_path / "student/last.safetensors").read_bytes())
    assert (info["auto_labels"]["images"], info["auto_labels"]["mix"]) == (2, 0.5)


def test_labels_of_a_store_without_instances_are_refused(stores, tmp_path):
    root, folder = stores
    auto = AutoLabels(store=str(folder / "semantic"))
    with pytest.raises(ValueError, match=r"2 of 2 images of version 3 of .*semantic have labels without inst"):
        train_student(settings(root, tmp_path / "student", second=auto))


def test_a_store_of_which_a_part_has_instances_is_refused_before_the_first_step(stores, tmp_path):
    root, folder = stores
    store = folder / "panoptic"
    label(root, store, fake(), limit=1, relabel=True)
    first, second = LabelStore.open(str(store)).keys()
    with pytest.raises(ValueError, match=rf"1 of 2 images of version \d+ of .*panoptic .*\(such as {first}\)"):
        train_student(settings(root, tmp_path / "student", second=AutoLabels(store=str(store))))
    assert not (tmp_path / "student/last.safetensors").exists()
    assert all(picture_of_label(str(store), key).startswith(b"\x89PNG") for key in (first, second))
