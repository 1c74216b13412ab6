"""From maps to instances: golden scenes, hand-worked scenes, and what must not change the result."""

import numpy as np
import pytest
import torch

from hmsa_label.labelers.base import Instance
from hmsa_label.labelers.panoptic import grouping
from hmsa_label.labelers.panoptic.centers import find_centers
from hmsa_label.labelers.panoptic.grouping import group_pixels
from hmsa_label.labelers.panoptic.ids import VOID
from hmsa_label.labelers.panoptic.merge import is_thing, merge
from hmsa_label.labelers.panoptic.predict import predict
from hmsa_label.labelers.panoptic.settings import PostProcessing
from tests.labelers.panoptic_golden import CASES, THINGS, golden, golden_tensor

TOP_K = tuple(f"topk{k}" for k in range(3, 8))
SCENES = ("street", "street_k3_thr03", "logits", "foreground", "plateau", "majority_tie", "no_center", "stuff_limit")


def semantic_of(name):
    if name == "logits":
        return golden_tensor("post.logits.semantic_logits").argmax(0)
    return golden_tensor(f"post.{name}.semantic")


@pytest.mark.parametrize("name", SCENES + TOP_K)
def test_centers_are_the_golden_ones(name):
    case = CASES[f"post.{name}"]
    heatmap, top_k = golden_tensor(f"post.{name}.center"), case["top_k"]
    points, scores = find_centers(heatmap, case["threshold"], case["nms_kernel"], top_k)
    if len(points) == top_k:  # there the reference keeps only what is strictly above the k-th score
        points = points[scores > scores.min()]
    assert points.tolist() == golden(f"post.{name}.out.centers_yx").tolist()


@pytest.mark.parametrize(
    ("top_k", "scores"), [(3, [0.9, 0.8, 0.7]), (4, [0.9, 0.8, 0.7, 0.6]), (9, [0.9, 0.8, 0.7, 0.6, 0.6, 0.5])]
)
def test_top_k_keeps_k_centers(top_k, scores):
    points, found = find_centers(golden_tensor("post.topk3.center"), 0.1, 7, top_k)
    assert sorted(found.tolist(), reverse=True) == pytest.approx(scores)
    assert points.tolist() == sorted(points.tolist())


def test_of_equal_centers_the_first_in_reading_order_are_kept():
    heatmap = torch.zeros(20, 20)
    heatmap[[1, 1, 10, 18], [2, 15, 9, 3]] = 0.5
    heatmap[18, 15] = 0.9
    assert find_centers(heatmap, top_k=3)[0].tolist() == [[1, 2], [1, 15], [18, 15]]


@pytest.mark.parametrize("name", SCENES + TOP_K)
def test_groups_and_panoptic_maps_are_the_golden_ones(name):
    case, semantic = CASES[f"post.{name}"], semantic_of(name)
    mask = is_thing(semantic, THINGS)
    if name == "foreground":
        mask = golden_tensor("post.foreground.foreground").bool()
    centers = golden_tensor(f"post.{name}.out.centers_yx")
    groups = group_pixels(centers, golden_tensor(f"post.{name}.offset"), mask)
    np.testing.assert_array_equal(groups, golden(f"post.{name}.out.instance"))
    panoptic = merge(semantic, groups, THINGS, 19, case["stuff_area"]).panoptic_map()
    np.testing.assert_array_equal(panoptic, golden(f"post.{name}.out.panoptic"))
    assert panoptic.dtype == torch.int32


def golden_scene(name):
    """(probabilities, center, offset, settings) of a golden case, as a batch of one."""
    case = CASES[f"post.{name}"]
    if name == "logits":
        probabilities = golden_tensor("post.logits.semantic_logits").softmax(0)
    else:
        probabilities = torch.nn.functional.one_hot(semantic_of(name).long(), 19).permute(2, 0, 1).float()
    settings = PostProcessing(
        peak_threshold=case["threshold"],
        kernel_px=case["nms_kernel"],
        top_k=case["top_k"],
        stuff_area_px=case["stuff_area"],
    )
    maps = golden_tensor(f"post.{name}.center")[None, None], golden_tensor(f"post.{name}.offset")[None]
    return probabilities[None], *maps, settings


