"""The teacher of the guide `docs/guides/own_teacher.md`, as its reader would save it."""

import sys
from pathlib import Path

import pytest
import torch

from hmsa_label.pipeline.config import TeacherConfig
from tests.docs.pages import ROOT, read

PAGE = ROOT / "docs" / "guides" / "own_teacher.md"


def source() -> str:
    """The module that the page shows."""
    return next(block.text for block in read(PAGE).blocks if block.asks.get("file") == "my_teacher.py")


def own_teacher(folder: Path, patch: pytest.MonkeyPatch, module: str, width: int = 4) -> TeacherConfig:
    """A config of that teacher with untrained weights, saved as a module of this name in the folder."""
    (folder / f"{module}.py").write_text(source())
    patch.syspath_prepend(folder)
    patch.delitem(sys.modules, module, raising=False)
    save_weights(folder / "unet.pt", width)
    return TeacherConfig(
        weights=str(folder / "unet.pt"), teacher=f"{module}:MyTeacher", options={"width": width}, device="cpu"
    )


def save_weights(path: Path, width: int = 4) -> None:
    names: dict[str, object] = {}
    exec(compile(source(), "my_teacher.py", "exec"), names)
    torch.manual_seed(0)
    torch.save(names["UNet"](19, width).state_dict(), path)  # type: ignore[operator]
