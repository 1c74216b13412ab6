"""Writes the reference of the command line from the click commands themselves, in place of a mark on its page."""

import inspect
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hmsa_label.cli.command import Command
from hmsa_label.cli.main import main
from hmsa_label.cli.settings import PREFIX, SettingOption

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PAGE, MARK = "reference/commands", "<!-- the commands -->"
LIMIT = re.compile(r"\s*\[(required|default: .*)\]$", re.DOTALL)


def commands(group: click.Group, ctx: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below a group, in the order of the help, each with the context that it is called in."""
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        child = click.Context(command, parent=ctx, info_name=name)
        if isinstance(command, click.Group):
            yield from commands(command, child)
        else:
            yield command, child


def page() -> str:
    """All commands as Markdown: a table of what there is, then a section for each."""
    found = list(commands(main, click.Context(main, info_name="hmsa-label", auto_envvar_prefix=PREFIX)))
    rows = [f"| [`{ctx.command_path}`](#{anchor(ctx)}) | {short(command)} |" for command, ctx in found]
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return "\n\n".join([table, *(section(command, ctx) for command, ctx in found)])


def anchor(ctx: click.Context) -> str:
    return ctx.command_path.replace(" ", "-")


def short(command: click.Command) -> str:
    return paragraphs(command.help or "")[0].replace("\n", " ")


def section(command: click.Command, ctx: click.Context) -> str:
    """One command: its help, an example, and its options under their headings."""
    assert isinstance(command, Command)
    parts = [f"## {ctx.command_path}", *paragraphs(command.help or "")]
    if any(isinstance(parameter, click.Argument) for parameter in command.params):
        parts.append(f"```text\n{command.get_usage(ctx)}\n```")
    parts.append(f"```console\n{command.example.strip()}\n```")
    parts.append(f"```{{program}} {ctx.command_path}\n```")
    for heading, options in headings(command, ctx).items():
        parts += [f"**{heading}**", *options]
    return "\n\n".join(parts)


def headings(command: click.Command, ctx: click.Context) -> dict[str, list[str]]:
    """Options below the headings that the help has, `General` last."""
    found: dict[str, list[str]] = {}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is not None:
            heading = parameter.section if isinstance(parameter, SettingOption) else ""
            found.setdefault(heading or "General", []).append(option(*record))
    return {name: found[name] for name in sorted(found, key=lambda name: name == "General")}


def option(names: str, text: str) -> str:
    """An option as Sphinx knows it, so that pages can link to it."""
    limit = LIMIT.search(text)
    said = prose(LIMIT.sub("", text).strip())
    if limit is not None:
        value = limit[1].removeprefix("default: ")
        said += " Required." if value == "required" else f" Default: `{value}`."
    return f"````{{option}} {names.replace(' / ', ', ')}\n{said}\n````"


def paragraphs(text: str) -> list[str]:
    """Help text as Markdown; paragraphs that click leaves unwrapped become blocks."""
    parts = [part.strip("\n") for part in inspect.cleandoc(text).split("\n\n")]
    return ["```text\n" + p.removeprefix("\b\n") + "\n```" if p.startswith("\b") else prose(p) for p in parts]


def prose(text: str) -> str:
    """Text with its options and file names as code, and nothing in it that Markdown would take for its own."""
    text = text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", text)


def _fill(app: "Sphinx", name: str, source: list[str]) -> None:
    if name == PAGE:
        assert MARK in source[0]
        source[0] = source[0].replace(MARK, page())


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
