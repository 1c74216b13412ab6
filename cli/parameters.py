"""Types of option values that click lacks, and which type a config field takes on the command line."""

import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

import click

Value = TypeVar("Value")


class Numbers(click.ParamType[tuple[float, ...]]):
    """Comma-separated numbers, such as `0.5,1.0,2.0`; a YAML list or a single number serves too."""

    name = "numbers"

    def __init__(self, length: int | None = None) -> None:
        self.length = length

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "LOW,HIGH" if self.length == 2 else "NUMBERS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(_number(part) for part in _parts(value, ","))
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a list of numbers such as 0.5,1.0,2.0", param, ctx)
        if self.length is not None and len(numbers) != self.length:
            self.fail(f"expected {self.length} numbers such as 0.5,2.0; got {value!r}", param, ctx)
        return numbers


class Size(click.ParamType[tuple[int, int]]):
    """A size in pixels, height first: `512x1024`; a YAML list of two serves too."""

    name = "size"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "HxW"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        try:
            height, width = (_whole(part) for part in _parts(value.lower() if isinstance(value, str) else value, "x"))
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a size, height x width, such as 512x1024", param, ctx)
        return height, width


class Duration(click.ParamType[float]):
    """A time span such as `30d`, `12h`, `90m` or `45s`, in seconds."""

    name = "duration"
    units: ClassVar[dict[str, int]] = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        try:
            return float(text[:-1]) * self.units[text[-1:]]
        except (KeyError, ValueError):
            self.fail(f"{value!r} is not a time span such as 30d, 12h, 90m or 45s", param, ctx)


class Listed(click.ParamType[tuple[Value, ...]], Generic[Value]):
    """Comma-separated values of one type, such as `0,1,2`; a YAML list or a single value serves too."""

    def __init__(self, inner: click.ParamType[Value]) -> None:
        self.inner = inner
        self.name = f"{inner.name}s"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{self.inner.name.upper()},..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Value, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(self.inner.convert(part, param, ctx) for part in _parts(value, ","))


class Section(click.ParamType[dict[str, object]]):
    """A mapping: a section of the settings file, or JSON in the environment. It may hold secrets."""

    name = "section"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, object]:
        try:
            mapping: object = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            mapping = None
        if not isinstance(mapping, dict):
            # The value is not repeated in the message, because it may hold a password.
            self.fail('expected a section of keys and values, or a JSON object such as {"anon": true}', param, ctx)
        return mapping


class NamedNumbers(click.ParamType[dict[str, float]]):
    """Numbers by name, such as `person=0.8,rider=0.7`; a YAML mapping serves too."""

    name = "named numbers"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME=NUMBER,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        parts = value.split(",") if isinstance(value, str) and value else []
        pairs = value.items() if isinstance(value, dict) else [part.rpartition("=")[::2] for part in parts]
        try:
            numbers = {str(name).strip(): _number(number) for name, number in pairs}
        except (TypeError, ValueError):
            numbers = {"": 0.0}
        if "" in numbers:
            self.fail(f"{value!r} is not a list of names and numbers such as person=0.8,rider=0.7", param, ctx)
        return numbers


class NamedValues(click.ParamType[dict[str, object]]):
    """Values by name, such as `tiles=4,mode=fast`; a YAML mapping or a JSON object serves too.

    A value is read as JSON where it is some, else as text.
    """

    name = "named values"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME=VALUE,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, object]:
        if isinstance(value, dict):
            return {str(name): entry for name, entry in value.items()}
        text = str(value).strip()
        found = _json(text) if text.startswith("{") else self._pairs(text)
        if not isinstance(found, dict):
            self.fail(f"{value!r} is not a list of names and values such as tiles=4,mode=fast", param, ctx)
        return found

    @staticmethod
    def _pairs(text: str) -> dict[str, object] | None:
        pairs = [part.partition("=") for part in text.split(",") if part]
        if not all(name.strip() and equals for name, equals, _ in pairs):
            return None
        return {name.strip(): _json(value.strip()) for name, _, value in pairs}


class Threshold(click.ParamType[object]):
    """A number, or a part such as 128/255, as stored thresholds are listed; that is left to the config to read."""

    name = "float"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        is_part = isinstance(value, str) and re.fullmatch(r"[0-9]+/[0-9]+", value.strip())
        return value if is_part else click.FLOAT(value, param, ctx)


class AsGiven(click.ParamType[object]):
    """A value that its config reads itself: text of a form of its own, and in YAML numbers, lists or a mapping too."""

    def __init__(self, metavar: str, *, mapping: bool = False) -> None:
        self.metavar = metavar
        self.name = "named values" if mapping else "value"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.metavar


class Word(click.Choice[str]):
    """One of a few words; `off`, which YAML reads as false, may be among them."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert("off" if value is False and "off" in self.choices else value, param, ctx)


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def not_on_command_line(ctx: click.Context, param: click.Parameter, value: Value) -> Value:
    """Callback that refuses a value that everybody on the host could see in the list of processes."""
    if ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE:
        raise click.BadParameter("give it in the --config file; a command line is no place for secrets")
    return value


class OrNone(click.ParamType[Value | None], Generic[Value]):
    """Another type, or the word `none`: for a field that may be switched off but is on by default."""

    def __init__(self, inner: click.ParamType[Value]) -> None:
        self.inner = inner
        self.name = inner.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"{self.inner.name.upper()}|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Value | None:
        if isinstance(value, str) and value.lower() == "none":
            return None
        return self.inner.convert(value, param, ctx)


SCALARS: dict[object, click.ParamType[object]] = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
}


def admits_none(annotation: object) -> bool:
    """Whether None is a value of the annotated field."""
    return isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)


def type_of(annotation: object, default: object) -> click.ParamType[object]:
    """The command line's type for a config field: `float` is a number, `tuple[int, int]` a size, and so on."""
    if admits_none(annotation):
        inner = next(part for part in typing.get_args(annotation) if part is not type(None))
        return OrNone(type_of(inner, default)) if default is not None else type_of(inner, default)
    if isinstance(annotation, types.UnionType) and str in typing.get_args(annotation):  # a path or URL
        return click.STRING
    if typing.get_origin(annotation) is Mapping:
        return NamedValues()
    if typing.get_origin(annotation) is dict:
        return NamedNumbers() if typing.get_args(annotation)[1] is float else Section()
    if typing.get_origin(annotation) is tuple:
        parts = typing.get_args(annotation)
        if Ellipsis in parts and parts[0] is not float:
            return Listed(type_of(parts[0], None))
        if parts[0] is int:
            return Size()
        return Numbers(None if Ellipsis in parts else len(parts))
    return SCALARS[annotation]


def _parts(value: object, separator: str) -> Sequence[object]:
    """The entries of a text, or of a YAML list; any other value stands for itself."""
    if isinstance(value, str):
        return value.split(separator)
    return value if isinstance(value, (list, tuple)) else [value]


def _whole(value: object) -> int:
    if not isinstance(value, (str, int, float)):
        raise TypeError(f"{value!r} is no number")
    return int(value)


def _number(value: object) -> float:
    if not isinstance(value, (str, int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def shown(default: object, kind: click.ParamType[object]) -> str:
    """A default as one would type it: `0.5,1.0,2.0`, `1024x2048` or `person=0.8`."""
    if isinstance(default, dict):
        return ",".join(f"{name}={number}" for name, number in default.items())
    if isinstance(default, tuple):
        return ("x" if isinstance(kind, Size) else ",").join(map(str, default))
    return str(default)
