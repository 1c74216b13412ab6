"""What goes wrong, as one line on stderr and an exit code; with `--json` also as the one object on stdout."""

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence

import click

import hmsa_label
from hmsa_label import StoreError
from hmsa_label.cli.output import plain, printable, say
from hmsa_label.pipeline import hide_in_text, is_network_trouble, missing_credentials

BAD_INPUT, INTERRUPTED = 2, 130
_LISTS = "; a list is written with commas, such as 0.5,1.0, and a name with spaces in quotes"
KEPT = "Interrupted; finished work is kept."
_CLAUSE = re.compile(r"; |(?<=[\w)'\"%])[.?] (?=[A-Z-])| \((?=--debug)")


class OneLineError(click.ClickException):
    """An expected failure: `Error: <one line>` on stderr, and exit code 2."""

    exit_code = BAD_INPUT

    def __init__(self, message: str) -> None:
        super().__init__(hide_in_text(" ".join(message.split())))
        self.ctx = click.get_current_context(silent=True)


class Interrupted(OneLineError):
    """Somebody pressed Ctrl-C; finished work is kept."""

    exit_code = INTERRUPTED


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns what goes wrong inside into an error of one line; `--debug` prints the traceback as well."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit):
        raise
    except (KeyboardInterrupt, click.Abort):
        raise Interrupted(KEPT) from None
    except Exception as error:
        ctx = click.get_current_context(silent=True)
        if ctx is not None and ctx.meta.get("debug"):
            say(traceback.format_exc().rstrip())
        notes: list[str] = getattr(error, "__notes__", [])  # what it means for the work, from where that is known
        raise OneLineError("; ".join([_reason(error), *notes])) from None


class Reporting(click.Command):
    """A command that, called as a program, reports its errors here and not in click's own way of several lines."""

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *, standalone_mode: bool = True
    ) -> object:
        """As click's: ends the program with the exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False)
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            with errors_in_one_line():
                code = super().main(arguments, prog_name, standalone_mode=False)
        except click.ClickException as error:
            report(error, arguments)
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def report(error: click.ClickException, arguments: Sequence[str]) -> None:
    """One line on stderr, and the object on stdout if the call asked for JSON."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
    else:
        say(_line(error))
    if _wants_json(error, arguments) and os.environ.get("RANK", "0") == "0":  # torchrun: the first process tells
        message = "a command is missing" if isinstance(error, click.exceptions.NoArgsIsHelpError) else _message(error)
        document = {"error": message, "hint": _hint(error, message), "exit_code": error.exit_code}
        click.echo(printable(json.dumps(plain(document), indent=2, ensure_ascii=False), sys.stdout))


def _line(error: click.ClickException) -> str:
    if isinstance(error, Interrupted):
        return error.message
    text, call = _message(error), _help_call(error)
    if call:
        text += f" Try '{call}'." if text.endswith((".", "?", ")")) else f"; try '{call}'"
    return f"Error: {text}"


def _message(error: click.ClickException) -> str:
    text = hide_in_text(" ".join(error.format_message().split()))
    return text + _LISTS if text.startswith("Got unexpected extra argument") else text


def _help_call(error: click.ClickException) -> str | None:
    """The call that explains a command that was called wrongly."""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.ctx.command_path} --help"
    return None


def _hint(error: click.ClickException, message: str) -> str | None:
    """What to do next: the end of the message, which says it in most cases, else the call for help."""
    clauses = _CLAUSE.split(message)
    if clauses[-1].startswith("got "):
        clauses.pop()  # `expected auto, cpu or cuda; got 'gpu'`
    hint = clauses[-1].rstrip(".)") if len(clauses) > 1 else None
    call = _help_call(error)
    return hint or (f"try '{call}'" if call else None)


def _wants_json(error: click.ClickException, arguments: Sequence[str]) -> bool:
    """Whether `--json` was asked for, wherever a value may come from; the parsing may have failed before it."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in options:
        return True
    ctx: click.Context | None = getattr(error, "ctx", None)
    option = next((option for option in ctx.command.params if option.name == "as_json"), None) if ctx else None
    return bool(ctx and option and option.type_cast_value(ctx, option.consume_value(ctx, {})[0]))


def _reason(error: Exception) -> str:
    if isinstance(error, (StoreError, ValueError, hmsa_label.EngineError)):
        return str(error) or type(error).__name__
    if text := missing_credentials(error):
        return text
    if is_network_trouble(error):
        return f"the storage does not answer: {error}; check the URL, the network and AWS_ENDPOINT_URL"
    if isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)) and str(error):
        if error.errno is None or not error.filename:
            return str(error)
        blocked = isinstance(error, (FileExistsError, NotADirectoryError))
        way_out = "; a file stands where a folder is needed, choose another place" if blocked else ""
        return f"{error.strerror}: {error.filename}{way_out}"
    if isinstance(error, OSError):
        what = error.strerror or str(error) or type(error).__name__
        return f"{what}: {error.filename}" if error.filename else f"{what} (--debug shows where)"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"
