"""`calibrate`: from images and labels, through a teacher or a store, to thresholds, a file and a page."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.calibrate.calibration import calibrate
from hmsa_label.pipeline.calibrate.file import FILE, read_calibration
from hmsa_label.pipeline.calibrate.page import PAGE
from hmsa_label.pipeline.calibrate.records import Calibration
from hmsa_label.pipeline.config import CalibrateConfig, DataConfig, EngineConfig, LabelConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.stores.versions.label_store import LabelStore
from tests.pipeline.calibrate.painted import ROAD, frames, paint, painted

CITIES = [*frames("aachen", 16), *frames("bonn", 14, sequence=3)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of two cities."""
    root = tmp_path_factory.mktemp("painted")
    paint(root, CITIES)
    return root


def asked(tree: Path, **options: Any) -> CalibrateConfig:
    return CalibrateConfig(
        **{"data": DataConfig(root=tree, split="val"), "teacher": painted(), "resamples": 200, **options}
    )


def labeled(tree: Path, place: Path, weights: Path | None = None, limit: int | None = None, **options: Any) -> str:
    """A store of the images."""
    label_images(
        LabelConfig(
            data=DataConfig(root=tree, split="val", limit=limit),
            teacher=painted(weights),
            store=place,
            engine=EngineConfig(executor="local", workers=1),
            **options,
        )
    )
    return str(place)


def without_bins(found: Calibration) -> dict[str, Any]:
    """What does not depend on how finely confidence is known."""
    return {name: replace(one, bins=[], ece=None, temperature=None).to_dict() for name, one in found.classes.items()}


def test_thresholds_reach_the_precision_and_a_class_that_never_does_is_off(tree):
    found = calibrate(asked(tree, target_precision=0.9))
    assert found.class_thresholds["pole"] == "off"
    assert "never that precise" in str(found.classes["pole"].reason)
    assert found.classes["wall"].reason == "no pixel is predicted as it"
    for name in ("road", "building"):
        point = found.classes[name].chosen
        assert point is not None
        assert point.threshold in found.grid
        assert 0.9 <= point.precision_low <= point.precision <= point.precision_high
        assert found.kept_shares[name] == point.kept_share
    road, calibrated = found.classes["road"], found.classes["pole"]
    assert road.ece < 0.03 < calibrated.ece
    assert road.temperature == pytest.approx(1, abs=0.1)


def test_thresholds_chosen_on_one_city_hold_on_the_other(tree):
    report = calibrate(asked(tree, target_precision=0.9)).report
    assert report is not None
    assert report.split_by == "cities"
    assert [part.name for part in report.parts] == ["city aachen", "city bonn"]
    assert [part.images for part in report.parts] == [16, 14]
    for part in report.parts:
        assert part.classes["road"].reached
        assert part.classes["pole"].reached is None  # off
    road = report.classes["road"]
    assert road.kept_px == sum(part.classes["road"].kept_px for part in report.parts)


def test_threshold_of_a_part_is_that_of_the_other_images_alone(tmp_path):
    aachen, bonn = frames("aachen", 30), frames("bonn", 30)
    paint(tmp_path / "both", aachen)
    paint(tmp_path / "both", bonn, seed=1, too_sure=(ROAD,))
    paint(tmp_path / "aachen", aachen)
    report = calibrate(asked(tmp_path / "both", target_precision=0.8)).report
    alone = calibrate(asked(tmp_path / "aachen", target_precision=0.8))
    assert report is not None
    in_aachen, in_bonn = (part.classes["road"] for part in report.parts)
    assert in_aachen.threshold == "off"  # road is right half of the time in Bonn
    assert in_bonn.threshold == alone.classes["road"].threshold
    assert (in_bonn.reached, in_bonn.sure is not None) == (False, True)
    assert in_bonn.precision == pytest.approx(0.5, abs=0.05)


