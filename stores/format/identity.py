"""What a store is: the attributes of its root Zarr group, written once when the store is created."""

import os
import uuid
from dataclasses import dataclass
from typing import Any

from hmsa_label.stores.errors import LabelCorrupt, NotAStore, StoreConflict, StoreError
from hmsa_label.stores.files import FileRoot, create_bytes, join, public_uri
from hmsa_label.stores.format import layout
from hmsa_label.stores.format.forms import parse_json
from hmsa_label.stores.format.layout import log_path
from hmsa_label.stores.format.records import IDENTITY, refuse_other
from hmsa_label.stores.format.self_digest import is_whole, seal
from hmsa_label.stores.format.zarr_metadata import group_metadata

PUT_BACK = "it is the store's identity with its classes, put it back from a copy of the store"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A store's immutable facts.

    Attributes:
        uuid: drawn at creation; students record it, so a store moved elsewhere is still known.
        classes: the class table as `ClassTable.to_dict` gives it; `names` in trainId order.
        probe: what the storage probe found, and whether it was overruled by `single_writer`.
    """

    uuid: str
    classes: dict[str, Any]
    probe: dict[str, Any]
    format_version: int = layout.FORMAT_VERSION

    @property
    def num_classes(self) -> int:
        return len(self.classes["names"])

    @property
    def things(self) -> tuple[int, ...]:
        """trainIds of the classes whose instances are told apart."""
        return tuple(self.classes.get("things", ()))

    def to_bytes(self) -> bytes:
        """The root `zarr.json`."""
        attributes = {
            "format": layout.FORMAT,
            "format_version": self.format_version,
            "uuid": self.uuid,
            "classes": self.classes,
            "ignore_index": layout.IGNORE_INDEX,
            "unwritten": layout.UNWRITTEN,
            "probe": self.probe,
        }
        return group_metadata(seal(attributes))


def read_identity(root: FileRoot) -> Identity:
    """The identity of the store at `root`.

    Raises:
        NotAStore: if there is none, or something else lies there.
        LabelCorrupt: if it is not what was written.
        StoreError: if a later format wrote it.
    """
    place = public_uri(root.uri)
    try:
        document = parse_json(root.read(layout.ROOT))
    except FileNotFoundError:
        refuse_lost_identity(root)
        raise NotAStore(f"there is no label store at {place}; `hmsa-label run --store {place}` makes one") from None
    except NotADirectoryError:
        file = _file_in(place)
        what = f"the store {place}" if file == place else f"{file}, above the store {place},"
        raise StoreError(f"{what} is a file, not a folder; name a folder with --store") from None
    except ValueError:
        refuse_lost_identity(root, "is not JSON any more")
        raise NotAStore(f"{place}/{layout.ROOT} is not JSON; that is no label store") from None
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != layout.FORMAT:
        refuse_lost_identity(root, "is not what was written")
        raise NotAStore(f"{place}/{layout.ROOT} is a Zarr group that is no label store of hmsa-label")
    found = attributes.get("format_version")
    if isinstance(found, int) and found > layout.FORMAT_VERSION:
        raise StoreError(
            f"the store {place} ({layout.ROOT}) has format version {found}, this hmsa-label reads up to "
            f"{layout.FORMAT_VERSION}; upgrade it"
        )
    if not is_whole(attributes):
        raise LabelCorrupt(f"{place}/{layout.ROOT} is not what was written; {PUT_BACK}")
    refuse_other(attributes, IDENTITY, f"{place}/{layout.ROOT}")
    return Identity(
        uuid=attributes["uuid"],
        classes=attributes["classes"],
        probe=attributes["probe"],
        format_version=attributes["format_version"],
    )


def _file_in(path: str) -> str:
    """The part of a local path that is a file."""
    while path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def refuse_lost_identity(root: FileRoot, what: str = "is gone") -> None:
    """Refuses a place with a history and no identity: a new one could give the labels other classes.

    Raises:
        LabelCorrupt: if there are commits beyond the first, which comes before the identity.
    """
    filesystem, path = root.open()
    if filesystem.exists(join(path, log_path(1))):
        raise LabelCorrupt(f"{public_uri(root.uri)}/{layout.ROOT} {what}; {PUT_BACK}")


def write_identity(root: FileRoot, classes: dict[str, Any], probe: dict[str, Any]) -> Identity:
    """The identity of a new store; of the store that another process created in the meantime, if there is one.

    Raises:
        StoreConflict: if that store holds other classes.
    """
    filesystem, path = root.open()
    identity = Identity(uuid=uuid.uuid4().hex, classes=classes, probe=probe)
    try:
        create_bytes(filesystem, join(path, layout.ROOT), identity.to_bytes())
    except FileExistsError:
        identity = read_identity(root)
        check_classes(identity, classes, root.uri)
    return identity


def check_classes(identity: Identity, classes: dict[str, Any], uri: str) -> None:
    """Refuses a class table other than the store's.

    Raises:
        StoreConflict: naming the first class that differs.
    """
    stored, asked = identity.classes["names"], list(classes["names"])
    if stored == asked:
        return
    place = next((i for i, pair in enumerate(zip(stored, asked, strict=False)) if pair[0] != pair[1]), None)
    detail = f"{len(stored)} there, {len(asked)} here" if place is None else _differs(place, stored, asked)
    raise StoreConflict(
        f"the store {public_uri(uri)} holds labels of other classes ({detail}); label into another store with --store"
    )


def _differs(place: int, stored: list[str], asked: list[str]) -> str:
    return f"trainId {place} is {stored[place]!r} there and {asked[place]!r} here"
