"""The precision that each class is to reach: one number, numbers by class, or a file of them."""

import json
from collections.abc import Mapping
from typing import Any

from hmsa_label.stores.files import open_filesystem, read_bytes

EXAMPLE = 'a number such as 0.98, or a JSON file such as {"road": 0.98, "pole": 0.9}'


def targets_of(asked: str | float | Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """Precision by class, of all classes or of those that a mapping or file names.

    Raises:
        ValueError: neither number nor file; an unknown class; a value outside 0..1, both excluded.
        FileNotFoundError: there is no such file.
    """
    found = _read(asked) if isinstance(asked, str) else asked
    by_name = dict(found) if isinstance(found, Mapping) else dict.fromkeys(names, found)
    if not by_name:
        raise ValueError(f"--target-precision {asked} names no class; give {EXAMPLE}")
    for name, value in by_name.items():
        if name not in names:
            raise ValueError(f"--target-precision names the class {name!r}; the classes are {', '.join(names)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            raise ValueError(
                f"--target-precision must lie between 0 and 1, both excluded; got {value!r} for {name}"
                if isinstance(found, Mapping)
                else f"--target-precision must lie between 0 and 1, both excluded; got {value!r}"
            )
    return {name: float(by_name[name]) for name in names if name in by_name}


def _read(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        pass
    filesystem, path = open_filesystem(text)
    if not filesystem.exists(path):
        raise FileNotFoundError(f"--target-precision {text} is neither a number nor a file; give {EXAMPLE}")
    try:
        found = json.loads(read_bytes(filesystem, path))
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise ValueError(f"--target-precision {text} does not read as JSON ({error}); give {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise ValueError(f"--target-precision {text} holds no precision by class; give {EXAMPLE}")
    return found
