"""Names for versions: written once, never moved, and kept from gc."""

import json
import re
from typing import Any

from hmsa_label.stores.errors import LabelMissing
from hmsa_label.stores.files import FileRoot, join, list_names, public_uri
from hmsa_label.stores.schema import TAGS

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")


def read_tag(root: FileRoot, name: str) -> dict[str, Any]:
    """What a tag names: `name`, `version`, `digest`, `message`, `time`.

    Raises:
        LabelMissing: if there is no such tag; the message lists those that exist.
    """
    try:
        return dict(json.loads(root.read(f"{TAGS}/{name}.json")))
    except FileNotFoundError:
        filesystem, path = root.open()
        names = [entry.removesuffix(".json") for entry in list_names(filesystem, join(path, TAGS))]
        listed = f"tags: {', '.join(names)}" if names else "the store has no tags"
        raise LabelMissing(f"{public_uri(root.uri)} has no tag {name!r}; {listed}") from None