def test_stored_labels_give_the_same_curves_and_thresholds_as_their_teacher(tree, tmp_path):
    store = labeled(tree, tmp_path / "store")
    from_teacher = calibrate(asked(tree, target_precision=0.9))
    from_store = calibrate(asked(tree, teacher=None, store=(store,), target_precision=0.9))
    assert without_bins(from_store) == without_bins(from_teacher)
    assert from_store.report == from_teacher.report
    assert from_store.all.curve == from_teacher.all.curve
    assert from_store.stores[0]["store"] == store
    assert "middle" in from_store.method
    assert from_store.all.ece == pytest.approx(from_teacher.all.ece, abs=0.05)


def test_target_of_some_classes_leaves_the_others_alone(tree):
    found = calibrate(asked(tree, target_precision={"road": 0.8}))
    assert set(found.class_thresholds) == {"road"}
    assert found.classes["building"].threshold is None
    assert found.all.threshold is None


def test_without_a_target_nothing_is_proposed(tree):
    found = calibrate(asked(tree))
    assert (found.class_thresholds, found.report, found.target_precision) == ({}, None, None)
    assert found.all.curve[0].kept_share == 1


def test_images_that_the_teacher_was_trained_on_are_refused_and_named(tree, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("\n".join(CITIES[:5]))
    with pytest.raises(ValueError, match=r"5 of the images .*aachen_000000_000000, .* and 2 more.*--allow-trained-on"):
        calibrate(asked(tree, teacher=painted(weights)))
    found = calibrate(asked(tree, teacher=painted(weights), allow_trained_on=True))
    assert found.images_trained_on == 5
    assert any("5 images were counted that the teacher was trained on" in line for line in found.warnings)


def test_stored_labels_of_a_teacher_that_was_trained_on_them_are_refused(tree, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("\n".join(CITIES[:5]))
    store = labeled(tree, tmp_path / "store", weights)
    weights.unlink()  # the record of the run knows it too
    with pytest.raises(ValueError, match="5 of the images are among those that the teacher was trained on"):
        calibrate(asked(tree, teacher=None, store=(store,)))


def test_each_image_is_predicted_by_a_teacher_of_another_fold(tree, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("\n".join(CITIES[:16]))
    two.write_text("\n".join(CITIES[16:]))
    found = calibrate(asked(tree, teacher=painted(one), fold_weights=(str(two),)))
    assert (found.images, found.images_trained_on) == (30, 0)
    assert len({found.teacher["sha256"], found.fold_teachers[0]["sha256"]}) == 2
    assert found.all == calibrate(asked(tree)).all
    stores = tuple(labeled(tree, tmp_path / f"store {weights.name}", weights) for weights in (one, two))
    folded = calibrate(asked(tree, teacher=None, store=stores))
    assert (folded.images, len(folded.stores), folded.all.curve) == (30, 2, found.all.curve)


def test_teacher_that_knows_an_image_does_not_predict_it(tree, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("\n".join(["blind", *CITIES[:16]]))
    two.write_text("\n".join(CITIES[16:]))
    found = calibrate(asked(tree, teacher=painted(one), fold_weights=(two,)))
    assert found.classes["train"].images == 14  # those of Bonn, which only the blind one has not seen
    assert found.classes["road"].images == 16


def test_frames_of_a_drive_that_the_teacher_knows_are_warned_of(tree, tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("train/aachen/aachen_000000_000099")
    line = calibrate(asked(tree, teacher=painted(weights))).warnings[0]
    assert line.startswith("16 images are of sequences that the teacher was trained on other frames of (aachen_000000)")


def test_images_without_a_stored_label_are_told_and_none_at_all_is_refused(tree, tmp_path):
    store = labeled(tree, tmp_path / "store", limit=20)
    found = calibrate(asked(tree, teacher=None, store=(store,)))
    assert found.images == 20
    assert any("10 images with fine labels have no label in the store" in line for line in found.warnings)
    paint(tmp_path, frames("lindau", 2))
    with pytest.raises(ValueError, match="holds none of the 2 images with fine labels"):
        calibrate(asked(tmp_path, teacher=None, store=(store,)))


def test_store_without_thresholds_is_refused(tree, tmp_path):
    empty = LabelStore.create(tmp_path / "empty", CITYSCAPES.to_dict())
    with pytest.raises(
        ValueError, match="holds no labels yet, so it has no thresholds to choose from; label the images"
    ):
        calibrate(asked(tree, teacher=None, store=(empty.uri,)))
    without = labeled(tree, tmp_path / "without", limit=2, evidence=("none",))
    with pytest.raises(ValueError, match="holds labels that came without evidence or confidence"):
        calibrate(asked(tree, teacher=None, store=(without,)))


def test_images_that_cannot_be_counted_are_named_and_the_others_are(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    store = labeled(tree, tmp_path / "store")
    labels, image = (next((tmp_path / "tree").rglob(f"aachen_000000_{frame:06}_{kind}.png")) for frame, kind in (
        (3, "gtFine_labelIds"), (7, "leftImg8bit")))  # fmt: skip
    Image.open(labels).resize((16, 12)).save(labels)
    image.write_bytes(b"no image")
    from_store = calibrate(asked(tmp_path / "tree", teacher=None, store=(store,)))
    assert [one["key"][-6:] for one in from_store.failed] == ["000003"]  # no image is read
    assert "fine labels have 12 x 16 px, its prediction 24 x 32 px" in from_store.failed[0]["reason"]
    from_teacher = calibrate(asked(tmp_path / "tree"))
    assert (from_teacher.images, [one["key"][-6:] for one in from_teacher.failed]) == (28, ["000003", "000007"])


def test_not_one_image_that_can_be_counted_is_an_error(tmp_path):
    paint(tmp_path, CITIES[:2])
    for image in tmp_path.rglob("*leftImg8bit.png"):
        image.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read val/aachen/aachen_000000_00000[01]"):
        calibrate(asked(tmp_path))


def test_few_images_make_no_parts_and_that_is_said(tmp_path):
    paint(tmp_path, frames("aachen", 4))
    found = calibrate(asked(tmp_path, target_precision=0.9))
    assert found.report is None
    assert any("too few for 2 parts" in line for line in found.warnings)
    assert any("they may be too narrow" in line for line in found.warnings)


def test_output_is_a_file_that_reads_back_and_a_page_that_stands_alone(tree, tmp_path):
    found = calibrate(asked(tree, target_precision=0.9, output=tmp_path / "out"))
    assert read_calibration(tmp_path / "out" / FILE) == found
    page = (tmp_path / "out" / PAGE).read_text()
    assert not re.search(r"<script|https?://|url\(|<link|@import", page)
    assert "prefers-color-scheme: dark" in page
    for name in ("road", "building", "pole", "all classes"):
        assert f"<h3>{name}</h3>" in page
    assert page.count("<svg") == 2 * 4
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()
    assert "--class-thresholds" in page


def test_page_of_a_calibration_without_a_target_says_so(tree, tmp_path):
    calibrate(asked(tree, output=tmp_path))
    page = (tmp_path / PAGE).read_text()
    assert "no threshold is proposed" in page
    assert "--class-thresholds" not in page


def test_what_comes_from_outside_is_escaped_on_the_page(tmp_path):
    place = tmp_path / "a<b>&c"
    paint(place, CITIES[::3])
    calibrate(asked(place, target_precision=0.9, output=tmp_path / "out"))
    page = (tmp_path / "out" / PAGE).read_text()
    assert "a<b>" not in page
    assert "a&lt;b&gt;&amp;c" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": None}, "give either --weights"),
        ({"store": ("s",)}, "give either --weights"),
        ({"teacher": None, "store": ("s",), "fold_weights": ("w",)}, "--fold-weights goes with --weights"),
        ({"folds": 1}, "--folds must be at least 2"),
        ({"resamples": 10}, "--resamples must be at least 100"),
        ({"confidence": 1.0}, "--confidence must lie between 0 and 1"),
        ({"output": ""}, "--output is empty"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        asked(tmp_path, **options)
