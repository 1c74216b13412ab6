"""How tests of the command line call it: in this process, with an environment that holds no settings."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hmsa_label.cli.main import main
from tests.fake_teacher import fake_arguments


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("HMSA_LABEL_") or name in ("CITYSCAPES_DATASET", "RAY_ADDRESS"):
            monkeypatch.delenv(name)


@pytest.fixture
def call() -> Callable[..., Result]:
    """`call("run", "--limit", 3)` runs a command and gives its result: exit_code, stdout, stderr."""

    def call(*args: Any) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)

    return call


@pytest.fixture
def call_json(call: Callable[..., Result]) -> Callable[..., dict[str, Any]]:
    """As `call`, with --json: gives the object on stdout, which must be the only thing there."""

    def call_json(*args: Any, exit_code: int = 0) -> dict[str, Any]:
        result = call(*args, "--json")
        assert result.exit_code == exit_code, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    return call_json


@pytest.fixture
def values_of() -> Callable[..., dict[str, Any]]:
    """`values_of("run", "--limit", "3")` resolves a command's options without running it."""

    def values_of(name: str, *args: str) -> dict[str, Any]:
        root = click.Context(main, info_name="hmsa-label", auto_envvar_prefix="HMSA_LABEL")
        command, parent = main.get_command(root, name.split()[0]), root
        for part in name.split()[1:]:
            parent = click.Context(command, info_name=name.split()[0], parent=root)
            command = command.get_command(parent, part)
        return command.make_context(name.split()[-1], list(args), parent=parent).params

    return values_of


@pytest.fixture
def street_images(tmp_path: Path) -> Path:
    """A Cityscapes tree with five images of 32x64 px and fine labels in train, val and train_extra."""
    draw_streets(tmp_path)
    return tmp_path


def draw_streets(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "train_extra"):
        for number in range(5):
            name = f"{split}/town/town_{number:06}_000019"
            _write(root / f"leftImg8bit/{name}_leftImg8bit.png", rng.integers(0, 256, (32, 64, 3), np.uint8))
            _write(root / f"gtFine/{name}_gtFine_labelIds.png", rng.integers(7, 12, (32, 64), np.uint8))


@pytest.fixture(scope="session")
def labeled_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree as `street_images` with a store `labels` in it, made by `run`; to be copied, not changed."""
    root = tmp_path_factory.mktemp("labeled")
    draw_streets(root)
    args = ["run", "--data", root, "--store", root / "labels", *fake_arguments(), "--executor", "local"]
    result = CliRunner().invoke(main, [*map(str, args), "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return root


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
