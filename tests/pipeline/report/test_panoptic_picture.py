"""Instances in pictures: told apart by shade and border, in the color of their class."""

import numpy as np

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.audit.store import picture_of_label
from hmsa_label.pipeline.data.decode import decode_image
from hmsa_label.pipeline.report.of_store import report_version
from hmsa_label.pipeline.report.panoptic_picture import borders, with_instances
from hmsa_label.pipeline.report.pictures import label_picture
from hmsa_label.stores.format.rule import Rule
from hmsa_label.stores.images.open import open_images
from tests.fake_teacher import fake
from tests.pipeline.panoptic_store import one_image

CAR = 13
FREE = np.zeros((12, 20), np.bool_)


def cars() -> np.ndarray:
    """Two cars side by side on a road of 12 x 20 px."""
    instance = np.zeros((12, 20), np.uint16)
    instance[3:9, 2:9], instance[3:9, 9:16] = 1, 2
    return instance


def test_instances_of_a_class_have_shades_of_their_own_and_the_rest_keeps_its_color():
    instance = cars()
    label = np.where(instance > 0, CAR, 0).astype(np.uint8)
    label[11] = 255
    picture, flat = (label_picture(label, CITYSCAPES.colors, one) for one in (instance, None))
    first, second = picture[5, 5], picture[5, 12]
    assert (first != second).any()
    np.testing.assert_array_equal(picture[instance == 0], flat[instance == 0])
    inside = (instance > 0) & ~borders(instance, FREE)
    assert {tuple(color) for color in picture[inside]} == {tuple(first), tuple(second)}


def test_border_runs_between_instances_and_around_them():
    found = borders(cars(), FREE)
    assert found[5, [2, 8, 9, 15]].all()
    assert found[[3, 8], 5].all()
    assert not found[4:8, 3:8].any()
    assert not found[cars() == 0].any()


def test_holes_and_the_edge_of_the_image_have_no_border():
    instance, void = cars(), FREE.copy()
    void[5, 5] = True
    assert not borders(np.where(void, 0, instance).astype(np.uint16), void)[4:7, 4:7].any()
    whole = np.ones((12, 20), np.uint16)
    assert not borders(whole, FREE).any()


def test_other_thresholds_of_a_report_keep_what_the_rule_says_of_instances(tmp_path):
    store = one_image(tmp_path, Rule(0.9, center_threshold=0.5))
    source = open_images("cityscapes", str(tmp_path / "images"), {})
    report = report_version(store, source, source.list("train_extra"), threshold=0.9, pictures=1)
    shares = {row.threshold: row.kept_share for row in report.thresholds}
    # Of six pixels one has a center score that is too low; at 0.9 two more are not sure enough.
    assert shares == {0.5: 5 / 6, 0.9: 3 / 6}
    assert store.table(["kept_share"])["kept_share"].to_pylist() == [shares[0.9]]


def test_labels_with_instances_and_no_evidence_are_reported_without_other_thresholds(tmp_path):
    store = one_image(tmp_path, Rule(0.9), evidence=False)
    source = open_images("cityscapes", str(tmp_path / "images"), {})
    report = report_version(store, source, source.list("train_extra"), threshold=0.9, pictures=1)
    assert (report.thresholds, report.images[0].code) == ([], None)


def test_reports_and_pictures_of_a_store_show_its_instances(bench):
    bench.draw(2)
    bench.label(fake(instances=True), threshold=0.5, instance_threshold=0.4)
    store, source = bench.open(), open_images("folder", str(bench.folder))
    shown = report_version(store, source, source.list("all"), threshold=0.5, pictures=2).images
    assert len(shown) == 2
    for image in shown:
        instance, _ = store.instances(image.key)
        np.testing.assert_array_equal(image.instance, instance)
        label = store.read(image.key)
        colors = np.zeros((256, 3), np.uint8)
        colors[:19] = CITYSCAPES.colors
        expected = with_instances(colors[label], instance, label == 255)
        np.testing.assert_array_equal(decode_image(picture_of_label(bench.store, image.key)), expected)
        assert (expected != colors[label]).any()
