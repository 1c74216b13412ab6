"""COCO results: one JSON file with the masks of all images, `[{image_id, category_id, segmentation, score}, ...]`.

A whole data set in COCO's form serves too, if its annotations have scores. Ids of images and categories get their names
from the same file, or from another one beside it.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hmsa_label.pipeline.import_config import ImportConfig
from hmsa_label.pipeline.imports.names import match_files, names_of
from hmsa_label.stores.files import FileRoot, open_filesystem, public_uri, read_bytes
from hmsa_label.stores.images.source import ImageRef, image_stem

_LOCK = threading.Lock()
_LAST: dict[tuple[str, str, str], "Results"] = {}  # workers in one process share what is parsed


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the file says.

    Attributes:
        entries: those of each image, by its id as text.
        files: file name of each image, by its id as text; empty if nothing tells them.
        categories: names of category ids.
    """

    entries: Mapping[str, Sequence[Mapping[str, Any]]]
    files: Mapping[str, str]
    categories: Mapping[int, str]


def read_results(config: ImportConfig) -> Results:
    """The results of an import, parsed once in a process.

    Args:
        config: with the digest of all files.

    Raises:
        ValueError: a file is none of COCO's.
        FileNotFoundError: there is no such file.
    """
    key = (str(config.labels), str(config.images_json), str(config.sha256))
    with _LOCK:
        if key not in _LAST:
            _LAST.clear()
            _LAST[key] = _read(config)
        return _LAST[key]


def match_results(images: Sequence[ImageRef], results: Results, place: str) -> tuple[dict[str, str], list[str]]:
    """(id of the results of each image, by key; names or ids that belong to no image).

    Raises:
        ValueError: nothing tells the names of images whose ids are numbers, or a name fits two images.
    """
    if results.files:
        stems = {image_stem(file) or file: image_id for image_id, file in results.files.items()}
        matched = match_files(images, list(stems), "{name}")
        of = {key: stems[stem] for key, stem in matched.of.items() if stems[stem] in results.entries}
        return of, [stem for stem in matched.without_image if stems[stem] in results.entries]
    # Ids that are themselves names, or numbers as COCO's own images are called.
    ids = {_plain(image_stem(image_id) or image_id): image_id for image_id in results.entries}
    found = {image.key: [ids[_plain(name)] for name in names_of(image) if _plain(name) in ids] for image in images}
    of = {key: candidates[0] for key, candidates in found.items() if candidates}
    if not of and all(image_id.isdecimal() for image_id in results.entries):
        raise ValueError(
            f"{place} names its images by number, such as {next(iter(results.entries))}, and the file names nowhere; "
            "give the JSON file of the data set with --images-json"
        )
    return of, sorted(results.entries.keys() - set(of.values()))


def _plain(name: str) -> str:
    """A number without leading zeros; any other name as it is."""
    return str(int(name)) if name.isdecimal() else name


def _read(config: ImportConfig) -> Results:
    root = FileRoot(str(config.labels), dict(config.storage_options))
    document = _parsed(read_bytes(*root.open()), public_uri(config.labels))
    about = [document] if isinstance(document, dict) else []
    if config.images_json is not None:
        beside = _parsed(read_bytes(*open_filesystem(config.images_json)), public_uri(config.images_json))
        about += [beside] if isinstance(beside, dict) else []
    entries = document.get("annotations") if isinstance(document, dict) else document
    by_image: dict[str, list[Mapping[str, Any]]] = {}
    try:
        files = {str(one["id"]): str(one["file_name"]) for part in about for one in part.get("images", ())}
        names = {int(one["id"]): str(one["name"]) for part in about for one in part.get("categories", ())}
        for entry in entries or ():
            by_image.setdefault(str(entry["image_id"]), []).append(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{public_uri(config.labels)} is not in COCO's form ({type(error).__name__}: {error}); expected a list of "
            "objects with image_id, category_id, segmentation and score"
        ) from None
    if not by_image:
        raise ValueError(f"{public_uri(config.labels)} holds no result, a list of objects with image_id and so on")
    return Results(entries=by_image, files=files, categories=names)


def _parsed(data: bytes, place: str) -> Any:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is no JSON file ({' '.join(str(error).split())})") from None
    if not isinstance(document, (dict, list)):
        raise ValueError(f"{place} is not in COCO's form: it holds {document!r:.40}")
    return document
