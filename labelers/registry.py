"""Labelers by name: those of this package, those of installed packages, and `module:Class` of anybody's own.

A name comes from the command line or a config, never from a store or a checkpoint: importing a module runs its code.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import entry_points
from typing import Any, get_args, get_origin, get_type_hints

from hmsa_label.labelers.base import LabelerBase, LabelerFault

GROUP = "hmsa_label.labelers"  # entry points: name = module:Class
DEFAULT_TEACHER = "hmsa"
MAX_SHOWN = 8
RESERVED = frozenset(
    {"teacher_sha256", "model", "teacher", "precision", "classes", "threshold", "rule", "semantics"}
    | {"semantics_sha256", "imported"}
)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a labeler is.

    Attributes:
        labeler: `module:Class`.
        options: `module:Class` of a dataclass of its options, importable without torch; None takes any options.
    """

    labeler: str
    options: str | None = None


LABELERS = {
    DEFAULT_TEACHER: Entry(
        labeler="hmsa_label.labelers.hmsa.labeler.labeler:HmsaLabeler",
        options="hmsa_label.labelers.hmsa.labeler.options:HmsaOptions",
    ),
    "axial_deeplab": Entry(
        labeler="hmsa_label.labelers.axial_deeplab.labeler.labeler:AxialDeepLabLabeler",
        options="hmsa_label.labelers.axial_deeplab.labeler.options:AxialDeepLabOptions",
    ),
}


def is_built_in(name: str) -> bool:
    """Whether this package brings the labeler."""
    return _own(name) is not None


def _own(name: str) -> Entry | None:
    """The entry of a labeler of this package, asked for by its name or as `module:Class`."""
    return next((entry for own, entry in LABELERS.items() if name in (own, entry.labeler)), None)


def place_of(name: str) -> str:
    """`module:Class` of a labeler.

    Raises:
        ValueError: nobody knows a labeler of this name.
    """
    if (own := _own(name)) is not None:
        return own.labeler
    if name.count(":") == 1 and all(part.replace(".", "_").isidentifier() for part in name.split(":")):
        return name
    installed = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    if name in installed:
        return installed[name]
    known = ", ".join(sorted({*LABELERS, *installed}))
    raise ValueError(f"unknown teacher {name!r}; known are {known}, or a class of your own as my_module:MyTeacher")


def find(name: str) -> type:
    """The class of a labeler; its module is imported.

    Raises:
        ValueError: it cannot be imported, or what is there is no labeler.
    """
    found = attribute_at(place_of(name), f"the teacher {name}")
    if not isinstance(found, type) or not callable(getattr(found, "predict", None)):
        attribute = place_of(name).partition(":")[2]
        raise ValueError(f"the teacher {name} is no labeler: {attribute} must be a class with a method predict(images)")
    return found


def attribute_at(place: str, who: str) -> Any:
    """What lies at `module:attribute`; the module is imported.

    Args:
        who: whose place it is, for messages, such as `the teacher mine`.

    Raises:
        ValueError: it cannot be imported, or is not there.
    """
    module, _, attribute = place.partition(":")
    return _attribute(_import(module, who), attribute, who)


def checked_options(name: str, options: Any) -> dict[str, Any]:
    """Options of a labeler as a mapping, with defaults filled in where the labeler declares them.

    Args:
        options: a mapping, or the labeler's own dataclass of options.

    Raises:
        ValueError: unknown or unusable options, or some that a record cannot hold as JSON.
    """
    given = asdict(options) if is_dataclass(options) and not isinstance(options, type) else options
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"options of the teacher {name} must be a mapping of names; got {given!r:.80}")
    if (declared := declared_options(name)) is None:
        return _plain(name, given)
    if unknown := sorted(given.keys() - declared.__dataclass_fields__.keys()):
        known = ", ".join(declared.__dataclass_fields__)
        raise ValueError(f"the teacher {name} has no option {unknown[0]!r}; known are {known}")
    kinds = get_type_hints(declared)
    for option, value in given.items():
        if not _fits(value, kinds[option]):
            expected = _in_words(kinds[option])
            raise ValueError(f"the option {option} of the teacher {name} must be {expected}; got {value!r:.80}")
    return asdict(declared(**given))


def identity_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a labeler that decide the bytes of labels; known before its weights are loaded."""
    told = getattr(declared_options(name) or find(name), "identity", LabelerBase.identity)
    identity = _plain(name, told(options))
    if taken := RESERVED & identity.keys():
        raise LabelerFault(f"the teacher {name} has {sorted(taken)[0]!r} in its identity, which records use themselves")
    return identity


def option_names() -> list[str]:
    """Names of the options of all labelers of this package, as records hold them."""
    fields = (getattr(declared_options(name), "__dataclass_fields__", {}) for name in LABELERS)
    return list(dict.fromkeys(option for names in fields for option in names))


def declared_options(name: str) -> Any:
    """The dataclass of the options of a labeler of this package; None of any other, which takes what it likes."""
    own = _own(name)
    if own is None or own.options is None:
        return None
    module, _, attribute = own.options.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of an option's type; a whole number is a number, too, and a truth value is none."""
    if parts := get_args(kind):
        if get_origin(kind) is not tuple:
            return any(_fits(value, part) for part in parts)
        return isinstance(value, (list, tuple)) and all(_fits(entry, parts[0]) for entry in value)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


def _in_words(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a list of numbers, such as [0.5, 1.0]"
    return " or ".join(_WORDS[part] for part in get_args(kind) or (kind,))


def _import(module: str, who: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(
                f"no module {error.name!r} for {who}; it is looked for among installed packages and in "
                "the current folder"
            ) from error
        raise ValueError(f"{who} cannot be imported: its module {module} needs {error.name!r}; install it") from error
    except Exception as error:
        detail = " ".join(str(error).split())[:300]
        raise ValueError(f"{who} cannot be imported: {type(error).__name__}: {detail}") from error


def _attribute(module: Any, attribute: str, who: str) -> Any:
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            classes = [key for key, value in vars(module).items() if isinstance(value, type)]
            own = [key for key in classes if vars(module)[key].__module__ == module.__name__]
            raise ValueError(
                f"{who} is not there: {module.__name__} has no {attribute!r}; "
                f"its classes are {', '.join(own[:MAX_SHOWN]) or 'none'}"
            )
        found = getattr(found, part)
    return found


def _plain(name: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping as JSON gives it back."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(mapping), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of the teacher {name} must be plain JSON values ({error})") from error
    return plain
