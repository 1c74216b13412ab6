"""What a training leaves on disk, and the running average of its weights."""

import copy
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hmsa_label.labelers.training import score_key
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.stores.files import join, open_filesystem, replace_bytes

# What a state holds beside `best_<score>`, the best score so far.
STATE = ("step", "unscored", "config", "label_version", "net", "optimizer", "scaler", "averaged")


class AveragedWeights:
    """Exponential moving average of a network's parameters and batch-norm statistics.

    The decay rises from 0 to its value over the first steps, so that the random start is soon forgotten.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"--ema must lie between 0 and 1, both excluded; got {decay}")
        self.decay = decay
        self.net = copy.deepcopy(net).requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Moves the average towards `net` after optimizer step `step` (1, 2, ...)."""
        decay = min(self.decay, step / (step + 10))
        for mean, value in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


class TrainFolder:
    """`last.safetensors`, `best.safetensors`, `state.pt`, `metrics.jsonl` and `curve.png` in one local folder.

    Files are replaced atomically, the state last: a kill leaves the previous state and its checkpoints.
    """

    def __init__(self, output: str) -> None:
        if "://" in output:
            raise ValueError(f"--output must be a local folder; got {output}")
        self.path = Path(output).expanduser().resolve()
        self.path.mkdir(parents=True, exist_ok=True)

    def checkpoint_uri(self, name: str) -> str:
        """Absolute path of the checkpoint called `name`."""
        return str(self.path / f"{name}.safetensors")

    def write_checkpoint(self, name: str, net: nn.Module, info: dict[str, Any]) -> None:
        """Writes weights and `info` under `name`."""
        self.write(f"{name}.safetensors", encode_checkpoint(net, info))

    def write_state(self, state: dict[str, Any]) -> None:
        """Writes what a resumption needs."""
        content = io.BytesIO()
        torch.save(state, content)
        self.write("state.pt", content.getvalue())

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, or replaces it as a whole."""
        filesystem, folder = open_filesystem(str(self.path))
        replace_bytes(filesystem, join(folder, name), data)

    def cached(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The content of a file of this folder; made and written if it is not there."""
        path = self.path / name
        if not path.exists():
            self.write(name, make())
        return path.read_bytes()

    def holds_state(self) -> bool:
        """True if a training was saved here before."""
        return (self.path / "state.pt").exists()

    def read_state(self, device: torch.device, score: str) -> dict[str, Any] | None:
        """The saved state, None if there is none.

        Args:
            score: name of the validation score, such as mIoU.

        Raises:
            ValueError: if it is damaged.
        """
        if not self.holds_state():
            return None
        with (self.path / "state.pt").open("rb") as file:
            try:
                state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
                fault = _state_fault(state, score)
            except Exception as error:  # torch and pickle raise a dozen types for damaged files
                fault = f"torch's safe loader refuses it ({type(error).__name__})"
        if fault:
            raise self._damaged(fault)
        return state

    def restore(self, state: dict[str, Any], parts: Mapping[str, Any]) -> None:
        """Gives each part its own part of a saved state, called by the same name.

        Raises:
            ValueError: if one does not fit; some parts may have changed by then.
        """
        for name, part in parts.items():
            try:
                part.load_state_dict(state[name])
            except Exception as error:  # as above
                detail = " ".join(str(error).split())[:200]
                raise self._damaged(f"its {name!r} does not fit ({type(error).__name__}: {detail})") from None

    def _damaged(self, fault: str) -> ValueError:
        return ValueError(
            f"{self.path / 'state.pt'} is damaged: {fault}; start anew in another --output, from last.safetensors with "
            "--init-weights"
        )

    def forget_after(self, step: int) -> None:
        """Drops the metrics of later steps, which will be made again."""
        kept = [line for line in self.read_metrics() if _step(line) <= step]
        self.write("metrics.jsonl", "".join(f"{line}\n" for line in kept).encode())

    def read_metrics(self) -> list[str]:
        """The lines of `metrics.jsonl` so far."""
        metrics = self.path / "metrics.jsonl"
        return metrics.read_text().splitlines() if metrics.exists() else []

    def log(self, event: dict[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(event) + "\n")


def best_key(score: str) -> str:
    """Where a state, and a summary, has the best value of a score so far: `best_miou` of mIoU."""
    return f"best_{score_key(score)}"


def _state_fault(state: Any, score: str) -> str:
    """What is wrong with a saved state as far as it is read before anything is built from it."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}"
    lost = [name for name in (best_key(score), *STATE) if name not in state]
    if lost:
        return f"it has no {lost[0]!r}"
    step, best, version = state["step"], state[best_key(score)], state["label_version"]
    if not isinstance(step, int) or not 0 <= step < 2**53:
        return "its step is no count"
    if not isinstance(best, float | None) or not isinstance(version, int | None):
        return f"its best {score} or its version of the labels is no number"
    if not isinstance(state["unscored"], bool):
        return "it does not say whether a validation is left"
    try:
        readable = isinstance(json.loads(state["config"]), dict)
    except (ValueError, TypeError, RecursionError):
        readable = False
    return "" if readable else "its settings do not read"


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut short by a kill
        return float("inf")
