"""Polygons grow where the nearest polygon and a flood of the image name one class; hand-worked maps, properties."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.pipeline.data.growth import grow
from hmsa_label.pipeline.demo.scenes.street import draw_street
from hmsa_label.pipeline.demo.scenes.tree import coarse_regions, paint_regions
from hmsa_label.stores.format.rule import MAX_GROW_PX

NONE = _ = 255


def two_tones(shape, edge, dark=20, light=230):
    """[H, W, 3] uint8, dark left of the column `edge`, light from there on."""
    image = np.full((*shape, 3), dark, np.uint8)
    image[:, edge:] = light
    return image


def polygons(shape, **boxes):
    """[H, W] uint8, 255 but for boxes `c<class>=(top, bottom, left, right)`."""
    drawn = np.full(shape, NONE, np.uint8)
    for name, (top, bottom, left, right) in boxes.items():
        drawn[top:bottom, left:right] = int(name[1:])
    return drawn


@pytest.mark.parametrize(
    ("edge", "row", "row_px"),
    [
        # Up to column 5 road is nearer. The flood of road stops at the edge of color at 8, past the middle: columns 6
        # and 7 have two answers, 8 and 9 are building for both.
        (8, [_, _, 0, 0, 0, 0, _, _, 2, 2, _, _], [0, 0, 1, 2, 3, 4, 0, 0, 2, 1, 0, 0]),
        # The flood of building reaches the edge at 4, beyond the middle: columns 4 and 5 have two answers.
        (4, [_, _, 0, 0, _, _, 2, 2, 2, 2, _, _], [0, 0, 1, 2, 0, 0, 4, 3, 2, 1, 0, 0]),
    ],
)
def test_growth_ends_where_flood_and_distance_differ(edge, row, row_px):
    drawn = polygons((4, 12), c0=(0, 4, 0, 2), c2=(0, 4, 10, 12))  # road in columns 0 and 1, building in 10 and 11
    grown, grown_px = grow(two_tones((4, 12), edge), drawn)
    assert grown.tolist() == [row] * 4
    assert grown_px.tolist() == [row_px] * 4


def test_distance_is_euclidean_and_rounded_up():
    # One pixel of road at (2, 2); the flat image lets its flood go everywhere but to a far corner of sky.
    drawn = polygons((9, 30), c0=(2, 3, 2, 3), c10=(8, 9, 29, 30))
    grown, grown_px = grow(np.full((9, 30, 3), 90, np.uint8), drawn)
    near = grown_px[0:5, 0:5]
    assert near.tolist() == [[3, 3, 2, 3, 3], [3, 2, 1, 2, 3], [2, 1, 0, 1, 2], [3, 2, 1, 2, 3], [3, 3, 2, 3, 3]]
    assert (grown[0:5, 0:5][near > 0] == 0).all()
    assert grown[2, 2] == NONE


def test_nothing_grows_further_than_the_bound():
    drawn = polygons((3, 60), c0=(0, 3, 0, 1), c1=(0, 3, 59, 60))
    grown, grown_px = grow(np.full((3, 60, 3), 90, np.uint8), drawn)
    assert grown_px.max() == MAX_GROW_PX
    assert grown[1].tolist() == [NONE, *[0] * 16, *[NONE] * 26, *[1] * 16, NONE]


def test_outermost_pixels_grow_too():
    drawn = polygons((5, 8), c0=(1, 4, 1, 3), c1=(1, 4, 5, 7))
    grown, _ = grow(two_tones((5, 8), 4), drawn)
    assert (grown[0, :3] == 0).all()
    assert (grown[4, :3] == 0).all()
    assert (grown[:, 0] == 0).all()
    assert (grown[:, 7] == 1).all()


def test_a_region_without_a_class_keeps_what_is_nearest_to_it():
    drawn = polygons((3, 12), c0=(0, 3, 0, 2), c1=(0, 1, 11, 12))
    free, _ = grow(np.full((3, 12, 3), 90, np.uint8), drawn)
    void = polygons((3, 12), c0=(0, 3, 6, 8)) == 0
    grown, _ = grow(np.full((3, 12, 3), 90, np.uint8), drawn, void)
    assert free[1, 2:6].tolist() == [0, 0, 0, 0]
    assert grown[1, 2:4].tolist() == [0, 0]
    assert (grown[:, 4:8] == NONE).all()


@pytest.mark.parametrize(
    "drawn", [polygons((5, 7)), polygons((5, 7), c0=(1, 3, 1, 3)), polygons((5, 7), c0=(0, 5, 0, 7))]
)
def test_no_class_or_one_alone_grows_nothing(drawn):
    grown, grown_px = grow(two_tones((5, 7), 3), drawn)
    assert (grown == NONE).all()
    assert not grown_px.any()


def test_one_class_beside_a_void_region_grows():
    drawn = polygons((5, 9), c0=(0, 5, 0, 2))
    grown, _ = grow(two_tones((5, 9), 5), drawn, polygons((5, 9), c0=(0, 5, 7, 9)) == 0)
    assert (grown[:, 2:4] == 0).all()
    assert (grown[:, 5:] == NONE).all()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_size_and_any_polygons_give_valid_maps(height, width, seed):
    rng = np.random.default_rng(seed)
    drawn = np.where(rng.random((height, width)) < 0.3, rng.integers(0, 3, (height, width)), NONE).astype(np.uint8)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    grown, grown_px = grow(image, drawn)
    assert ((grown != NONE) == (grown_px > 0)).all()
    assert (grown[drawn != NONE] == NONE).all()
    assert set(np.unique(grown)) - {NONE} <= set(np.unique(drawn))
    rows, columns = np.nonzero(drawn != NONE)
    for y, x in np.argwhere(grown_px > 0):  # the distance, and one of the nearest polygons, by counting
        squared = (rows - y) ** 2 + (columns - x) ** 2
        assert grown_px[y, x] == np.ceil(np.sqrt(squared.min()))
        assert grown[y, x] in drawn[rows, columns][squared == squared.min()]


def test_every_thread_gets_the_same_bytes():
    image, ids = draw_street((96, 160), np.random.default_rng(3))
    drawn = CITYSCAPES.train_id_of[paint_regions(coarse_regions(ids, np.random.default_rng(0)), (96, 160))]
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: b"".join(part.tobytes() for part in grow(image, drawn)), range(12))]
    assert len(set(found)) == 1
    assert grow(np.ascontiguousarray(image[..., ::-1]), drawn)[0].tobytes() == grow(image, drawn)[0].tobytes()


def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 3\), \(4, 5\)"):
        grow(np.zeros((4, 4, 3), np.uint8), polygons((4, 5)))
