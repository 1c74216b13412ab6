"""Scores on maps small enough to count by hand."""

import numpy as np
import pytest

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.scores import Confusion, confusion_of, labeled_images
from hmsa_label.pipeline.teacher.errors import NonFiniteLogits
from hmsa_label.stores.images.open import open_images


def test_iou_counts_hits_over_the_union():
    confusion = Confusion(CITYSCAPES)
    labels = np.array([[0, 0, 0, 0], [1, 1, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 0, 1], [1, 1, 5, 5]], np.uint8)
    confusion.add(labels, predicted)
    scores = confusion.scores()
    assert scores.iou["road"] == 3 / 4
    assert scores.iou["sidewalk"] == 2 / 3
    assert scores.pixel_accuracy == 5 / 6
    assert scores.miou == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert scores.images == 1


def test_ignored_pixels_do_not_count_against_a_class():
    confusion = Confusion(CITYSCAPES)
    confusion.add(np.full((2, 2), 255, np.uint8), np.full((2, 2), 13, np.uint8))
    scores = confusion.scores()
    assert scores.iou["car"] is None
    assert scores.miou == 0.0


def test_a_wrongly_predicted_class_counts_although_no_label_has_it():
    confusion = Confusion(CITYSCAPES)
    confusion.add(np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 16]], np.uint8))
    scores = confusion.scores()
    assert scores.iou["train"] == 0.0
    assert scores.miou == pytest.approx(0.75 / 2)


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 4\).*\(2, 2\)"):
        Confusion(CITYSCAPES).add(np.zeros((1, 4), np.uint8), np.zeros((2, 2), np.uint8))


def test_class_tables_map_there_and_back():
    raw = np.array([7, 33, 0, 26, 29], np.uint8)
    train_ids = CITYSCAPES.train_id_of[raw]
    assert train_ids.tolist() == [0, 18, 255, 13, 255]
    assert CITYSCAPES.raw_id_of[train_ids].tolist() == [7, 33, 0, 26, 0]
    assert type(CITYSCAPES).from_dict(CITYSCAPES.to_dict()) == CITYSCAPES


def test_image_that_the_network_fails_on_is_named(blocks):
    source = open_images("cityscapes", str(blocks))
    refs = labeled_images(source, "val", "gtFine")

    def fail(image):
        raise NonFiniteLogits("the network gave NaN or infinite logits in bf16; use --precision fp32")

    with pytest.raises(
        ValueError, match=r"^cannot label val/town/town_000000_000000\S*: the network gave NaN .* in bf16"
    ):
        confusion_of(source, refs, CITYSCAPES, fail)
