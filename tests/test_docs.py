"""What the help and the README say is true: commands, options, variables, code."""

import re
import shlex
from pathlib import Path

import click
import pytest

from hmsa_label.cli.command import Command
from hmsa_label.cli.main import main
from hmsa_label.cli.settings import settings_of

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def commands(group: click.Group = main, prefix: str = "") -> dict[str, click.Command]:
    """Full name -> command, groups left out."""
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        nested = isinstance(command, click.Group)
        found |= commands(command, f"{prefix}{name} ") if nested else {f"{prefix}{name}": command}
    return found


def variables() -> set[str]:
    """Every environment variable that sets an option."""
    return {
        variable
        for name, command in commands().items()
        for option in settings_of(command).values()
        for variable in option.envvars("HMSA_LABEL_" + name.replace("-", "_").replace(" ", "_").upper())
    }


def resolve(line: str) -> tuple[str, click.Context]:
    """The command that a shell line calls, with its options parsed but nothing run."""
    words = shlex.split(line.replace("\\\n", " ").partition(" > ")[0], comments=True)
    assert words.pop(0) == "hmsa-label"
    command, ctx = main, click.Context(main, info_name="hmsa-label", auto_envvar_prefix="HMSA_LABEL")
    names = []
    while isinstance(command, click.Group):
        names.append(words.pop(0))
        command = command.get_command(ctx, names[-1])
        assert command is not None, line
    return " ".join(names), command.make_context(names[-1], words, parent=ctx)


@pytest.mark.parametrize("name", commands())
def test_command_has_help_and_an_example_that_calls_it(name):
    command = commands()[name]
    assert isinstance(command, Command)
    assert command.help
    assert command.help.split("\n")[0].rstrip().endswith((".", ":"))
    called, _ = resolve(command.example)
    assert called == name


@pytest.mark.parametrize("name", commands())
def test_every_option_has_help_and_a_heading(name):
    for option in settings_of(commands()[name]).values():
        assert option.help, option.setting
        assert option.section, option.setting


@pytest.mark.parametrize("name", commands())
def test_command_is_in_the_readme(name):
    assert f"hmsa-label {name}" in README.read_text()


def test_shell_lines_in_the_readme_parse(monkeypatch):
    monkeypatch.setenv("HMSA_LABEL_DATA", "d")
    monkeypatch.setenv("HMSA_LABEL_WEIGHTS", "w")
    monkeypatch.setenv("HMSA_LABEL_STORE", "s")
    lines = re.findall(r"^(?:\$ )?(hmsa-label (?:[^\n]*\\\n)*[^\n]*)$", README.read_text(), re.MULTILINE)
    lines = [line for line in lines if "--help" not in line and "--version" not in line]
    assert len(lines) >= 5
    for line in lines:
        resolve(line)


def test_options_and_variables_in_the_readme_exist():
    text = README.read_text()
    options = {f"--{name}" for command in commands().values() for name in settings_of(command)}
    options |= {opt for c in commands().values() for p in c.params for opt in (*p.opts, *p.secondary_opts)}
    spans = re.findall(r"`([^`\n]+)`", text)
    asked = {word for span in spans for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert asked - options - {"--help", "--version"} == set()
    assert {v for v in re.findall(r"HMSA_LABEL_[A-Z_]+[A-Z]", text) if v not in variables()} == set()


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_files_that_the_documents_name_exist(document):
    named = set(re.findall(r"(?:(?:cli|pipeline|labelers|stores|tests)/[\w/]+|[A-Z]+)\.(?:py|md)", _text(document)))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def _text(document: str) -> str:
    return (ROOT / document).read_text()
