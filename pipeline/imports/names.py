"""Which file belongs to which image: by its name, and by its folders as far as both have some.

A pattern such as `pred/{name}_conf.png` says where files lie below the folder of labels; `{name}` is the name of the
image without its suffix, or that of its key. Folders may be left out on either side, but those that are there must
agree: `frankfurt/a.png` belongs to `val/frankfurt/a` and never to `val/munster/a`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from hmsa_label.pipeline.import_config import NAME
from hmsa_label.stores.images.source import ImageRef, image_stem

UNUSED_FOLDERS = frozenset({"tmp"})  # the published archive of auto labels has one, with a second copy of a file


@dataclass(frozen=True, kw_only=True)
class Matched:
    """The files of a set of images.

    Attributes:
        of: path of an image's file, by key.
        without_image: paths that fit the pattern and belong to no image.
    """

    of: dict[str, str] = field(default_factory=dict)
    without_image: list[str] = field(default_factory=list)


def fitting(paths: Iterable[str], pattern: str) -> list[str]:
    """The paths that a pattern describes, outside hidden folders and those that hold nothing of use."""
    shape = _shape(pattern)
    return [path for path in paths if shape.fullmatch(path) and not _is_unused(path)]


def match_files(images: Sequence[ImageRef], paths: Collection[str], pattern: str) -> Matched:
    """Files to images.

    Args:
        paths: those that fit the pattern.

    Raises:
        ValueError: two files fit one image, or one file two images; which is meant cannot be known.
    """
    shape, by_name = _shape(pattern), dict[str, list[tuple[list[str], str]]]()
    for path in paths:
        if (found := shape.fullmatch(path)) is not None:
            by_name.setdefault(found["name"], []).append((_parts(found["folder"]), path))
    of, owner = dict[str, str](), dict[str, str]()
    for image in images:
        if (file := _best(image, by_name)) is None:
            continue
        if file in owner:
            raise ValueError(
                f"{file} fits two images, {owner[file]} and {image.key}; put the labels into folders as the images are"
            )
        of[image.key], owner[file] = file, image.key
    return Matched(of=of, without_image=sorted(set(paths) - owner.keys()))


def names_of(image: ImageRef) -> list[str]:
    """What the files of an image may be called: as its own file, with and without suffix, or as its key."""
    file, key = (path.rpartition("/")[2] for path in (image.image, image.key))
    return list(dict.fromkeys((image_stem(file) or file, image_stem(key) or key, file)))


def looked_for(image: ImageRef, pattern: str) -> str:
    """The file names that were looked for, for messages."""
    return " or ".join(pattern.replace(NAME, name) for name in names_of(image)[:2])


def _shape(pattern: str) -> re.Pattern[str]:
    folder, _, name = pattern.rpartition("/")
    before, after = name.split(NAME)
    top = f"{re.escape(folder)}/" if folder else ""
    return re.compile(f"{top}(?P<folder>(?:.*/)?){re.escape(before)}(?P<name>[^/]+?){re.escape(after)}", re.DOTALL)


def _is_unused(path: str) -> bool:
    *folders, name = path.split("/")
    return name.startswith(".") or any(part.startswith(".") or part in UNUSED_FOLDERS for part in folders)


def _best(image: ImageRef, by_name: dict[str, list[tuple[list[str], str]]]) -> str | None:
    """The file whose folders agree best with the image's."""
    own = [_parts(path.rpartition("/")[0]) for path in (image.key, image.image)]
    found = {
        path: max(agreeing)
        for name in names_of(image)
        for folders, path in by_name.get(name, ())
        if (agreeing := [depth for parts in own if (depth := _agreeing(folders, parts)) is not None])
    }
    best = [path for path, depth in found.items() if depth == max(found.values())]
    if len(best) > 1:
        raise ValueError(f"two files fit the image {image.key}: {best[0]} and {best[1]}; remove one, or name a pattern")
    return best[0] if best else None


def _agreeing(folders: list[str], own: list[str]) -> int | None:
    """How many folders are the same, counted from the file up; None if one differs before either path ends."""
    depth = min(len(folders), len(own))
    return depth if folders[len(folders) - depth :] == own[len(own) - depth :] else None


def _parts(folder: str) -> list[str]:
    return [part for part in folder.split("/") if part]
