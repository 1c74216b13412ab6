"""Where classes are: every tile counts, and what is drawn is a pixel of the class."""

from collections import Counter

import numpy as np

from hmsa_label.pipeline.training.class_tiles import ClassTiles, Place, find_classes


def label_with(*pixels, shape=(10, 14)):
    """All ignored but for (y, x, class)."""
    label = np.full(shape, 255, np.uint8)
    for y, x, train_id in pixels:
        label[y, x] = train_id
    return label


def test_tiles_at_the_edges_are_found_though_they_are_smaller():
    labels = [label_with((0, 0, 3), (9, 13, 3)), label_with((5, 5, 7))]
    found = find_classes(labels.__getitem__, 2, 19, (4, 6))
    assert {train_id: places.tolist() for train_id, places in found.tiles.items()} == {
        3: [[0, 0, 0], [0, 2, 2]],
        7: [[1, 1, 0]],
    }


def test_what_is_no_class_is_not_found():
    assert find_classes([label_with((0, 0, 19), (1, 1, 254))].__getitem__, 1, 19, (4, 4)).tiles == {}


def test_classes_are_drawn_equally_often_however_rare():
    label = label_with((9, 13, 5))
    label[:9] = 0
    found = find_classes([label].__getitem__, 1, 19, (4, 6))
    rng = np.random.default_rng(0)
    drawn = Counter(found.draw(rng).train_id for _ in range(2000))
    assert drawn.keys() == {0, 5}
    assert 900 < drawn[5] < 1100


def test_the_pixel_drawn_is_any_of_the_class_in_its_tile():
    label = label_with((4, 6, 2), (7, 11, 2), (8, 6, 2), (3, 6, 2))
    found = ClassTiles(tile_px=(4, 6), tiles={})
    rng = np.random.default_rng(0)
    place = Place(train_id=2, image=0, row=1, column=1)
    assert {found.pixel(label, place, rng) for _ in range(60)} == {(4, 6), (7, 11)}


def test_a_table_is_read_back_as_it_was_written():
    found = find_classes([label_with((0, 0, 3), (9, 13, 11))].__getitem__, 1, 19, (4, 6))
    again = ClassTiles.from_bytes(found.to_bytes())
    assert again.tile_px == (4, 6)
    assert {key: value.tolist() for key, value in again.tiles.items()} == {3: [[0, 0, 0]], 11: [[0, 2, 2]]}
