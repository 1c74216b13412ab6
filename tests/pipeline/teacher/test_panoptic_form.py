"""What a teacher that tells instances apart must give, and what it is told where it does not."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.base import PANOPTIC, Instance, LabelerFault, NotFinite, Panoptic, Part, TopClass
from hmsa_label.labelers.taxonomy import CITYSCAPES, IGNORE_INDEX
from hmsa_label.pipeline.teacher.forms import check
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.stores.format.evidence import grid_with
from hmsa_label.stores.format.rule import Rule
from tests.fake_teacher import fake

PERSON, CAR, ROAD = 11, 13, 0
SIZE = (4, 6)
GRID = np.asarray(grid_with(0.5), np.float32)


def street() -> dict[str, object]:
    """A road with a car of 2 x 3 px and a person of 3 x 1 px; the last column is void."""
    top1 = torch.full((1, *SIZE), ROAD, dtype=torch.uint8)
    instance, confidence = torch.zeros(1, *SIZE, dtype=torch.int32), torch.full((1, *SIZE), 0.9)
    top1[..., 5], confidence[..., 5] = IGNORE_INDEX, 0
    top1[0, :2, :3], instance[0, :2, :3] = CAR, 1
    top1[0, 1:, 4], instance[0, 1:, 4] = PERSON, 2
    listed = [Instance(CAR, 0.8, 0.9, 6, (0, 0, 3, 2)), Instance(PERSON, 0.3, 0.9, 3, (4, 1, 1, 3))]
    return {"top1": top1, "confidence": confidence, "instance": instance, "instances": [listed]}


def part_of(values: object, rows: slice = slice(0, 4)) -> Part:
    return Part(slice(0, 1), rows, slice(0, 6), values)


def changed(name: str, place: tuple, value: float) -> Panoptic:
    given = street()
    given[name][place] = value
    return Panoptic(**given)


def listing(number: int, **fields: object) -> Panoptic:
    given = street()
    given["instances"][0][number] = given["instances"][0][number]._replace(**fields)
    return Panoptic(**given)


def test_what_keeps_to_the_form_is_taken():
    check(part_of(Panoptic(**street())), PANOPTIC, CITYSCAPES, SIZE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (TopClass(torch.zeros(1, 4, 6), torch.zeros(1, 4, 6)), "a Panoptic of three tensors .* it gave a TopClass"),
        (Panoptic(**{**street(), "instance": torch.zeros(1, 4, 5)}), r"instance \[1, 4, 6\] of integers.*\[1, 4, 5\]"),
        (Panoptic(**{**street(), "instances": []}), "instances for each of 1 images; it gave 0"),
        (changed("top1", (0, 3, 0), 19), "trainIds from 0 to 18, or 255 for void; it gave 19"),
        (changed("confidence", (0, 3, 0), 1.5), "confidence from 0 to 1; it gave 0 to 1.5"),
        (changed("confidence", (0, 3, 5), 0.5), "confidence 0 where a pixel is void"),
        (changed("instance", (0, 3, 0), 3), "instances from 0 to the 2 that it lists; its map holds 0 to 3"),
        (changed("instance", (0, 3, 0), 1), "an instance for every pixel of a thing and for no other; .*person"),
        (changed("instance", (0, 0, 0), 0), "an instance for every pixel of a thing and for no other"),
        (changed("top1", (0, 0, 0), PERSON), "class 13 for all pixels of instance 1"),
        (listing(0, area_px=7), "instance 1 has in its map, 6 px .* it gave 7 px"),
        (listing(1, box=(4, 1, 3, 1)), r"instance 2 has in its map, 3 px and \(4, 1, 1, 3\).*\(4, 1, 3, 1\)"),
        (listing(1, center_score=float("nan")), "scores from 0 to 1; instance 2 has center_score nan"),
        (Panoptic(**{**street(), "instances": [[(CAR, 0.8, 0.9, 6, (0, 0, 3, 2))] * 2]}), "holds a tuple"),
    ],
)
def test_what_breaks_the_form_is_named(values, message):
    with pytest.raises(LabelerFault, match=f"predict must give .*{message}"):
        check(part_of(values), PANOPTIC, CITYSCAPES, SIZE)


def test_instances_without_pixels_are_no_instances():
    given = street()
    given["instances"][0].append(Instance(CAR, 0.5, 0.5, 0, (0, 0, 0, 0)))
    with pytest.raises(LabelerFault, match="only instances that have pixels; instance 3 has none"):
        check(part_of(Panoptic(**given)), PANOPTIC, CITYSCAPES, SIZE)


def test_parts_of_an_image_are_refused():
    with pytest.raises(LabelerFault, match="whole images of 8 x 6 px"):
        check(part_of(Panoptic(**street())), PANOPTIC, CITYSCAPES, (8, 6))


def test_confidence_that_is_no_number_is_no_fault_of_the_labeler():
    with pytest.raises(NotFinite):
        check(part_of(changed("confidence", (0, 3, 0), float("nan"))), PANOPTIC, CITYSCAPES, SIZE)


@pytest.fixture
def image():
    return np.random.default_rng(5).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("rule", [Rule(0.5), Rule(0.5, 0.4, 0.0), Rule(0.5, 0.0, 0.52), Rule(0.55, 0.3, 0.5)])
def test_labels_are_the_pixels_and_instances_that_reach_every_threshold(image, rule):
    teacher = Teacher(fake(instances=True))
    (labeled,) = teacher.label([image], GRID, rule, True)
    raw = teacher.predict(image, 0.5)
    assert len(raw.instances) > 2
    assert np.unique(raw.instance).tolist() == list(range(len(raw.instances) + 1))
    kept = raw.confidence >= np.float32(rule.threshold)
    for number, instance in enumerate(raw.instances, 1):
        score, sure = np.float32(instance.center_score), np.float32(instance.confidence)
        if score < np.float32(rule.center_threshold) or sure < np.float32(rule.instance_threshold):
            kept &= raw.instance != number
    np.testing.assert_array_equal(labeled.label, np.where(kept, raw.top1, 255))
    np.testing.assert_array_equal(labeled.arrays["instance"], raw.instance)
    predicted = teacher.predict(image, rule.threshold, rule.center_threshold, rule.instance_threshold)
    np.testing.assert_array_equal(predicted.label, labeled.label)
    assert labeled.instances == raw.instances


def test_instances_are_kept_without_evidence_too(image):
    (labeled,) = Teacher(fake(instances=True)).label([image], GRID, Rule(0.5), False)
    assert set(labeled.arrays) == {"label", "instance"}
    assert labeled.arrays["instance"].dtype == np.uint16
    assert labeled.arrays["instance"].max() == len(labeled.instances)


def test_scores_of_all_classes_are_refused_by_a_teacher_that_keeps_them_to_itself(image):
    for ask in (
        lambda teacher: teacher.logits([image]),
        lambda teacher: teacher.probabilities(torch.zeros(1, 2, 2, 3)),
    ):
        with pytest.raises(ValueError, match="gives panoptic, and no probabilities of all classes"):
            ask(Teacher(fake(instances=True)))


def test_thresholds_of_instances_are_refused_by_a_teacher_without_any(image):
    with pytest.raises(ValueError, match="tells no instances apart; leave --center-threshold"):
        Teacher(fake()).predict(image, center_threshold=0.2)
