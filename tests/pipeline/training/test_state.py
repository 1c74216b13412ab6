"""A saved training that is damaged is refused by name, before anything of it is used."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hmsa_label.pipeline.training.state import TrainFolder

CPU = torch.device("cpu")


def saved(net: nn.Module, **changes: Any) -> dict[str, Any]:
    known = {"step": 3, "best_miou": 0.5, "config": json.dumps({"seed": 1}), "label_version": None, "averaged": None}
    return {**known, "unscored": False, "net": net.state_dict(), "optimizer": {}, "scaler": {}, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> TrainFolder:
    return TrainFolder(str(tmp_path))


def test_a_sound_state_comes_back_whole(folder: TrainFolder) -> None:
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    assert folder.read_state(CPU, "mIoU") is None
    folder.write_state(saved(net))
    state = folder.read_state(CPU, "mIoU")
    assert state is not None
    folder.restore(state, {"net": other})
    assert torch.equal(net.weight, other.weight)


@pytest.mark.parametrize("cut", [0, 10, -1, -200])
def test_a_state_that_is_cut_short_is_refused(folder: TrainFolder, cut: int) -> None:
    folder.write_state(saved(nn.Linear(2, 3)))
    path = folder.path / "state.pt"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"state\.pt is damaged: .*; start anew in another --output"):
        folder.read_state(CPU, "mIoU")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": "3"}, "its step is no count"),
        ({"step": -1}, "its step is no count"),
        ({"best_miou": "x"}, "its best mIoU or its version of the labels is no number"),
        ({"unscored": 1}, "it does not say whether a validation is left"),
        ({"config": "["}, "its settings do not read"),
        ({"config": "[]"}, "its settings do not read"),
    ],
)
def test_a_state_of_other_fields_is_refused_by_name(folder: TrainFolder, changes: dict[str, Any], said: str) -> None:
    folder.write_state(saved(nn.Linear(2, 3), **changes))
    with pytest.raises(ValueError, match=said):
        folder.read_state(CPU, "mIoU")


def test_a_state_without_a_field_or_of_another_kind_is_refused(folder: TrainFolder) -> None:
    folder.write_state({"step": 3})
    with pytest.raises(ValueError, match="it has no 'best_miou'"):
        folder.read_state(CPU, "mIoU")
    torch.save([1], folder.path / "state.pt")
    with pytest.raises(ValueError, match="it holds a list"):
        folder.read_state(CPU, "mIoU")


def test_a_part_that_does_not_fit_is_named(folder: TrainFolder) -> None:
    with pytest.raises(ValueError, match=r"state\.pt is damaged: its 'net' does not fit \(RuntimeError: Error"):
        folder.restore(saved(nn.Linear(2, 4)), {"net": nn.Linear(2, 3)})
    with pytest.raises(ValueError, match="its 'net' does not fit"):
        folder.restore({"net": 3}, {"net": nn.Linear(2, 3)})