@pytest.mark.parametrize("name", ["street", "logits", "plateau", "majority_tie", "no_center", "stuff_limit"])
def test_prediction_has_the_golden_classes_and_regions(name):
    *maps, settings = golden_scene(name)
    result = predict(*maps, THINGS, settings)
    expected = golden_tensor(f"post.{name}.out.panoptic")
    assert torch.equal(result.top1[0].long(), expected.long() // 1000)
    pairs = torch.stack([result.instance[0].long(), expected.long()]).flatten(1)[:, result.instance[0].flatten() > 0]
    assert pairs.unique(dim=1).shape[1] == len(pairs[0].unique()) == len(pairs[1].unique()) == len(result.instances[0])
    assert not ((expected % 1000 > 0) ^ (result.instance[0] > 0)).any()


def test_confidence_of_an_instance_is_the_golden_mean_probability_of_its_class():
    *maps, settings = golden_scene("logits")
    instances = predict(*maps, THINGS, settings).instances[0]
    assert [one.train_id for one in instances] == golden("post.logits.out.score_class").tolist()
    ours = [one.confidence for one in instances]
    np.testing.assert_allclose(ours, golden("post.logits.out.score_semantic"), rtol=0, atol=1e-6)


def drawn_scene():
    """A car (class 1) of 3x4 px and a person (class 2) of 2x2 px on a road (class 0), with offsets without fault."""
    probabilities = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1).repeat(1, 1, 8, 10)
    center, offset = torch.zeros(1, 1, 8, 10), torch.zeros(1, 2, 8, 10)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(10.0), indexing="ij")
    for train_id, rows, columns, peak, score in (
        (1, slice(1, 4), slice(1, 5), (2, 3), 0.7),
        (2, slice(5, 7), slice(6, 8), (5, 6), 1.2),
    ):
        probabilities[0, :, rows, columns] = 0.05
        probabilities[0, train_id, rows, columns] = 0.9
        center[0, 0, peak[0], peak[1]] = score
        offset[0, :, rows, columns] = torch.stack([peak[0] - y, peak[1] - x])[:, rows, columns]
    return probabilities, center, offset


SMALL = PostProcessing(kernel_px=3, stuff_area_px=10)


def test_instances_have_scores_area_and_box():
    result = predict(*drawn_scene(), (1, 2), SMALL)
    car, person = result.instances[0]
    assert (car.train_id, car.area_px, car.box) == (1, 12, (1, 1, 4, 3))
    assert (car.center_score, car.confidence) == pytest.approx((0.7, 0.9))
    assert (person.train_id, person.area_px, person.box) == (2, 4, (6, 5, 2, 2))
    assert person.center_score == 1.0  # the heat map is linear, a score is not
    assert person.confidence == pytest.approx(0.9)
    assert isinstance(car, Instance)
    assert all(type(n) is int for n in (*car.box, car.area_px, car.train_id))
    assert result.instance[0].unique().tolist() == [0, 1, 2]
    assert result.top1.dtype == torch.uint8
    assert result.confidence.dtype == torch.float32


def test_outvoted_pixel_takes_the_class_of_its_instance_with_the_probability_of_that_class():
    probabilities, center, offset = drawn_scene()
    probabilities[0, :, 1, 1] = torch.tensor([0.1, 0.3, 0.6])  # a pixel of the car that looks like a person
    result = predict(probabilities, center, offset, (1, 2), SMALL)
    assert (int(result.top1[0, 1, 1]), int(result.instance[0, 1, 1])) == (1, 1)
    assert float(result.confidence[0, 1, 1]) == pytest.approx(0.3)
    assert result.instances[0][0].confidence == pytest.approx((11 * 0.9 + 0.3) / 12)


def test_thing_pixels_without_a_center_and_small_stuff_are_void_without_confidence():
    probabilities, center, offset = drawn_scene()
    result = predict(probabilities, torch.zeros_like(center), offset, (1, 2), PostProcessing(stuff_area_px=80))
    assert (result.top1 == 255).all()
    assert not result.confidence.any()
    assert result.instances == [[]]
    assert (merge(result.top1[0], result.instance[0], (1, 2), 3, 0).panoptic_map() == VOID).all()


