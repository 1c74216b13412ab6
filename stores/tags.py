"""Names for versions: written once, never moved, and kept from gc. And the marks of versions that gc has pruned."""

import re
from typing import Any

from hmsa_label.stores import sealed
from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreConflict
from hmsa_label.stores.files import FileRoot, create_bytes, delete_files, join, list_names, public_uri
from hmsa_label.stores.manifest import Manifest
from hmsa_label.stores.receipt import now
from hmsa_label.stores.schema import PRUNED, TAGS

# A number is a version, `v12` too, and `head` is the newest progress: no tag may look like one of them.
NAME = re.compile(r"(?!v?\d+$)(?!head$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def tag(
    uri: str,
    name: str,
    version: int | None = None,
    message: str = "",
    *,
    storage_options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Names a finished version (None: the last one) for ever; what `read_tag` will say of it.

    Raises:
        ValueError: if the name could be taken for a version or holds strange characters, or the version is unfinished.
        StoreConflict: if the name is taken.
        LabelMissing: if there is no such version, or gc has pruned it.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tag: letters, digits, . _ - only, and neither a number nor head")
    root = FileRoot(uri, dict(storage_options or {}))
    manifest = Manifest(root.uri, storage_options)
    head = manifest.head()
    number = head.commit.finished if version is None else version
    commit = manifest.at(number).commit
    if commit.version != number or not commit.is_finished:
        raise ValueError(f"version {number} is unfinished progress; only finished versions can be tagged")
    record = {"name": name, "version": number, "digest": commit.digest, "message": message, "time": now()}
    filesystem, path = root.open()
    place = join(path, TAGS, f"{name}.json")
    try:
        create_bytes(filesystem, place, sealed.to_bytes(record))
    except FileExistsError:
        taken = read_tag(root, name)["version"]
        raise StoreConflict(f"tag {name!r} names version {taken} and never moves; choose another name") from None
    # Looked at after the tag is there: gc marks first and then looks for tags, so one of the two sees the other.
    if number in pruned_versions(root):
        delete_files(filesystem, [place])
        raise LabelMissing(f"version {number} of {public_uri(uri)} was pruned by gc; its pixels are gone")
    return record


def tags(uri: str, *, storage_options: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """All tags of a store, by name."""
    root = FileRoot(uri, dict(storage_options or {}))
    return [read_tag(root, name) for name in _names(root, TAGS)]


def tags_by_version(root: FileRoot) -> dict[int, list[str]]:
    """Names of the tags of each tagged version."""
    found: dict[int, list[str]] = {}
    for name in _names(root, TAGS):
        found.setdefault(int(read_tag(root, name)["version"]), []).append(name)
    return found


def read_tag(root: FileRoot, name: str) -> dict[str, Any]:
    """What a tag names: `name`, `version`, `digest`, `message`, `time`.

    Raises:
        LabelMissing: if there is no such tag; the message lists those that exist.
        LabelCorrupt: if its file is damaged, or another tag's.
    """
    path = f"{TAGS}/{name}.json"
    try:
        record = sealed.from_bytes(root.read(path), path)
    except FileNotFoundError:
        names = _names(root, TAGS)
        listed = f"tags: {', '.join(names)}" if names else "the store has no tags"
        raise LabelMissing(f"{public_uri(root.uri)} has no version or tag {name!r}; {listed}") from None
    if record.get("name") != name:
        raise LabelCorrupt(f"{path} holds the tag {record.get('name')!r}")
    return record


def tag_faults(root: FileRoot) -> list[str]:
    """What is wrong with tags and marks, a line for each damaged file."""
    faults = []
    for name in _names(root, TAGS):
        try:
            read_tag(root, name)
        except LabelCorrupt as error:
            faults.append(str(error))
    for name in _names(root, PRUNED):
        try:
            read_mark(root, int(name))
        except (LabelCorrupt, ValueError) as error:
            faults.append(str(error))
    return faults


def mark_pruned(root: FileRoot, version: int, pruned_by: int) -> None:
    """Marks a version as one whose pixels gc deletes; `pruned_by` is the version of gc's own commit."""
    filesystem, path = root.open()
    body = sealed.to_bytes({"version": version, "pruned_by": pruned_by, "time": now()})
    create_bytes(filesystem, join(path, PRUNED, f"{version}.json"), body)


def read_mark(root: FileRoot, version: int) -> dict[str, Any]:
    """The mark of a pruned version: `version`, `pruned_by`, `time`.

    Raises:
        FileNotFoundError: if there is none.
        LabelCorrupt: if it is damaged, or another version's.
    """
    path = f"{PRUNED}/{version}.json"
    mark = sealed.from_bytes(root.read(path), path)
    if mark.get("version") != version:
        raise LabelCorrupt(f"{path} is the mark of version {mark.get('version')}")
    return mark


def pruned_versions(root: FileRoot) -> set[int]:
    """Versions whose pixels gc has deleted."""
    return {int(name) for name in _names(root, PRUNED)}


def _names(root: FileRoot, folder: str) -> list[str]:
    filesystem, path = root.open()
    names = list_names(filesystem, join(path, folder))
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]
