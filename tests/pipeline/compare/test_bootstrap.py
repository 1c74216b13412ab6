"""The bootstrap against figures worked by hand, and against what it promises."""

import numpy as np
import pytest

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.compare.bootstrap import draw, interval, mean_iou, resampled_iou
from hmsa_label.pipeline.data.scores import Confusion


def confusions(seeds, images, *, skill, classes=19, seed=0):
    """[S, N, K, K]: labels drawn once for all, right with probability `skill`, else the class after it."""
    rng = np.random.default_rng(seed)
    found = np.zeros((seeds, images, classes, classes), np.int64)
    for image in range(images):
        labels = rng.integers(0, classes - 1, 200)  # the last class is never labeled
        for number in range(seeds):
            wrong = np.random.default_rng((seed, image, number)).random(200) >= skill
            np.add.at(found[number, image], (labels, (labels + wrong) % classes), 1)
    return found


def test_first_figure_is_the_score_of_all_images_averaged_over_seeds():
    counts = confusions(2, 5, skill=0.8)
    iou = resampled_iou(counts, draw(5, 2, 10))
    by_seed = []
    for number in range(2):
        confusion = Confusion(CITYSCAPES)
        confusion.counts = counts[number].sum(0)
        by_seed.append(confusion.scores().iou)
    assert iou[0, 3] == pytest.approx(np.mean([scores["wall"] for scores in by_seed]))
    labeled = [np.mean([scores[name] for scores in by_seed]) for name in CITYSCAPES.names[:-1]]
    assert mean_iou(iou)[0] == pytest.approx(np.mean(labeled))


def test_a_class_that_is_predicted_but_never_labeled_is_not_in_the_mean():
    counts = np.zeros((1, 1, 3, 3), np.int64)
    counts[0, 0] = [[3, 0, 1], [0, 4, 0], [0, 0, 0]]
    iou = resampled_iou(counts, draw(1, 1, 1))
    assert iou[0, :2].tolist() == [0.75, 1.0]
    assert np.isnan(iou[0, 2])
    assert mean_iou(iou)[0] == 0.875


def test_draws_sum_to_what_there_is_and_repeat():
    draws = draw(7, 3, 50, seed=4)
    assert set(draws.images.sum(1)) == {7.0}
    assert set(draws.seeds.sum(1)) == {3.0}
    assert (draws.images[0] == 1).all()
    assert (draws.seeds[0] == 1).all()
    assert np.array_equal(draws.images, draw(7, 3, 50, seed=4).images)


def test_a_resample_is_the_score_of_its_images_and_seeds():
    counts = confusions(3, 4, skill=0.7)
    draws = draw(4, 3, 20, seed=1)
    iou = resampled_iou(counts, draws)
    expected = []
    for number, times in enumerate(draws.seeds[9]):
        total = sum(counts[number, image] * int(draws.images[9, image]) for image in range(4))
        hits = np.diag(total)
        expected += [hits[5] / (total[5].sum() + total[:, 5].sum() - hits[5])] * int(times)
    assert iou[9, 5] == pytest.approx(np.mean(expected))


def test_equal_arms_differ_by_nothing_and_better_ones_by_more_than_nothing():
    draws = draw(20, 3, 300)
    plain, better = confusions(3, 20, skill=0.7), confusions(3, 20, skill=0.8)
    same = interval(mean_iou(resampled_iou(plain, draws)) - mean_iou(resampled_iou(plain, draws)), 0.95)
    assert (same.value, same.low, same.high, same.above_zero) == (0, 0, 0, 0)
    gain = interval(mean_iou(resampled_iou(better, draws)) - mean_iou(resampled_iou(plain, draws)), 0.95)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.above_zero == 1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Many small samples of one large population: nominal 80 %, here within what 100 trials allow."""
    population = confusions(1, 400, skill=0.75, classes=4)
    truth = mean_iou(resampled_iou(population, draw(400, 1, 1)))[0]
    rng, held = np.random.default_rng(0), 0
    for trial in range(100):
        sample = population[:, rng.choice(400, 40, replace=False)]
        found = interval(mean_iou(resampled_iou(sample, draw(40, 1, 200, seed=trial))), 0.8)
        held += found.low <= truth <= found.high
    assert 65 <= held <= 95


def test_a_class_without_labels_has_no_interval():
    assert interval(np.array([np.nan, 0.1]), 0.95) is None
    assert interval(np.array([0.5, np.nan, np.nan]), 0.95) is None
