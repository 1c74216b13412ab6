"""Which version is meant: a number, a tag, the newest progress, or the last finished one."""

from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.files import FileRoot, public_uri
from hmsa_label.stores.manifest.table import Manifest, Snapshot
from hmsa_label.stores.versions.tags import read_mark, refuse_other_than_tagged, version_number

HEAD = "head"


def resolve(root: FileRoot, version: int | str | None) -> Snapshot:
    """The manifest at a version number, tag, "head" or, for None, the last finished version.

    Raises:
        LabelMissing: if there is no such version or tag, or gc has pruned it.
    """
    manifest = Manifest(root.uri, root.storage_options)
    if version is None or version == HEAD:
        head = manifest.head()
        if version == HEAD:
            return head
        number = head.commit.finished
        refuse_pruned(root, number)
        return head if number == head.version else manifest.at(number)
    number = version_number(root, version)
    refuse_pruned(root, number)
    try:
        snapshot = manifest.at(number)
    except LabelMissing as error:
        finished = [str(commit.version) for commit in manifest.log() if commit.is_finished and commit.version]
        raise LabelMissing(f"{error}: {', '.join(finished[-12:]) or 'there are none'}") from None
    refuse_other_than_tagged(root, version, snapshot.commit)
    return snapshot


def refuse_pruned(root: FileRoot, version: int) -> None:
    """Refuses a version whose pixels gc has deleted.

    Raises:
        LabelMissing: if it has.
    """
    try:
        note = read_mark(root, version)
    except FileNotFoundError:
        return
    raise LabelMissing(
        f"version {version} of {public_uri(root.uri)} was pruned by gc at {note['time']}; its pixels are gone, "
        "`hmsa-label audit log` lists the versions that are whole"
    )
