"""Class tables: raw label ids, trainIds, names and colors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = 255


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_color(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(_is_int(v) and 0 <= v <= 255 for v in value)


def _every(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, (list, tuple)) and all(map(fits, value))


# fields of a class table in JSON: what each must be, in words and as a test
_FIELDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "name": ("a string", lambda value: isinstance(value, str)),
    "names": ("a list of strings", _every(lambda name: isinstance(name, str))),
    "colours": ("a list of [red, green, blue], 0..255", _every(_is_color)),
    "raw_ids": ("a list of integers", _every(_is_int)),
    "ignore_index": ("an integer", _is_int),
    "things": ("a list of integers", _every(_is_int)),
}
_OPTIONAL = ("things",)


@dataclass(frozen=True)
class ClassTable:
    """The classes that a model predicts and a store holds; trainId = position in `names`.

    Attributes:
        name: short name of the taxonomy.
        names: class names in trainId order.
        colors: (red, green, blue), 0..255, in trainId order.
        raw_ids: raw label id of each trainId, as the data set's label files hold it.
        ignore_index: trainId of every other raw id.
        things: trainIds of the classes whose instances are told apart, ascending; none if the data has no instances.
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    raw_ids: tuple[int, ...]
    ignore_index: int = IGNORE_INDEX
    things: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.colors) == len(self.raw_ids):
            raise ValueError(
                f"class table {self.name!r}: {len(self.names)} names, {len(self.colors)} colors and "
                f"{len(self.raw_ids)} raw ids must be equally many"
            )
        if len(set(self.raw_ids)) != len(self.raw_ids):
            raise ValueError(f"class table {self.name!r}: raw ids repeat")
        if not 0 < len(self.names) < 254:
            raise ValueError(f"class table {self.name!r}: {len(self.names)} classes; 1 to 253 fit beside 254 and 255")
        if not all(0 <= raw_id <= 255 for raw_id in (*self.raw_ids, self.ignore_index)):
            raise ValueError(f"class table {self.name!r}: raw ids and ignore_index must lie in 0..255")
        if list(self.things) != sorted({train_id for train_id in self.things if 0 <= train_id < len(self.names)}):
            raise ValueError(
                f"class table {self.name!r}: things must be ascending trainIds below {len(self.names)}; "
                f"got {list(self.things)}"
            )

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def train_id_of(self) -> NDArray[np.uint8]:
        """[256] uint8 lookup table: `train_id_of[raw]` is the trainId map of a raw-id map."""
        table = np.full(256, self.ignore_index, np.uint8)
        table[list(self.raw_ids)] = np.arange(self.num_classes, dtype=np.uint8)
        return table

    def train_ids_from(self, data: "ClassTable") -> NDArray[np.uint8]:
        """[256] uint8 lookup table from the raw ids of another table's label files to the trainIds of this one.

        Classes meet by name, whatever their numbers; upper and lower case are one. Those that only the other table has
        become `ignore_index`.
        """
        own = {name.casefold(): train_id for train_id, name in enumerate(self.names)}
        table = np.full(256, self.ignore_index, np.uint8)
        for name, raw_id in zip(data.names, data.raw_ids, strict=True):
            table[raw_id] = own.get(name.casefold(), self.ignore_index)
        return table

    @property
    def raw_id_of(self) -> NDArray[np.uint8]:
        """[256] uint8 lookup table from trainId to raw id; 0 (unlabeled) for everything else."""
        table = np.zeros(256, np.uint8)
        table[: self.num_classes] = self.raw_ids
        return table

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, read back by `from_dict`."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colours": [list(color) for color in self.colors],
            "raw_ids": list(self.raw_ids),
            "ignore_index": self.ignore_index,
            **({"things": list(self.things)} if self.things else {}),
        }

    @classmethod
    def from_dict(cls, data: Any) -> "ClassTable":
        """The table that `to_dict` wrote.

        Raises:
            ValueError: a field is missing or of another form; the message names it.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a class table must be an object with {', '.join(_FIELDS)}; got {data!r:.80}")
        for field, (expected, fits) in _FIELDS.items():
            if field in _OPTIONAL and field not in data:
                continue
            if field not in data or not fits(data[field]):
                raise ValueError(f"class table: {field!r} must be {expected}; got {data.get(field)!r:.80}")
        colors = tuple((int(r), int(g), int(b)) for r, g, b in data["colours"])
        return cls(
            data["name"],
            tuple(data["names"]),
            colors,
            tuple(data["raw_ids"]),
            data["ignore_index"],
            tuple(data.get("things", ())),
        )


def class_difference(teacher: ClassTable, data: ClassTable, other: str = "the data") -> str | None:
    """How a teacher's classes differ from those of the data, in one clause; None if they are the same, in one order.

    Args:
        other: what `data` are the classes of.
    """
    if teacher.names == data.names:
        return None
    told = (
        f"the teacher knows {teacher.num_classes} classes of {teacher.name!r}, "
        f"{other} has {data.num_classes} of {data.name!r}"
    )
    if sorted(teacher.names) == sorted(data.names):
        return f"{told}, the same ones in another order"
    common = {name.casefold() for name in teacher.names} & {name.casefold() for name in data.names}
    return f"{told}, {len(common) or 'none'} of them under the same name"


_CITYSCAPES = (  # name, raw label id, color: the 19 evaluated classes in trainId order
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

CITYSCAPES = ClassTable(
    "cityscapes",
    tuple(name for name, _, _ in _CITYSCAPES),
    tuple(color for _, _, color in _CITYSCAPES),
    tuple(raw_id for _, raw_id, _ in _CITYSCAPES),
    things=tuple(range(11, 19)),  # person to bicycle
)
