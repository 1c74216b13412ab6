"""Names for versions: written once, never moved, and kept from gc. And the marks of versions that gc has pruned.

A tag's file comes first, then a commit that records it, so that the log tells of every tag whose file is lost. A file
that no commit records was left by a writer that was killed in between; it counts as well.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, LabelMissing, StoreConflict
from hmsa_label.stores.files import FileRoot, create_bytes, delete_files, join, list_names, public_uri, replace_bytes
from hmsa_label.stores.format import self_digest
from hmsa_label.stores.format.layout import MANIFEST, PRUNED, TAGS
from hmsa_label.stores.format.receipt import now
from hmsa_label.stores.format.records import PRUNE_MARK, TAG_NAME, parse_sealed
from hmsa_label.stores.format.records import TAG as TAG_RECORD
from hmsa_label.stores.manifest.table import TAG, Change, Commit, Manifest, Snapshot
from hmsa_label.stores.result import Result

NUMBER = re.compile(r"v?[0-9]{1,18}")
MARK = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, kw_only=True)
class Tag(Result):
    """A name for a finished version, its content digest, why it was given, and when (ISO 8601 in UTC)."""

    name: str
    version: int
    digest: str
    message: str
    time: str


def tag(
    uri: str,
    name: str,
    version: int | str | None = None,
    message: str = "",
    *,
    storage_options: dict[str, Any] | None = None,
) -> Tag:
    """Names a finished version (a number, another tag; None: the last one) for ever.

    The same call again changes nothing; it completes one that was killed, and writes a file anew that was lost.

    Raises:
        ValueError: if the name could be taken for a version or holds strange characters, or the version is unfinished.
        StoreConflict: if the name is taken.
        LabelMissing: if there is no such version, or gc has pruned it.
    """
    if not TAG_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tag: letters, digits, . _ - only, and neither a number nor head")
    root = FileRoot(uri, dict(storage_options or {}))
    manifest = Manifest(root.uri, storage_options)
    head = manifest.head()
    number = head.commit.finished if version is None else version_number(root, version)
    commit = manifest.at(number).commit
    if commit.version != number or not commit.is_finished:
        raise ValueError(f"version {number} is unfinished progress; only finished versions can be tagged")
    record = {"name": name, "version": number, "digest": commit.digest, "message": message, "time": now()}
    recorded = recorded_tags(manifest.log()).get(name)
    if recorded is not None:
        return _tag(_put_back(root, recorded, record))
    created = _create(root, record)
    if not created:
        record = _taken_over(root, record)
    # Looked at after the tag is there: gc marks first and then looks for tags, so one of the two sees the other.
    if number in pruned_versions(root):
        if created:
            filesystem, path = root.open()
            delete_files(filesystem, [join(path, tag_path(name))])
        raise LabelMissing(f"version {number} of {public_uri(uri)} was pruned by gc; its pixels are gone")

    def decide(head: Snapshot) -> Change | None:
        if name in recorded_tags(manifest.log()):
            return None
        return Change(commit=head.commit.successor(TAG, tag=record, images=head.count()))

    manifest.transact(decide)
    return _tag(record)


def _tag(record: dict[str, Any]) -> Tag:
    return Tag(**{field.name: record[field.name] for field in fields(Tag)})


def _create(root: FileRoot, record: dict[str, Any]) -> bool:
    """Writes a tag's file; False if there is one of that name."""
    filesystem, path = root.open()
    try:
        create_bytes(filesystem, join(path, tag_path(record["name"])), self_digest.to_bytes(record))
    except FileExistsError:
        return False
    return True


