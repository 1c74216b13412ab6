"""Which images of the data have imported labels, in which files; and the digest of all of these."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from hmsa_label.labelers.taxonomy import CITYSCAPES, ClassTable
from hmsa_label.pipeline.import_config import MASKS, NVIDIA, ImportConfig
from hmsa_label.pipeline.imports.classes import refuse_other_ids
from hmsa_label.pipeline.imports.masks import TABLES, Categories, category_of
from hmsa_label.pipeline.imports.names import fitting, looked_for, match_files
from hmsa_label.pipeline.imports.results import match_results, read_results
from hmsa_label.pipeline.imports.values import read_ids
from hmsa_label.pipeline.wording import counted
from hmsa_label.stores.errors import NotAFile, NotAStore
from hmsa_label.stores.files import FileRoot, open_filesystem, public_uri, read_bytes
from hmsa_label.stores.images.layouts import shown
from hmsa_label.stores.images.source import BadImage, ImageRef, safe_key
from hmsa_label.stores.parallel import map_threads

READERS = 8
SAMPLED_FILES = 8
NAMED = 3  # of what does not match


@dataclass(frozen=True, kw_only=True)
class Found:
    """The labels of a set of images.

    Attributes:
        images: those with labels; `made` names the files.
        without_labels: keys of the others. without_image: files, or names in a file, that belong to no image.
        sha256: of all files that can be labels, whoever they belong to: that of the lines which `sha256sum` prints of
            them in the order of their paths.
        warnings: lines about what is left out of the files themselves.
    """

    images: list[ImageRef]
    without_labels: list[str]
    without_image: list[str]
    sha256: str
    warnings: list[str] = field(default_factory=list)

    def about_unmatched(self, place: str) -> list[str]:
        """Lines that name and count what does not match."""
        lines, images = [], len(self.images) + len(self.without_labels)
        if lost := self.without_labels:
            lines.append(
                f"{len(lost)} of {counted(images, 'image')} without labels in {place}, left out: {_named(lost)}"
            )
        if strange := self.without_image:
            verb = "belongs" if len(strange) == 1 else "belong"
            lines.append(f"{counted(len(strange), 'label')} in {place} {verb} to no image: {_named(strange)}")
        return lines


def find_labels(config: ImportConfig, images: Sequence[ImageRef], classes: ClassTable) -> Found:
    """The labels of all images of a split. The digest is that of the config, if it has one: it costs reading all files.

    Raises:
        NotAStore: there is nothing at the place of the labels.
        ValueError: no image has labels, files are ambiguous, or their numbers cannot be what they are taken for; the
            message names what was looked for.
        OSError: the storage fails.
    """
    if config.is_results:
        return _in_results(config, images, classes)
    files = FileRoot(str(config.labels), dict(config.storage_options))
    _require(files)
    paths = [entry.path for entry in files.list_tree() if not entry.is_directory]
    if config.format == MASKS:
        return _in_folders(config, files, paths, images)
    return _in_maps(config, files, paths, images, classes)


def _in_maps(
    config: ImportConfig, files: FileRoot, paths: list[str], images: Sequence[ImageRef], classes: ClassTable
) -> Found:
    pattern, place = str(config.label_files), public_uri(files.uri)
    confidences = [] if config.confidence_files is None else fitting(paths, config.confidence_files)
    labels = sorted(set(fitting(paths, pattern)) - set(confidences))
    matched = match_files(images, labels, pattern)
    if not matched.of:
        raise ValueError(
            f"no image of the data has labels in {place}: for {images[0].key} {looked_for(images[0], pattern)} was "
            f"looked for, and {_there(paths, labels)}; correct LABELS, --split or --label-files"
        )
    if config.confidence_files is not None and not confidences:
        way = "import them with --format maps, without confidences" if config.format == NVIDIA else "leave it out"
        raise ValueError(
            f"no file {config.confidence_files} beside the {counted(len(labels), 'label file')} of {place}; correct "
            f"--confidence-files, or {way}"
        )
    beside = {} if config.confidence_files is None else match_files(images, confidences, config.confidence_files).of
    made = {key: tuple(filter(None, (path, beside.get(key)))) for key, path in matched.of.items()}
    _check_ids(config, files, sorted(matched.of.values()), classes)
    return _found(images, made, matched.without_image, digest_of(config, files, [*labels, *confidences]))


def _in_folders(config: ImportConfig, files: FileRoot, paths: list[str], images: Sequence[ImageRef]) -> Found:
    folders = sorted({path.rpartition("/")[0] for path in paths if path.endswith(TABLES)} - {""})
    matched, place = match_files(images, folders, "{name}"), public_uri(files.uri)
    if not matched.of:
        raise ValueError(
            f"no image of the data has masks in {place}: for {images[0].key} a folder {looked_for(images[0], '{name}')}"
            f" with a JSON or CSV file was looked for, and {_there(paths, folders)}; name a JSON file of COCO results, "
            "or correct LABELS or --split"
        )
    inside = tuple(f"{folder}/" for folder in folders)
    made = {key: (folder,) for key, folder in matched.of.items()}
    own = [path for path in paths if path.startswith(inside)]
    return _found(images, made, matched.without_image, digest_of(config, files, own))


def _in_results(config: ImportConfig, images: Sequence[ImageRef], classes: ClassTable) -> Found:
    folder, _, name = str(config.labels).rpartition("/")
    files = FileRoot(folder or ".", dict(config.storage_options))
    if name not in files.list_names():
        raise NotAStore(f"there is no file {public_uri(config.labels)}; correct LABELS")
    sha256 = digest_of(config, files, [name])
    results, place = read_results(replace(config, sha256=sha256)), public_uri(config.labels)
    of, without_image = match_results(images, results, place)
    if not of:
        named = list(results.files.values()) or list(results.entries)
        raise ValueError(
            f"no image of the data has results in {place}: it names {shown(named)}, the data "
            f"has {images[0].key} and so on; correct LABELS, --split or --images-json"
        )
    categories = Categories(classes=classes, names=results.categories, ids=str(config.ids))
    used, lost = _categories([results.entries[one] for one in of.values()], categories)
    if used and len(lost) == len(used):
        raise ValueError(
            f"no category of {place} is a class of {classes.name}: it has {shown(lost)}; say what the classes are with "
            "--classes"
        )
    found = _found(images, {key: (one,) for key, one in of.items()}, without_image, sha256)
    if lost:
        found.warnings.append(
            f"{len(lost)} of {len(used)} categories in {place} are no classes of {classes.name}, and their masks are "
            f"left out: {shown(lost)}"
        )
    return found


def _categories(
    entries: Sequence[Sequence[Mapping[str, Any]]], categories: Categories
) -> tuple[set[int | str], list[str]]:
    """(categories of the masks, names of those that are no class)."""
    used, lost = set[int | str](), set[str]()
    for entry in (entry for one in entries for entry in one):
        with suppress(BadImage):  # the image that has it is named when its turn comes
            category = category_of(entry.get("category_id", entry.get("category")))
            if category not in used and categories.train_id(category) == categories.classes.ignore_index:
                lost.add(categories.name(category))
            used.add(category)
    return used, sorted(lost)


def digest_of(config: ImportConfig, files: FileRoot, paths: Sequence[str]) -> str:
    """The digest that is known, else the hex sha256 of the lines that `sha256sum` prints of files, by their paths.

    Files that say what the numbers in them stand for come after them, under the names of their options. A file that is
    there and cannot be read counts with a digest of zeros; its image is named when its turn comes.

    Raises:
        OSError: the storage fails.
    """
    if config.sha256 is not None:
        return config.sha256
    names = sorted(paths)
    digests = map_threads(lambda path: _digest(files, path), names, READERS)
    pairs = [*zip(digests, names, strict=True), *_beside(config)]
    return hashlib.sha256("".join(f"{digest}  {safe_key(path)}\n" for digest, path in pairs).encode()).hexdigest()


def _beside(config: ImportConfig) -> Iterator[tuple[str, str]]:
    for option, place in (("--classes", config.classes), ("--images-json", config.images_json)):
        if place is not None and str(place) != CITYSCAPES.name:
            yield hashlib.sha256(read_bytes(*open_filesystem(place))).hexdigest(), option


def _digest(files: FileRoot, path: str) -> str:
    try:
        return hashlib.sha256(files.read(path)).hexdigest()
    except (NotAFile, PermissionError, FileNotFoundError):
        if not files.is_local:
            raise
        return "0" * 64


def _check_ids(config: ImportConfig, files: FileRoot, paths: list[str], classes: ClassTable) -> None:
    """Looks into a few files; one that does not read is named when its turn comes."""
    maps = []
    for path in paths[:: max(1, len(paths) // SAMPLED_FILES)][:SAMPLED_FILES]:
        with suppress(BadImage):
            maps.append((path, read_ids(files.read(path))))
    refuse_other_ids(maps, classes, str(config.ids), public_uri(files.uri))


def _found(
    images: Sequence[ImageRef], made: Mapping[str, tuple[str, ...]], without_image: list[str], sha256: str
) -> Found:
    return Found(
        images=[replace(image, made=made[image.key]) for image in images if image.key in made],
        without_labels=[image.key for image in images if image.key not in made],
        without_image=without_image,
        sha256=sha256,
    )


def _there(paths: list[str], fitting_paths: list[str]) -> str:
    return f"there is {shown(fitting_paths or sorted(paths))}"


def _require(files: FileRoot) -> None:
    filesystem, root = files.open()
    if not filesystem.isdir(root):
        what = "is a file" if filesystem.isfile(root) else "does not exist"
        raise NotAStore(f"the folder of labels {public_uri(files.uri)} {what}; correct LABELS")


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
