"""What the help and the documents say is true: commands, options, variables, files. tests/docs/ runs their blocks."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml

import hmsa_label
from hmsa_label.cli.command import Command
from hmsa_label.cli.main import main
from hmsa_label.cli.settings import settings_of
from tests.docs.pages import ROOT, pages, product_calls

PAGES = pages()
DOCUMENTS = [page.path for page in PAGES] + [
    ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "stores/FORMAT.md")
]
BRITISH = "labell|colour|grey|neighbour|centre|behaviour|recognis|organis|normalis|optimis|initialis|favour|analys(?=e)"


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


def resolve(words: list[str]) -> tuple[str, click.Context]:
    """The command that words behind `hmsa-label` call, with its options parsed but nothing run."""
    command, ctx = main, click.Context(main, info_name="hmsa-label", auto_envvar_prefix="HMSA_LABEL")
    names: list[str] = []
    while isinstance(command, click.Group):
        names.append(words[len(names)])
        command = command.get_command(ctx, names[-1])
        assert command is not None, words
    return " ".join(names), command.make_context(names[-1], words[len(names) :], parent=ctx)


@pytest.mark.parametrize("name", commands())
def test_command_has_help_and_an_example_that_calls_it(name):
    command = commands()[name]
    assert isinstance(command, Command)
    assert command.help
    assert command.help.split("\n")[0].rstrip().endswith((".", ":"))
    (call,) = product_calls(command.example.replace("\\\n", " "))
    assert resolve(call)[0] == name


@pytest.mark.parametrize("name", commands())
def test_every_option_has_help_and_a_heading(name):
    for option in settings_of(commands()[name]).values():
        assert option.help, option.setting
        assert option.section, option.setting


@pytest.mark.parametrize("name", commands())
def test_command_is_in_its_reference_with_every_option(name):
    _, _, rest = built_by("command_reference").page().partition(f"## hmsa-label {name}\n")
    section = rest.partition("\n## ")[0]
    assert commands()[name].example.strip() in section
    named = set(re.findall(r"--[a-z][a-z-]+", "\n".join(re.findall(r"{option} (.*)", section))))
    assert named >= {f"--{setting}" for setting in settings_of(commands()[name])}


def test_public_names_are_in_the_python_reference():
    named = re.findall(
        r"(?:function|class)::? hmsa_label\.(\w+)|{py:type} hmsa_label\.(\w+)", built_by("python_reference").page()
    )
    assert sorted(a or b for a, b in named) == sorted(set(hmsa_label.__all__) - {"__version__"})


def test_pages_call_the_product():
    assert sum(len(product_calls(command)) for page in PAGES for _, command in page.calls()) >= 5


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_shell_lines_of_a_page_parse(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for block in page.blocks:
        if "file" in block.asks:
            Path(block.asks["file"]).write_text(block.text)
    for name in ("DATA", "WEIGHTS", "STORE"):
        monkeypatch.setenv(f"HMSA_LABEL_{name}", "x")
    for _, command in page.calls():
        for words in product_calls(command):
            if words[-1] not in ("--help", "--version"):
                resolve(words)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_python_and_yaml_of_a_page_parse(page):
    for block in page.blocks:
        if block.kind == "python":
            compile(block.text, str(page), "exec")
        elif block.kind == "yaml":
            assert yaml.safe_load(block.text)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_options_and_variables_that_a_page_names_exist(page):
    text = page.path.read_text()
    asked = {word for span in spans(text) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    foreign = {word for span in spans(text) if not span.startswith(("-", "hmsa-label")) for word in span.split()}
    assert asked - options() - foreign - {"--help", "--version"} == set()
    assert {v for v in re.findall(r"HMSA_LABEL_[A-Z_]+[A-Z]", text) if v not in variables()} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_exist(document):
    text = document.read_text()
    named = set(re.findall(r"(?:(?:cli|pipeline|labelers|stores|tests|benchmarks)/[\w/]+|\b[A-Z]+)\.(?:py|md)", text))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_of_a_document_outside_docs_lead_to_files(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_of_a_document_is_spelled_the_american_way(document):
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]+`|\]\([^)]*\)|\w*_\w*", "", text)  # names of columns and keys stay as they are
    assert re.findall(rf"\b\w*(?:{BRITISH})\w*", prose, re.IGNORECASE) == []


def options() -> set[str]:
    """Every option of every command."""
    named = {f"--{name}" for command in commands().values() for name in settings_of(command)}
    return named | {opt for c in commands().values() for p in c.params for opt in (*p.opts, *p.secondary_opts)}


def spans(text: str) -> list[str]:
    """What a text has as code inside its lines."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def built_by(name: str) -> ModuleType:
    """A part of the documents' build, which writes a page from the code."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_ext/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
