"""The documents as their readers meet them: pages, their blocks in order, and what comments ask of the tests."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<kind>[\w{}-]*)(?P<rest>.*)$")
COMMENT = re.compile(r"^\s*<!-- (?P<name>[A-Za-z ]+): (?P<text>.+?) -->$")
ASKS = ("given", "not run", "words differ", "exit code", "file")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: number of its first line in the page.
        asks: the comments right before it: `not run` and `words differ` give a reason, `exit code` what the last
            command leaves with, `file` a name to write the block to.
    """

    kind: str
    text: str
    line: int
    asks: dict[str, str] = field(default_factory=dict)

    def commands(self) -> list[tuple[str, str]]:
        """(command, output shown below it) of a shell block; of `sh` every line is a command, without output."""
        if self.kind == "sh":
            return [(line, "") for line in joined(self.text).split("\n") if line.strip()]
        if self.kind == "console":
            parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
            assert not parts[0].strip(), f"line {self.line}: a console block begins with `$ `"
            return [first_and_rest(part) for part in parts[1:]]
        return []


@dataclass(frozen=True)
class Page:
    """A document. `given` names what lies in the folder before its first block."""

    path: Path
    blocks: tuple[Block, ...]
    given: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    def calls(self) -> Iterator[tuple[Block, str]]:
        """Every shell command of the page, with its block."""
        return ((block, command) for block in self.blocks for command, _ in block.commands())


def pages() -> list[Page]:
    """README and all pages below docs/; the pages of benchmarks are records, not instructions."""
    below = [path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "results"} & set(path.parts)]
    return [read(ROOT / "README.md"), *map(read, sorted(below))]


def read(path: Path) -> Page:
    """A page and its blocks.

    Raises:
        AssertionError: a comment asks for something that is not known, or a block does not end.
    """
    blocks, asks, given = [], {}, []
    lines = iter(enumerate(path.read_text().split("\n"), 1))
    for number, line in lines:
        comment, fence = COMMENT.match(line), FENCE.match(line)
        if comment:
            assert comment["name"] in ASKS, f"{path.name}:{number}: {comment['name']!r} is none of {', '.join(ASKS)}"
            asks[comment["name"]] = comment["text"]
            given += asks.pop("given", "").split()
        elif fence:
            blocks.append(Block(fence["kind"], _body(lines, fence, f"{path.name}:{number}"), number, asks))
            asks = {}
        elif line.strip():
            assert not asks, f"{path.name}:{number}: the comment before this line belongs to no block"
    return Page(path, tuple(blocks), tuple(given))


def _body(lines: Iterator[tuple[int, str]], fence: re.Match[str], place: str) -> str:
    body = []
    for _, line in lines:
        if line.strip() == fence["ticks"]:
            return "\n".join(body) + "\n"
        body.append(line.removeprefix(fence["indent"]))
    raise AssertionError(f"{place}: the block does not end")


def joined(text: str) -> str:
    """Shell text with continued lines as one."""
    return re.sub(r"\s*\\\n\s*", " ", text)


def first_and_rest(text: str) -> tuple[str, str]:
    command, _, output = joined(text).partition("\n")
    return command, output


def product_calls(command: str) -> list[list[str]]:
    """The words of every call of hmsa-label in a shell line, those behind `torchrun` or `ray job submit` too."""
    found: list[list[str]] = []
    words: list[str] | None = None
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    for word in lexer:
        if set(word) <= set("|&;<>"):
            words = None
        elif words is not None:
            words.append(word)
        elif word == "hmsa-label":
            words = []
            found.append(words)
    return found
