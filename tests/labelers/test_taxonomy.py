"""Class tables: which classes are things, and how a table travels as JSON."""

from dataclasses import replace

import pytest

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable


def test_the_things_of_cityscapes_are_its_people_and_vehicles() -> None:
    assert [CITYSCAPES.names[train_id] for train_id in CITYSCAPES.things] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip


@pytest.mark.parametrize("table", [CITYSCAPES, replace(CITYSCAPES, things=())])
def test_a_table_comes_back_from_json_with_its_things(table: ClassTable) -> None:
    assert ClassTable.from_dict(table.to_dict()) == table


def test_a_table_without_things_does_not_name_them() -> None:
    assert "things" not in replace(CITYSCAPES, things=()).to_dict()


@pytest.mark.parametrize("things", [(12, 11), (11, 11), (19,), (-1,)])
def test_things_that_are_no_ascending_train_ids_are_refused(things: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="things must be ascending trainIds below 19"):
        replace(CITYSCAPES, things=things)


def test_things_that_are_no_integers_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'things' must be a list of integers; got 'cars'"):
        ClassTable.from_dict({**CITYSCAPES.to_dict(), "things": "cars"})