def test_ignored_pixels_are_void_and_take_part_in_no_instance():
    ignored = torch.zeros(1, 8, 10, dtype=torch.bool)
    ignored[:, :2] = True
    result = predict(*drawn_scene(), (1, 2), SMALL, ignored)
    assert (result.top1[ignored] == 255).all()
    assert not result.confidence[ignored].any()
    assert result.instances[0][0].box == (1, 2, 4, 2)


def test_ignored_pixels_vote_for_no_class():
    probabilities, center, offset = drawn_scene()
    probabilities[0, :, 1:3, 1:5] = torch.tensor([0.0, 0.1, 0.9])[:, None, None]  # 8 of the car's 12 pixels
    assert predict(probabilities, center, offset, (1, 2), SMALL).instances[0][0].train_id == 2
    ignored = torch.zeros(1, 8, 10, dtype=torch.bool)
    ignored[:, :3] = True
    assert predict(probabilities, center, offset, (1, 2), SMALL, ignored).instances[0][0].train_id == 1


def test_center_that_no_pixel_points_at_is_no_instance():
    probabilities, center, offset = drawn_scene()
    center[0, 0, 0, 9] = 0.95
    result = predict(probabilities, center, offset, (1, 2), SMALL)
    assert [one.train_id for one in result.instances[0]] == [1, 2]
    assert [one.center_score for one in result.instances[0]] == pytest.approx([0.7, 1.0])
    assert result.instance.max() == 2


def test_images_of_a_batch_are_labeled_as_each_alone():
    draw = torch.Generator().manual_seed(1)
    shapes = ((3, 6, 40, 50), (3, 1, 40, 50), (3, 2, 40, 50))
    probabilities, center, offset = (torch.rand(shape, generator=draw) for shape in shapes)
    together = predict(probabilities, center, offset * 20 - 10, (2, 4))
    for i in range(3):
        part = slice(i, i + 1)
        alone = predict(probabilities[part], center[part], offset[part] * 20 - 10, (2, 4))
        assert together.instances[i] == alone.instances[0]
        assert len(alone.instances[0]) > 10
        assert all(torch.equal(a[part], b) for a, b in zip(together[:3], alone[:3], strict=True))


def nearest_by_hand(centers, offset, mask):
    y, x = torch.meshgrid(torch.arange(mask.shape[0]), torch.arange(mask.shape[1]), indexing="ij")
    targets = torch.stack([y, x]).double() + offset.double()
    distances = (centers.double()[:, :, None, None] - targets).square().sum(1)
    return torch.where(mask, distances.argmin(0) + 1, 0)


@pytest.mark.parametrize("reach", [2.0, 500.0])  # offsets that stay near, and such that leave the image
@pytest.mark.parametrize("tile", [(1, 3), (16, 16), (1000, 1000)])
def test_every_pixel_gets_the_nearest_center_whatever_the_tiles(monkeypatch, tile, reach):
    draw = torch.Generator().manual_seed(2)
    centers = torch.randint(0, 70, (40, 2), generator=draw)
    centers[7] = centers[30]  # of equally near ones the first
    offset, mask = torch.randn(2, 66, 70, generator=draw) * reach, torch.rand(66, 70, generator=draw) < 0.5
    monkeypatch.setattr(grouping, "_CPU_TILE_PX", tile)
    groups = group_pixels(centers, offset, mask)
    assert torch.equal(groups, nearest_by_hand(centers, offset, mask))
    assert (groups == 8).any()


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"kernel_px": 4}, "must be odd"), ({"top_k": 1000}, "1 to 999"), ({"stuff_area_px": -1}, "negative")],
)
def test_settings_that_make_no_sense_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        PostProcessing(**setting)


@pytest.mark.gpu
def test_gpu_finds_the_instances_that_a_cpu_finds():
    *maps, settings = golden_scene("street")
    expected = predict(*maps, THINGS, settings)
    found = predict(*(part.cuda() for part in maps), THINGS, settings)
    assert found.instances == expected.instances
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found[:3], expected[:3], strict=True))
