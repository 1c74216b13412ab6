"""What is drawn for intervals and dealt into parts."""

import numpy as np
import pytest

from hmsa_label.pipeline.calibrate.units import city_of, parts_of, sequence_of, units_of


def keys(*sequences: tuple[str, int]) -> list[str]:
    """Cityscapes keys: (city_sequence, images)."""
    return [f"val/{name.rpartition('_')[0]}/{name}_{frame:06}" for name, count in sequences for frame in range(count)]


@pytest.mark.parametrize(
    ("key", "city", "sequence"),
    [
        ("val/lindau/lindau_000003_000019", "lindau", "lindau_000003"),
        ("val/0016E5/0016E5_000000_007959", "0016E5", "0016E5_000000"),
        ("val/bad_honnef/bad_honnef_000001_000002", "bad_honnef", "bad_honnef_000001"),
        ("drive1/0001.jpg", "drive1", "drive1"),
        ("all/drive1/0001", "drive1", "drive1"),
        ("0001.jpg", "", ""),
    ],
)
def test_city_and_sequence_are_told_by_the_key(key, city, sequence):
    assert (city_of(key), sequence_of(key)) == (city, sequence)


def test_frames_of_one_sequence_are_drawn_in_pieces_of_consecutive_ones():
    names = keys(("0016E5_000000", 101))
    found = units_of(names, "cityscapes")
    assert found.count == 10
    assert (np.diff(found.of_image) >= 0).all()  # consecutive
    assert set(np.bincount(found.of_image)) == {10, 11}
    assert "one sequence" in found.text


def test_order_of_the_images_does_not_matter():
    names = keys(("a_1", 30), ("b_1", 12))
    shuffled = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
    whole, other = units_of(names, "cityscapes"), units_of(shuffled, "cityscapes")
    assert dict(zip(names, whole.of_image, strict=True)) == dict(zip(shuffled, other.of_image, strict=True))


def test_no_piece_has_frames_of_two_sequences():
    names = keys(("a_1", 7), ("a_2", 7), ("b_1", 7))
    units = units_of(names, "cityscapes").of_image
    for unit in set(units):
        assert len({sequence_of(names[place]) for place in np.flatnonzero(units == unit)}) == 1


def test_many_sequences_are_drawn_as_a_whole_and_photos_one_by_one():
    names = keys(*((f"a_{number}", 3) for number in range(20)))
    assert units_of(names, "cityscapes").count == 20
    assert units_of(names, "mapillary").count == 60
    assert units_of([f"{n}.jpg" for n in range(4)], "coco").of_image.tolist() == [0, 1, 2, 3]


def test_parts_are_cities_where_they_come_out_about_equal():
    names = keys(("frankfurt_1", 27), ("lindau_1", 6), ("munster_1", 17))
    found = parts_of(names, units_of(names, "cityscapes"), 2)
    assert found is not None
    assert found.text == "cities"
    assert found.names == ["city frankfurt", "cities lindau, munster"]
    assert np.bincount(found.of_image).tolist() == [27, 23]


def test_parts_are_sequences_where_one_city_has_nearly_all_images():
    names = keys(("a_1", 20), ("a_2", 21), ("b_1", 1))
    found = parts_of(names, units_of(names, "cityscapes"), 2)
    assert found is not None
    assert found.text == "sequences"


def test_parts_of_one_sequence_are_its_pieces_in_turn():
    names = keys(("a_1", 100))
    units = units_of(names, "cityscapes")
    found = parts_of(names, units, 2)
    assert found is not None
    assert (found.of_image == units.of_image % 2).all()
    assert "in turn" in found.text


def test_too_few_units_make_no_parts():
    names = keys(("a_1", 6))
    assert units_of(names, "cityscapes").count == 2
    assert parts_of(names, units_of(names, "cityscapes"), 2) is None
