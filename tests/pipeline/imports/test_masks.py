"""Masks with scores: how they are decoded, and which one wins."""

import json

import numpy as np
import pytest
from PIL import Image

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.imports.masks import Categories, Scored, masks_of_folder, masks_of_results, paint
from hmsa_label.pipeline.imports.rle import mask_of
from hmsa_label.stores.images.source import BadImage, TreeSource

SIZE = (4, 4)
NAMED = Categories(classes=CITYSCAPES, names={1: "person", 3: "car", 5: "airplane"}, ids="raw")


def block(top, left, height, width):
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_compressed_counts_are_those_that_the_coco_format_states():
    # 9 x 10 pixels; 61X13mN000`0 spells the runs 6, 1, 40, 4, 5, 4, 5, 4, 21 down the columns.
    runs = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    flat = np.repeat(np.arange(9) % 2, runs).astype(bool)
    expected = flat.reshape(10, 9).T
    assert np.array_equal(mask_of({"size": [9, 10], "counts": "61X13mN000`0"}, (9, 10)), expected)
    assert np.array_equal(mask_of({"size": [9, 10], "counts": runs}, (9, 10)), expected)


def test_a_polygon_fills_the_pixels_whose_centers_it_holds():
    square = mask_of([[1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0]], SIZE)
    assert square[:2, 1:3].all()
    assert square.sum() <= 9  # an edge that runs through pixels may take them


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ({"size": [4, 5], "counts": [20]}, r"a mask states the size \[4, 5\]; the image has \[4, 4\]"),
        ({"size": [4, 4], "counts": [3, 4]}, "the runs of an RLE mask do not make up 4 x 4 pixels"),
        ({"size": [4, 4], "counts": [-1, 17]}, "the runs of an RLE mask do not make up 4 x 4 pixels"),
        ({"size": [4, 4], "counts": "~~~"}, "counts of an RLE mask must be whole numbers or their text"),
        ({"size": [4, 4], "counts": "PPPPPPPPPPPPPPP"}, "counts of an RLE mask must be whole numbers"),
        ({"size": [4, 4]}, "counts of an RLE mask must be whole numbers"),
        ([[1, 2, 3]], "a polygon must be a list of at least three x, y"),
        ([[0, 0, 1, "x"]], "a polygon must be a list of at least three x, y"),
        (None, "a segmentation must be an RLE object or a list of polygons; got None"),
    ],
)
def test_segmentations_that_cannot_be_meant_are_refused_in_one_line(segmentation, reason):
    with pytest.raises(BadImage, match=reason):
        mask_of(segmentation, SIZE)


def test_where_masks_overlap_the_higher_score_wins_in_any_order():
    masks = [Scored(3, 0.6, block(0, 0, 4, 3)), Scored(1, 0.9, block(0, 2, 2, 2)), Scored(3, 0.7, block(0, 3, 1, 1))]
    car, person = CITYSCAPES.names.index("car"), CITYSCAPES.names.index("person")
    for order in (masks, masks[::-1]):
        top1, score = paint(order, NAMED, SIZE)
        assert top1.tolist() == [[car, car, person, person]] * 2 + [[car, car, car, 255]] * 2
        assert score.values[:, :3].tolist() == pytest.approx(np.array([[0.6, 0.6, 0.9]] * 2 + [[0.6] * 3] * 2))
        assert score.values[2:, 3].tolist() == [0.0, 0.0]


def test_a_mask_with_score_0_is_a_label_all_the_same():
    top1, score = paint([Scored(3, 0.0, block(0, 0, 4, 4))], NAMED, SIZE)
    assert (top1 == CITYSCAPES.names.index("car")).all()
    assert (score.values == 0).all()


def test_of_masks_with_equal_scores_the_first_one_wins_and_a_score_of_a_foreign_class_counts_for_nothing():
    masks = [Scored(3, 0.6, block(0, 0, 4, 4)), Scored(1, 0.6, block(0, 0, 4, 4)), Scored(5, 0.9, block(0, 0, 4, 4))]
    assert set(paint(masks, NAMED, SIZE)[0].ravel()) == {CITYSCAPES.names.index("car")}


def test_categories_without_names_are_ids_of_the_data():
    raw, train = (
        Categories(classes=CITYSCAPES, names={}, ids="raw"),
        Categories(classes=CITYSCAPES, names={}, ids="train"),
    )
    assert (raw.train_id(26), train.train_id(13), raw.train_id("Car"), raw.train_id(0)) == (13, 13, 13, 255)
    with pytest.raises(BadImage, match="a mask of category 90, which is no id of cityscapes"):
        raw.train_id(90)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            {"category_id": 1, "segmentation": {"size": [4, 4], "counts": [16]}},
            "a mask needs a score from 0 to 1; got None",
        ),
        ({"category_id": 1, "score": 1.5}, "a mask needs a score from 0 to 1; got 1.5"),
        ({"category_id": 1, "score": 10**400}, "a mask needs a score from 0 to 1; got 1000"),
        ({"score": 0.5}, "a mask needs a category; got None"),
    ],
)
def test_results_that_lack_something_are_refused_by_number(entry, reason):
    with pytest.raises(BadImage, match=f"result 1 of this image: {reason}"):
        list(masks_of_results([entry], SIZE))


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "street"
    inside.mkdir()
    Image.fromarray(block(0, 0, 2, 2).astype(np.uint8) * 255).save(inside / "0.png")
    Image.fromarray(block(1, 1, 2, 2)).save(inside / "1.png")
    return inside


def masks_in(folder):
    return list(masks_of_folder(TreeSource(str(folder.parent)), folder.name, SIZE))


def test_a_folder_of_masks_is_read_with_the_table_beside_them(folder):
    (folder / "metadata.csv").write_text("id,category,predicted_iou,area\n0,car,0.5,4\n1,person,0.75,4\n")
    first, second = masks_in(folder)
    assert (first.category, first.score, second.category, second.score) == ("car", 0.5, "person", 0.75)
    assert np.array_equal(first.pixels, block(0, 0, 2, 2))
    assert np.array_equal(second.pixels, block(1, 1, 2, 2))
    (folder / "metadata.csv").unlink()
    (folder / "masks.json").write_text(json.dumps([{"file": "1.png", "category_id": 3, "score": 0.25}]))
    (only,) = masks_in(folder)
    assert (only.category, only.score) == (3, 0.25)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("[]x", "street/masks.json: it does not read"),
        ("{}", "street/masks.json: it must hold a list of objects"),
        (
            '[{"file": "9.png", "class": "car", "score": 1}]',
            "street/masks.json: it names 9.png, and there is no such file",
        ),
        ('[{"file": "0.png", "class": "car"}]', "street/masks.json: a mask has none of score, confidence"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused_in_one_line(folder, table, reason):
    (folder / "masks.json").write_text(table)
    with pytest.raises(BadImage, match=reason):
        masks_in(folder)


def test_a_mask_of_another_size_and_a_missing_table_are_named(folder):
    with pytest.raises(BadImage, match="one JSON or CSV file must say class and score of each mask; found none"):
        masks_in(folder)
    (folder / "masks.json").write_text('[{"file": "0.png", "class": "car", "score": 1}]')
    Image.fromarray(np.zeros((2, 4), np.uint8)).save(folder / "0.png")
    with pytest.raises(BadImage, match=r"street/0.png: size 2 x 4 differs from the image's 4 x 4"):
        masks_in(folder)
