"""Panoptic quality, average precision and IoU of what a teacher that tells instances apart says of labeled images."""

import numpy as np
import pytest

from hmsa_label.labelers.panoptic.ids import DIVISOR, VOID
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig
from hmsa_label.pipeline.data.panoptic_labels import numbered_per_class
from hmsa_label.pipeline.data.panoptic_scores import PanopticEvaluation, PanopticScores
from hmsa_label.pipeline.demo.scenes.tree import draw_tree
from hmsa_label.pipeline.records import Prediction
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.stores.format.instances import StoredInstance
from hmsa_label.stores.images.source import BadImage
from tests.fake_teacher import fake

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13


def street() -> np.ndarray:
    """A panoptic map of 20 x 60 px: sky above a road, two cars that touch, a person and a strip of void."""
    labels = np.full((20, 60), ROAD * DIVISOR, np.int32)
    labels[:6] = SKY * DIVISOR
    labels[8:18, 4:16], labels[8:18, 16:28] = CAR * DIVISOR + 1, CAR * DIVISOR + 7
    labels[6:18, 40:52], labels[19:] = PERSON * DIVISOR + 1, VOID
    return labels


def prediction(panoptic: np.ndarray) -> Prediction:
    """What a teacher would say that sees this map; void is predicted where it is."""
    top1 = (panoptic // DIVISOR).astype(np.uint8)
    things = np.where(panoptic % DIVISOR > 0, panoptic, 0)
    found, instance = np.unique(things, return_inverse=True)
    listed = tuple(
        StoredInstance(int(one) // DIVISOR, 0.5, 0.9, int((things == one).sum()), (0, 0, 1, 1)) for one in found[1:]
    )
    instance = instance.reshape(things.shape).astype(np.uint16)
    confidence = np.where(top1 == 255, 0, 0.9).astype(np.float32)
    return Prediction(label=top1, top1=top1, confidence=confidence, instance=instance, instances=listed)


def scores_of(labels: np.ndarray, predicted: np.ndarray) -> PanopticEvaluation:
    scores = PanopticScores(CITYSCAPES)
    scores.add(labels, prediction(predicted))
    return scores.scores()


def test_prediction_that_is_the_labels_scores_one_throughout():
    scores = scores_of(street(), street())
    assert (scores.pq, scores.sq, scores.rq, scores.ap, scores.miou, scores.pixel_accuracy) == (1,) * 6
    assert scores.things == scores.stuff == {"pq": 1, "sq": 1, "rq": 1}
    assert scores.classes["car"].ap == scores.classes["car"].iou == 1
    assert scores.classes["road"].ap is None
    assert scores.classes["bus"].pq is None


def test_two_things_taken_for_one_cost_quality_and_no_iou():
    predicted = street()
    predicted[predicted // DIVISOR == CAR] = CAR * DIVISOR + 1
    scores = scores_of(street(), predicted)
    assert scores.classes["car"].pq == 0  # half of the union is no match
    assert scores.classes["car"].iou == 1
    assert scores.things == pytest.approx({"pq": 0.5, "sq": 0.5, "rq": 0.5})
    assert scores.stuff == {"pq": 1, "sq": 1, "rq": 1}


def test_pixels_given_to_nothing_are_misses_and_no_class_of_their_own():
    predicted = street()
    predicted[:3] = VOID  # half of the sky
    scores = scores_of(street(), predicted)
    assert scores.classes["sky"].iou == pytest.approx(0.5)
    assert scores.classes["road"].iou == 1
    assert scores.pixel_accuracy == pytest.approx(1 - 3 / 19)
    assert scores.miou == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_instances_of_an_image_are_counted_within_their_class():
    instance = np.arange(1, 1501, dtype=np.uint16).reshape(30, 50)
    top1 = np.where(instance % 2, CAR, PERSON).astype(np.uint8)
    panoptic = numbered_per_class(top1, instance)
    np.testing.assert_array_equal(panoptic // DIVISOR, top1)
    assert panoptic[0, :4].tolist() == [
        CAR * DIVISOR + 1,
        PERSON * DIVISOR + 1,
        CAR * DIVISOR + 2,
        PERSON * DIVISOR + 2,
    ]
    assert len(np.unique(panoptic)) == 1500


def test_more_instances_than_a_class_can_count_are_refused_and_not_given_to_the_next_class():
    instance = np.arange(1, 1201, dtype=np.uint16).reshape(30, 40)
    top1 = np.full(instance.shape, PERSON, np.uint8)
    many = Prediction(label=top1, top1=top1, confidence=top1 / np.float32(255), instance=instance)
    with pytest.raises(BadImage, match="it has 1200 instances of one class; 999 fit into a panoptic map"):
        PanopticScores(CITYSCAPES).add(np.full(instance.shape, PERSON * DIVISOR, np.int32), many)


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    draw_tree(root, {"train": 1, "val": 2, "train_extra": 1}, (64, 128))
    return str(root)


def test_teacher_that_tells_instances_apart_is_scored_on_them(streets):
    data = DataConfig(root=streets, split="val")
    scores = evaluate(EvaluateConfig(data=data, teacher=fake(instances=True)))
    assert isinstance(scores, PanopticEvaluation)
    assert scores.images == 2
    assert 0 <= scores.pq <= scores.rq <= 1
    document = scores.to_dict()
    assert set(document["classes"]["car"]) == {"pq", "sq", "rq", "ap", "iou"}
    assert set(document) >= {"pq", "sq", "rq", "ap", "ap50", "miou", "things", "stuff", "iou", "pixel_accuracy"}


def test_labels_without_instances_are_told(blocks):
    data = DataConfig(root=str(blocks), split="val")
    with pytest.raises(ValueError, match=r"has no image with instances; expected \*_gtFine_instanceIds\.png"):
        evaluate(EvaluateConfig(data=data, teacher=fake(instances=True)))
    assert not isinstance(evaluate(EvaluateConfig(data=data, teacher=fake())), PanopticEvaluation)
