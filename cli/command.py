"""The command and group classes: help with headings and an example, errors in one line, commands loaded when called."""

import contextlib
import importlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import click

from hmsa_label import pipeline
from hmsa_label.cli.output import say
from hmsa_label.cli.settings import SettingOption, nearest, unknown_variables
from hmsa_label.pipeline import StoreError, hide_in_text

BAD_INPUT, INTERRUPTED = 2, 130


class OneLineError(click.ClickException):
    """An expected failure: `Error: <one line>` on stderr, and exit code 2."""

    exit_code = BAD_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(hide_in_text(" ".join(message.split())))


class Command(click.Command):
    """A command of hmsa-label.

    Attributes:
        example: a call that works as it stands once data and weights are there; shown below the options.
    """

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def invoke(self, ctx: click.Context) -> Any:
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


class LazyGroup(click.Group):
    """A group that knows where its commands are and imports each when it is needed.

    Attributes:
        places: command name -> `module:attribute`.
    """

    def __init__(self, *args: Any, places: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = places

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


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns what goes wrong inside into one line on stderr and an exit code; `--debug` prints the traceback as well."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt:
        say("Interrupted; finished work is kept.")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except Exception as error:
        if click.get_current_context().meta.get("debug"):
            say(traceback.format_exc().rstrip())
        raise OneLineError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, (StoreError, ValueError, pipeline.EngineError)):
        return str(error) or type(error).__name__
    if isinstance(error, OSError):
        what = error.strerror or str(error) or type(error).__name__
        return f"{what}: {error.filename}" if error.filename else f"{what} (--debug shows where)"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"
