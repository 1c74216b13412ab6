"""Results to stdout, as a table or as one JSON object; everything else to stderr; never a credential in either."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Protocol, TypeAlias, runtime_checkable

import click

from hmsa_label.pipeline import hide_in_text

LIST_SHOWN = 24
READER_LEFT = 141  # 128 + SIGPIPE, as the shell says of a program that a closed pipe ended

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@runtime_checkable
class _Array(Protocol):
    """A NumPy scalar or array, without importing NumPy."""

    def tolist(self) -> object: ...


def say(text: str) -> None:
    """A line for the person watching, on stderr."""
    click.echo(printable(hide_in_text(text), sys.stderr), err=True)


def show(text: str) -> None:
    """A result, on stdout. Ends the command without a word if whoever read it has left, as `head` does."""
    stream = click.get_current_context().meta.get("stdout") or sys.stdout
    try:
        click.echo(printable(hide_in_text(text), stream), file=stream)
    except BrokenPipeError:
        # What is still in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise click.exceptions.Exit(READER_LEFT) from None


def printable(text: str, stream: IO[str]) -> str:
    """The text with what a stream cannot hold escaped, such as the bytes of a file's name that are not UTF-8."""
    return _escaped(text, getattr(stream, "encoding", None) or "utf-8")


def _escaped(text: str, encoding: str = "utf-8") -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def show_json(result: object) -> None:
    """One JSON object on stdout; a number that JSON lacks (NaN, infinity) becomes null."""
    show(json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False))


def show_facts(facts: Mapping[str, object]) -> None:
    """Name and value per line, values aligned; None is left out."""
    width = max(map(len, facts), default=0) + 2
    show("\n".join(f"{name:<{width}}{value}" for name, value in facts.items() if value is not None))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with a heading, columns as wide as their contents, numbers to the right."""
    table = [list(map(_cell, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *table, strict=True)]
    numeric = [all(_is_number(row[i]) for row in table) for i in range(len(columns))]
    for line in [list(columns), *table]:
        cells = (text.rjust(width) if right else text.ljust(width)
                 for text, width, right in zip(line, widths, numeric, strict=True))  # fmt: skip
        show("  ".join(cells).rstrip())


def plain(value: object) -> Json:
    """The JSON-able form of dataclasses, mappings, sequences and numbers, NumPy's included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_escaped(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if isinstance(value, _Array):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return _escaped(str(value))


def show_tree(facts: Mapping[str, object]) -> None:
    """Nested facts, one per line, each level indented; long lists are cut and counted."""
    show("\n".join(_branch({name: plain(value) for name, value in facts.items()}, "")))


def percent(share: float | None) -> str | None:
    """A share 0..1 as `83.1 %`."""
    return None if share is None else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """h:mm:ss, or m:ss below an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def size(num_bytes: float | None) -> str | None:
    """Bytes in the unit that keeps the number below 1000: `2.4 GB`."""
    if num_bytes is None:
        return None
    exponent = min(4, int(math.log10(num_bytes) / 3)) if num_bytes >= 1 else 0
    return f"{num_bytes / 1000**exponent:.{1 if exponent else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[exponent]}"


def _branch(facts: Mapping[str, Json], indent: str) -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", *_branch(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, entry in enumerate((entry for entry in value if isinstance(entry, dict)), 1):
                lines += [f"{indent}{name} {number}:", *_branch(entry, indent + "  ")]
        elif isinstance(value, list):
            text = ", ".join(map(str, value[:LIST_SHOWN]))
            lines.append(f"{indent}{name}: {text}" + (f" ... ({len(value)})" if len(value) > LIST_SHOWN else ""))
        else:
            lines.append(f"{indent}{name}: {'-' if value in (None, '') else value}")
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).lstrip("-").isdigit()
