"""A teacher whose classes are not those of the data says so everywhere, and polygons are compared by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig, ExplainConfig, TeacherConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.teacher.explain import explain_image
from hmsa_label.pipeline.training.config import ModelConfig
from hmsa_label.pipeline.training.loop import train_teacher
from hmsa_label.stores.versions.label_store import LabelStore
from tests.tiny_training import tiny_training

NAMES = ("Sky", "Bird", "Road", "Building")  # Cityscapes has three of them, under other numbers
VISTAS = ClassTable("vistas", NAMES, tuple((40 * i, 0, 0) for i in range(4)), (27, 0, 13, 17))
DIFFERENCE = "the teacher knows 4 classes of 'vistas', the data has 19 of 'cityscapes'"


def checkpoint(path, classes, **beside):
    torch.manual_seed(0)
    info = {"model": "hrnet_tiny_ocr", "multi_scale": True, "classes": classes.to_dict(), "trained_on": None, **beside}
    path.write_bytes(encode_checkpoint(build_labeler("hrnet_tiny_ocr", classes.num_classes), info))
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("weights") / "vistas.safetensors", VISTAS)


@pytest.fixture
def labeled(blocks, bench, weights):
    """Labels that this teacher made of the four images with polygons, and the summary of the run."""
    config = bench.config(weights, workers=1, threshold=0.3)
    config = replace(config, data=DataConfig(root=str(blocks)), teacher=replace(config.teacher, device="cpu"))
    summary = label_images(config, bench.events.append)
    return summary, bench.open()


def test_raw_ids_of_another_table_meet_by_name():
    table = VISTAS.train_ids_from(CITYSCAPES)
    assert (table[23], table[7], table[11]) == (0, 2, 3)
    assert set(np.delete(table, [7, 11, 23]).tolist()) == {255}
    np.testing.assert_array_equal(CITYSCAPES.train_ids_from(CITYSCAPES), CITYSCAPES.train_id_of)


def test_run_warns_and_agreement_with_polygons_goes_by_name(labeled, blocks):
    summary, store = labeled
    assert summary.warnings[0].startswith(f"{DIFFERENCE}, 3 of them under the same name; the labels get")
    compared = 0
    for row in store.table().to_pylist():
        name = row["key"].replace("train_extra/", "")
        raw = np.asarray(Image.open(blocks / f"gtCoarse/train_extra/{name}_gtCoarse_labelIds.png"))
        drawn = np.select([raw == 23, raw == 7, raw == 11], [0, 2, 3], 255)
        label = store.read(row["key"])
        both = (label != 255) & (drawn != 255)
        compared += both.any()
        agreement = (label == drawn)[both].mean() if both.any() else None
        assert row["coarse_agreement"] == (None if agreement is None else pytest.approx(agreement))
    assert compared


def test_folder_of_photos_tells_no_classes_and_is_not_warned_of(drawn, weights):
    config = drawn.config(weights, workers=1, limit=1)
    assert not any("classes of" in text for text in label_images(config).warnings)


def test_evaluate_refuses_and_names_both_tables(blocks, weights):
    config = EvaluateConfig(
        data=DataConfig(root=str(blocks), split="val"), teacher=TeacherConfig(weights=weights, device="cpu")
    )
    with pytest.raises(ValueError, match=f"{DIFFERENCE}.*, so it cannot be scored there; correct --weights"):
        evaluate(config)


def test_same_classes_in_another_order_are_told_as_such(tmp_path, blocks):
    turned = ClassTable("turned", CITYSCAPES.names[::-1], CITYSCAPES.colors[::-1], CITYSCAPES.raw_ids[::-1])
    teacher = TeacherConfig(weights=checkpoint(tmp_path / "turned.safetensors", turned), device="cpu")
    with pytest.raises(ValueError, match="'cityscapes', the same ones in another order"):
        evaluate(EvaluateConfig(data=DataConfig(root=str(blocks), split="val"), teacher=teacher))


def test_training_does_not_start_from_as_many_other_classes(tmp_path, blocks):
    other = ClassTable("other", tuple(f"kind {i}" for i in range(19)), CITYSCAPES.colors, CITYSCAPES.raw_ids)
    start = ModelConfig(name="hrnet_tiny_ocr", init_weights=checkpoint(tmp_path / "other.safetensors", other))
    config = tiny_training(blocks, tmp_path / "out", model=start, max_steps=1)
    with pytest.raises(ValueError, match=r"the teacher knows 19 classes of 'other'.*; --new-class-heads"):
        train_teacher(config)


def test_explain_says_what_the_teacher_knows_and_warns_of_a_cityscapes_image(tmp_path, blocks, weights):
    config = ExplainConfig(
        teacher=TeacherConfig(weights=weights, device="cpu", options={"scales": (1.0,)}), output=str(tmp_path / "e.png")
    )
    image = next((blocks / "leftImg8bit/val/town").iterdir())
    summary = explain_image(str(image), config)
    assert summary.teacher["classes"] == "4 of 'vistas'"
    assert summary.warnings[0].startswith(DIFFERENCE)
    (tmp_path / "photo.png").write_bytes(image.read_bytes())
    assert explain_image(str(tmp_path / "photo.png"), config).warnings == []


@pytest.mark.parametrize(
    ("config", "scales", "warned"),
    [
        ({"low_scale": 0.5}, (0.5, 1.0, 1.5), "trained on the scales 0.5,1 and fuses 0.5,1,1.5"),
        ({"low_scale": None}, (0.5, 1.0), "trained on the scales 1 and fuses 0.5,1"),
        ({"low_scale": 0.5}, (0.25, 0.5, 1.0, 2.0), None),
        ({"low_scale": 0.5}, (0.5, 1.0), None),
        ({"low_scale": 0.5}, (1.0,), None),
        ({"low_scale": "half"}, (0.5, 1.0), None),
        (None, (0.25, 1.0), None),
    ],
)
def test_scales_whose_ratio_the_attention_was_not_trained_on_are_told(drawn, tmp_path, config, scales, warned):
    weights = checkpoint(tmp_path / "w.safetensors", CITYSCAPES, **({"config": config} if config else {}))
    warnings = label_images(drawn.config(weights, scales=scales, workers=1, limit=1)).warnings
    told = [text for text in warnings if "trained on the scales" in text]
    assert len(told) == (warned is not None)
    assert not warned or warned in told[0]


def test_labels_without_some_classes_are_warned_of_and_the_classes_listed(drawn):
    summary = drawn.label()
    assert summary.classes_absent == []
    (drawn.folder / "one").mkdir()
    Image.new("RGB", (40, 24), (40, 0, 0)).save(drawn.folder / "one" / "plain.png")
    single = label_images(replace(drawn.config(store=f"{drawn.store}-one", threshold=0.5),
                                  data=DataConfig(root=str(drawn.folder / "one"), dataset="folder")))  # fmt: skip
    table = LabelStore.open(f"{drawn.store}-one").table()["class_px"].to_pylist()[0]
    absent = [name for name, pixels in zip(CITYSCAPES.names, table, strict=True) if not pixels]
    assert single.classes_absent == absent
    assert len(absent) == 18
    assert f"{len(absent)} of the teacher's 19 classes have no pixel in version" in single.warnings[-1]
    assert ", ".join(absent) in single.warnings[-1]


def test_teacher_that_keeps_next_to_nothing_is_warned_of_early_and_at_the_end(drawn):
    summary = drawn.label(threshold=0.999)
    early, late = (text for text in summary.warnings if "pixels" in text and "classes" not in text)
    assert early.startswith("the teacher keeps ")
    assert "of the first 20 images at threshold 0.999; press Ctrl-C" in early
    assert late.startswith(f"the teacher kept {100 * summary.kept_share:.1f} % of the pixels at threshold 0.999")
    assert f"hmsa-label rethreshold --store {drawn.store} --threshold 0.5" in late
    again = drawn.label(threshold=0.999)
    assert [text for text in again.warnings if text.startswith("the teacher kept")] == [late]


@pytest.mark.parametrize(
    ("rule", "way_out", "option"),
    [
        (
            {"border_px": "11,3,11,3"},
            "--border 11,3,11,3 leaves 7.1 % of an image of 24 x 40 pixels; give a smaller one, or",
            "--border off",
        ),
        ({"ego_mask": "MASK"}, "the --ego-mask leaves 4.2 % of an image; give another one, or", "--ego-mask off"),
        (
            {"class_thresholds": dict.fromkeys(CITYSCAPES.names, "off")},
            "every pixel needs no teacher:",
            "--preset no-threshold",
        ),
    ],
)
def test_rule_that_leaves_little_is_told_by_what_leaves_it(bench, tmp_path, rule, way_out, option):
    hood = np.full((24, 40), 255, np.uint8)
    hood[0] = 0
    Image.fromarray(hood).save(tmp_path / "hood.png")
    bench.draw(3)
    asked = {name: tmp_path / "hood.png" if value == "MASK" else value for name, value in rule.items()}
    (text,) = (text for text in bench.label(threshold=0.5, **asked).warnings if text.startswith("the teacher kept"))
    option = (
        "--border off"
        if "border_px" in rule
        else "--ego-mask off"
        if asked.get("ego_mask")
        else "--preset no-threshold"
    )
    assert f"; {way_out}" in text
    assert text.endswith(f"'hmsa-label rethreshold --store {bench.store} {option}'")
