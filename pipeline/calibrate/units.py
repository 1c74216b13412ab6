"""What is drawn for the intervals and dealt into parts: cities, sequences, or pieces of a sequence.

Frames of one drive resemble each other. Intervals that took them for independent images would be far too narrow, and
thresholds chosen on every other frame would be measured on frames that were all but seen.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmsa_label.pipeline.wording import counted

ENOUGH_SEQUENCES = 20  # to draw whole sequences; fewer are cut into pieces
SINGLE_PHOTOS = ("mapillary", "coco")  # whose images are no frames of a drive
SHOWN = 3
_FRAME = re.compile(r"(.+)_(\d+)_(\d+)")  # a name of Cityscapes: city, sequence, frame


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """Groups of images that are drawn as a whole.

    Attributes:
        of_image: [N] int64 unit of each image. count: how many there are. text: what they are, in words.
    """

    of_image: NDArray[np.int64]
    count: int
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A division of the images, each part made of whole units.

    Attributes:
        of_image: [N] int64 part of each image. names: of the parts. text: what they are made of, in words.
    """

    of_image: NDArray[np.int64]
    names: list[str]
    text: str


def city_of(key: str) -> str:
    """The folder of an image below its split, or the split if there is none."""
    return key.rpartition("/")[0].partition("/")[2] or key.rpartition("/")[0]


def sequence_of(key: str) -> str:
    """The drive that an image is a frame of: city and sequence of a Cityscapes name, else the folder."""
    named = _FRAME.fullmatch(key.rpartition("/")[2])
    return f"{named[1]}_{named[2]}" if named else city_of(key)


def units_of(keys: Sequence[str], dataset: str) -> Units:
    """What is drawn for intervals: images of sets of single photos, sequences where there are many, else pieces.

    A sequence of n images is cut into about sqrt(n) pieces of consecutive images (Carlstein's rule for a bootstrap of
    dependent data, Annals of Statistics 14, 1986, takes pieces that grow with the length).
    """
    if dataset in SINGLE_PHOTOS:
        return _units(range(len(keys)), f"{counted(len(keys), 'image')}")
    sequences: dict[str, list[int]] = {}
    for place in sorted(range(len(keys)), key=lambda place: keys[place]):
        sequences.setdefault(sequence_of(keys[place]), []).append(place)
    if len(sequences) >= ENOUGH_SEQUENCES:
        names = list(sequences)
        return _units([names.index(sequence_of(key)) for key in keys], f"{len(names)} sequences of images")
    pieces = [piece for images in sequences.values() for piece in np.array_split(images, _pieces(len(images)))]
    unit = np.empty(len(keys), np.int64)
    for number, piece in enumerate(pieces):
        unit[piece] = number
    longest = max(len(piece) for piece in pieces)
    what = f"pieces of up to {longest} consecutive images" if longest > 1 else "images"
    return Units(of_image=unit, count=len(pieces), text=f"{len(pieces)} {what} of {_sequences(len(sequences))}")


def parts_of(keys: Sequence[str], units: Units, parts: int) -> Parts | None:
    """The images in about equal parts: by city, else by sequence, else units in turn; None if there are too few units.

    Cities or sequences are taken if no part then has less than half of its share.
    """
    if units.count < 2 * parts:
        return None
    for group_of, one, many in ((city_of, "city", "cities"), (sequence_of, "sequence", "sequences")):
        if (found := _by_group(keys, group_of, parts)) is not None:
            number, groups = found
            names = [f"{one if len(members) == 1 else many} {_listed(members)}" for members in groups]
            return Parts(of_image=number, names=names, text=many)
    number = units.of_image % parts
    names = [f"part {place + 1}" for place in range(parts)]
    return Parts(of_image=number, names=names, text=f"the {units.text}, dealt in turn")


def _by_group(
    keys: Sequence[str], group_of: Callable[[str], str], parts: int
) -> tuple[NDArray[np.int64], list[list[str]]] | None:
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[group_of(key)] = sizes.get(group_of(key), 0) + 1
    held = [0] * parts
    groups: list[list[str]] = [[] for _ in range(parts)]
    part_of: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        least = held.index(min(held))
        held[least] += sizes[name]
        groups[least].append(name)
        part_of[name] = least
    if min(held) < len(keys) / parts / 2:
        return None
    return np.array([part_of[group_of(key)] for key in keys], np.int64), groups


def _units(numbers: Sequence[int], text: str) -> Units:
    of_image = np.asarray(numbers, np.int64)
    return Units(of_image=of_image, count=int(of_image.max()) + 1, text=text)


def _pieces(images: int) -> int:
    return max(1, round(math.sqrt(images)))


def _sequences(count: int) -> str:
    return "one sequence" if count == 1 else f"{count} sequences"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(sorted(names)[:SHOWN]) + more