def _put_back(root: FileRoot, recorded: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """What the log records of a tag, if the same is asked for; its file is written anew if it was lost."""
    if recorded["version"] != asked["version"]:
        raise _taken(recorded)
    filesystem, path = root.open()
    if known_tags(root).damaged.get(recorded["name"]):
        replace_bytes(filesystem, join(path, tag_path(recorded["name"])), self_digest.to_bytes(recorded))
    elif asked["message"] not in ("", recorded["message"]):
        raise _taken(recorded)
    return read_tag(root, recorded["name"])


def _taken_over(root: FileRoot, record: dict[str, Any]) -> dict[str, Any]:
    """What stands in a file that no commit records, if it says the same as the tag that is asked for."""
    there = read_tag(root, record["name"])
    if (there["version"], there["message"]) != (record["version"], record["message"]):
        raise _taken(there)
    return there


def _taken(record: dict[str, Any]) -> StoreConflict:
    return StoreConflict(
        f"tag {record['name']!r} names version {record['version']} and never moves; choose another name"
    )


@dataclass(frozen=True, kw_only=True)
class KnownTags:
    """The tags of a store, as far as files and log tell of them.

    Attributes:
        records: what each tag names, by name; from the log where its file is damaged or lost.
        damaged: what is wrong with a tag's file, by name.
    """

    records: dict[str, dict[str, Any]]
    damaged: dict[str, str]

    @property
    def by_version(self) -> dict[int, list[str]]:
        """Names of the tags of each tagged version."""
        found: dict[int, list[str]] = {}
        for name, record in self.records.items():
            found.setdefault(int(record["version"]), []).append(name)
        return found

    @property
    def unknown(self) -> list[str]:
        """What is wrong with files of tags that nothing else tells of, so that nobody knows what they name."""
        return [fault for name, fault in self.damaged.items() if name not in self.records]


def tags(uri: str, *, storage_options: dict[str, Any] | None = None) -> list[Tag]:
    """All tags of a store, by name; one whose file is damaged as the log records it."""
    return [_tag(record) for record in known_tags(FileRoot(uri, dict(storage_options or {}))).records.values()]


def known_tags(root: FileRoot, commits: Iterable[Commit] | None = None) -> KnownTags:
    """All tags of a store, by name; one bad file does not hide the others.

    Args:
        commits: those of the whole log, if they are known already.
    """
    # The log first: whatever it records by then has its file.
    recorded = recorded_tags(Manifest(root.uri, root.storage_options).log() if commits is None else commits)
    records: dict[str, dict[str, Any]] = {}
    damaged: dict[str, str] = {}
    for name in sorted({*recorded, *_names(root, TAGS)}):
        try:
            records[name] = read_tag(root, name, recorded)
        except LabelCorrupt as error:
            damaged[name] = str(error)
            if name in recorded:
                records[name] = recorded[name]
    return KnownTags(records=records, damaged=damaged)


def recorded_tags(commits: Iterable[Commit]) -> dict[str, dict[str, Any]]:
    """What the log says of each tag, by name, as `read_tag` says it."""
    return {commit.tag["name"]: commit.tag for commit in commits if commit.tag is not None}


def tag_path(name: str) -> str:
    """The file of a tag, relative to the store."""
    return f"{TAGS}/{name}.json"


def read_tag(root: FileRoot, name: str, recorded: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """What a tag names: `name`, `version`, `digest`, `message`, `time`.

    Args:
        recorded: what the log says of each tag; read from it only if need be.

    Raises:
        LabelMissing: if there is no such tag; the message lists those that exist.
        LabelCorrupt: if its file is damaged, or another tag's, or lost.
    """
    path = tag_path(name)
    try:
        record = parse_sealed(root.read(path), TAG_RECORD, path)
        if record["name"] != name:
            raise LabelCorrupt(f"{path} holds the tag {record['name']!r}")
    except (FileNotFoundError, LabelCorrupt) as error:
        if recorded is None:
            recorded = recorded_tags(Manifest(root.uri, root.storage_options).log())
        if name in recorded:
            what = "is gone" if isinstance(error, FileNotFoundError) else str(error).removeprefix(f"{path} ")
            raise LabelCorrupt(_lost(recorded[name], what)) from None
        if isinstance(error, LabelCorrupt):
            raise LabelCorrupt(f"{error}, and the log does not record it: delete it, and set the tag again") from None
        names = _names(root, TAGS)
        listed = f"tags: {', '.join(names)}" if names else "the store has no tags"
        raise LabelMissing(f"{public_uri(root.uri)} has no version or tag {name!r}; {listed}") from None
    return record


def version_number(root: FileRoot, version: int | str) -> int:
    """The number of a version that is given as a number, as `v3` or by its tag.

    Raises:
        ValueError: if it is none of these.
        LabelMissing: if there is no such tag.
    """
    if isinstance(version, bool) or not isinstance(version, (int, str)):
        raise ValueError(f"a version is a number such as 3, a tag or 'head'; got {version!r}")
    if isinstance(version, str) and not NUMBER.fullmatch(version):
        return int(read_tag(root, version)["version"])
    return int(str(version).removeprefix("v"))


def refuse_other_than_tagged(root: FileRoot, version: int | str, commit: Commit) -> None:
    """Refuses a version that is asked for by its tag and does not hold what it held when it was tagged.

    Args:
        commit: of the version that was found.

    Raises:
        LabelCorrupt: if its number or digest is not the tag's.
    """
    if isinstance(version, int) or NUMBER.fullmatch(version):
        return
    record = read_tag(root, version)
    if (commit.version, commit.digest) != (record["version"], record["digest"]):
        raise LabelCorrupt(
            f"tag {version!r} names version {record['version']} with the digest {record['digest']}, but version "
            f"{commit.version} with {commit.digest} was found; put {MANIFEST}/ back from a copy of the store"
        )


def _lost(record: dict[str, Any], what: str) -> str:
    name, version = record["name"], record["version"]
    return (
        f"{tag_path(name)} {what}; the tag named version {version}, and `hmsa-label audit tag {name} "
        f"--version {version}` writes it again"
    )


def tag_faults(root: FileRoot, commits: Iterable[Commit]) -> list[str]:
    """What is wrong with tags and marks, a line for each damaged or lost file; `commits` are those of the whole log."""
    recorded, known = recorded_tags(commits), known_tags(root, commits)
    faults = list(known.damaged.values())
    for name, record in known.records.items():
        if record != recorded.get(name, record):
            faults.append(_lost(recorded[name], "is not the tag that the log records"))
    for name in _names(root, PRUNED):
        if not MARK.fullmatch(name):
            faults.append(f"{PRUNED}/{name}.json is no mark of a version")
            continue
        try:
            read_mark(root, int(name))
        except LabelCorrupt as error:
            faults.append(str(error))
    return faults


def mark_pruned(root: FileRoot, version: int, pruned_by: int) -> None:
    """Marks a version as one whose pixels gc deletes; `pruned_by` is the version of gc's own commit."""
    filesystem, path = root.open()
    body = self_digest.to_bytes({"version": version, "pruned_by": pruned_by, "time": now()})
    with contextlib.suppress(FileExistsError):  # marked by another gc at the same time
        create_bytes(filesystem, join(path, PRUNED, f"{version}.json"), body)


def read_mark(root: FileRoot, version: int) -> dict[str, Any]:
    """The mark of a pruned version: `version`, `pruned_by`, `time`.

    Raises:
        FileNotFoundError: if there is none.
        LabelCorrupt: if it is damaged, or another version's.
    """
    path = f"{PRUNED}/{version}.json"
    mark = parse_sealed(root.read(path), PRUNE_MARK, path)
    if mark["version"] != version:
        raise LabelCorrupt(f"{path} is the mark of version {mark['version']}")
    return mark


def pruned_versions(root: FileRoot) -> set[int]:
    """Versions whose pixels gc has deleted."""
    return {int(name) for name in _names(root, PRUNED) if MARK.fullmatch(name)}


def _names(root: FileRoot, folder: str) -> list[str]:
    filesystem, path = root.open()
    names = list_names(filesystem, join(path, folder))
    return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]
