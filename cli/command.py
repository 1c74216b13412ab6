"""The command and group classes: help with headings and an example, commands that are loaded when they are called."""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, MutableMapping

import click

from hmsa_label import pipeline
from hmsa_label.cli.errors import Reporting, errors_in_one_line
from hmsa_label.cli.output import say
from hmsa_label.cli.settings import SettingOption, nearest, unknown_variables


class Command(Reporting):
    """A command of hmsa-label.

    Attributes:
        example: a call that works as it stands once data and weights are there; shown below the options.
    """

    def __init__(
        self,
        name: str | None,
        *,
        example: str,
        callback: Callable[..., None],
        params: list[click.Parameter],
        help: str | None,
    ) -> None:
        super().__init__(name, callback=callback, params=params, help=help)
        self.example = example

    def invoke(self, ctx: click.Context) -> object:
        # Only results go to stdout: what a library prints by itself must not break a reader of --json.
        ctx.meta["stdout"] = sys.stdout
        with errors_in_one_line(), contextlib.redirect_stdout(sys.stderr):
            return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            for line in unknown_variables(ctx.find_root().command):
                say(f"Warning: the environment variable {line}")
        with errors_in_one_line():
            return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx)
            if record is not None:
                heading = option.section if isinstance(option, SettingOption) else ""
                sections.setdefault(heading or "General", []).append(record)
        sections["General"] = sections.pop("General")  # last, after what the command is about
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=26)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for line in self.example.strip().splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        formatter.write_paragraph()
        formatter.write_text(
            f"Every option can also be set as {ctx.auto_envvar_prefix}_<OPTION>, or in a --config file."
        )


class LazyGroup(Reporting, click.Group):
    """A group that knows where its commands are and imports each when it is needed.

    Attributes:
        places: command name -> `module:attribute`.
    """

    def __init__(
        self,
        name: str | None,
        *,
        places: dict[str, str],
        callback: Callable[..., None],
        params: list[click.Parameter],
        help: str | None,
        context_settings: MutableMapping[str, object] | None = None,
    ) -> None:
        super().__init__(name, callback=callback, params=params, help=help, context_settings=context_settings)
        self.places = places

    def __call__(self, *args: object, **kwargs: object) -> object:
        """As a program: the process ends with the command's exit code, whatever its threads are doing."""
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            if pipeline.threads_left():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 0)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.places and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{nearest(args[0], set(self.places))}")
        return super().resolve_command(ctx, args)
