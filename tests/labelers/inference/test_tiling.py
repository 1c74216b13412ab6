"""Windows over an image."""

import numpy as np
import pytest

from hmsa_label.labelers.inference.tiling import ALIGN_PX, OVERLAP_PX, spans, tiles


@pytest.mark.parametrize("size_px", [(1024, 2048), (700, 1111), (513, 513), (3000, 640)])
@pytest.mark.parametrize("window_px", [(512, 512), (576, 1024), (640, 640)])
def test_kept_parts_cover_every_pixel_once(size_px, window_px):
    count = np.zeros(size_px, int)
    for tile in tiles(size_px, window_px):
        count[slice(*tile.kept_rows), slice(*tile.kept_columns)] += 1
    assert (count == 1).all()


@pytest.mark.parametrize(("length", "window"), [(2048, 512), (1111, 640), (600, 576)])
def test_no_kept_pixel_is_near_a_cut(length, window):
    for (start, stop), (first, last) in spans(length, window):
        assert start % ALIGN_PX == 0
        assert stop - start <= window
        assert start == first == 0 or first - start >= OVERLAP_PX // 2
        assert stop == last == length or stop - last >= OVERLAP_PX // 2


def test_a_window_that_is_large_enough_is_the_whole_image():
    (tile,) = tiles((300, 400), (300, 400))
    assert tile.rows == tile.kept_rows == (0, 300)
    assert tile.columns == tile.kept_columns == (0, 400)
