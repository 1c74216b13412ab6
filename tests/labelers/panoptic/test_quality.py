"""Panoptic quality: golden counts, the official evaluator on random maps, rules by hand."""

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.panoptic.quality import PanopticQuality, count_regions
from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from tests.labelers.official import official_module
from tests.labelers.panoptic_golden import CASES, golden

IMAGES = range(4)


def test_counts_and_scores_are_the_golden_ones():
    quality = PanopticQuality(CITYSCAPES)
    for i in IMAGES:
        counts = count_regions(golden(f"pq.{i}.gt"), golden(f"pq.{i}.pred"), CITYSCAPES)
        np.testing.assert_allclose(counts, golden(f"pq.{i}.iou_tp_fp_fn"), rtol=0, atol=1e-12)
        quality.add(golden(f"pq.{i}.gt"), golden(f"pq.{i}.pred"))
    np.testing.assert_allclose(quality.counts, golden("pq.iou_tp_fp_fn"), rtol=0, atol=1e-12)
    for name, found in (("All", quality.mean()), ("Things", quality.of_things), ("Stuff", quality.of_stuff)):
        assert found._asdict() == pytest.approx({key: CASES["pq"][name][key] for key in ("pq", "sq", "rq")})


def random_pair(draw):
    """(labels, prediction) [48, 64] int32 with void, crowds and stuff; the prediction is the labels, disturbed."""
    blocks = draw.integers(0, 40, (6, 8))
    ids = np.where(blocks < 20, blocks % 19 * 1000, (11 + blocks % 8) * 1000 + draw.integers(0, 3, (6, 8)))
    labels = ids.repeat(8, 0).repeat(8, 1)
    labels[draw.random(labels.shape) < 0.05] = VOID
    labels[: draw.integers(1, 20)] = VOID
    predicted = np.roll(labels, draw.integers(-2, 3, 2), (0, 1))
    things = (predicted // 1000 >= 11) & (predicted != VOID)
    predicted = np.where(things, predicted // 1000 * 1000 + predicted % 1000 + 1, predicted)
    other = draw.random((12, 16)).repeat(4, 0).repeat(4, 1) < 0.3
    predicted[other] = (draw.integers(0, 11, (12, 16)) * 1000).repeat(4, 0).repeat(4, 1)[other]
    return labels.astype(np.int32), predicted.astype(np.int32)


def official_counts(module, folder, labels, predicted):
    """[19, 4] of one image by the official script, from PNG files; numbers are raised by one, as 0 is void there."""
    about = []
    for name, ids in (("gt", labels), ("pred", predicted)):
        stored = np.where(ids == VOID, 0, ids + 1)
        Image.fromarray(np.stack([stored >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)).save(
            folder / f"{name}.png"
        )
        found = [int(number) for number in np.unique(ids) if number != VOID]
        regions = [
            {
                "id": number + 1,
                "category_id": number // 1000,
                "area": int((ids == number).sum()),
                "iscrowd": int(name == "gt" and number // 1000 >= 11 and number % 1000 == 0),
            }
            for number in found
        ]
        about.append({"image_id": "0", "file_name": f"{name}.png", "segments_info": regions})
    categories = {number: {"isthing": number >= 11} for number in range(19)}
    stat = module.pq_compute_single_core(0, [tuple(about)], str(folder), str(folder), categories)
    return np.array([[getattr(stat[k], part) for part in ("iou", "tp", "fp", "fn")] for k in range(19)], float)


def test_counts_are_those_of_the_official_script_on_random_maps(tmp_path):
    module = official_module("evalPanopticSemanticLabeling")
    draw, total = np.random.default_rng(0), np.zeros(4)
    for _ in range(20):
        labels, predicted = random_pair(draw)
        ours = count_regions(labels, predicted, CITYSCAPES)
        np.testing.assert_allclose(ours, official_counts(module, tmp_path, labels, predicted), rtol=0, atol=1e-9)
        total += ours.sum(0)
    assert (total > 40).all()  # there is enough of everything


ROAD_AND_CAR = ClassTable("two", ("road", "car"), ((0, 0, 0), (1, 1, 1)), (7, 26), things=(1,))


def counts_of(labels, predicted):
    return count_regions(np.array(labels), np.array(predicted), ROAD_AND_CAR).tolist()


CAR, OTHER, CROWD = 1001, 1002, 1000


@pytest.mark.parametrize(
    ("labels", "predicted", "of_cars"),
    [
        ([[CAR, CAR, CAR, 0]], [[CAR, CAR, 0, 0]], [2 / 3, 1, 0, 0]),
        ([[CAR, CAR, 0, 0]], [[CAR, 0, 0, 0]], [0, 0, 1, 1]),  # half is not above a half
        ([[CAR, VOID, VOID, 0]], [[CAR, CAR, CAR, 0]], [1, 1, 0, 0]),  # void does not count against a match
        ([[CAR, CAR, CAR, 0]], [[VOID, VOID, CAR, 0]], [0, 0, 1, 1]),  # void that is predicted gets no favor
        ([[CROWD, CROWD, CROWD, 0]], [[CAR, CAR, OTHER, 0]], [0, 0, 0, 0]),
        ([[CROWD, VOID, 0, 0]], [[CAR, CAR, CAR, 0]], [0, 0, 0, 0]),  # two thirds are excused
        ([[CROWD, 0, 0, 0]], [[CAR, CAR, 0, 0]], [0, 0, 1, 0]),  # half of it is not more than half
        ([[CROWD, CROWD, 0, 0]], [[VOID, VOID, 0, 0]], [0, 0, 0, 0]),
        ([[CAR, CAR, OTHER, OTHER]], [[OTHER, OTHER, CAR, CAR]], [2, 2, 0, 0]),
    ],
)
def test_rules_of_void_and_crowds(labels, predicted, of_cars):
    assert counts_of(labels, predicted)[1] == pytest.approx(of_cars)


def test_classes_that_do_not_occur_are_left_out_of_the_mean():
    quality = PanopticQuality(CITYSCAPES)
    assert quality.mean() is None
    quality.add(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert quality.mean() == (1.0, 1.0, 1.0)
    assert quality.of_things is None
    assert quality.by_class()["road"] == (1.0, 1.0, 1.0)
    assert quality.by_class()["car"] is None


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 2\), the prediction \(1, 1\)"):
        counts_of([[0, 0]], [[0]])
    with pytest.raises(ValueError, match=r"the prediction has trainId 13; .* with trainIds 0\.\.1"):
        counts_of([[0]], [[13_001]])
