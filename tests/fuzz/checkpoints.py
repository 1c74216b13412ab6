"""Damaged weights files, of this package and of torch.save, and damaged states of a training."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.labelers.weights.networks import load_start, read_network
from hmsa_label.pipeline.training.state import TrainFolder
from tests.fuzz.mutate import json_text, mutate_bytes, mutate_value

MODEL = "hrnet_tiny_ocr"
INFO = {
    "model": MODEL, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "config": {"seed": 1, "data": {}}, "step": 3,
    "trained_on": {"data": "/d", "split": "train", "labels": "gtFine", "images": 1, "keys": ["k"], "keys_sha256": "a"},
    "auto_labels": {"store": "/s", "version": 3, "digest": "d", "teacher_sha256": "t"}, "code": None,
}  # fmt: skip


class Target:
    """Reads a network, starts a training from one, or takes up a saved training."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.net = build_labeler(MODEL, CITYSCAPES.num_classes)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cuda", enabled=False)
        self.folder, self.path = TrainFolder(str(folder)), folder / "state.pt"
        self.own = encode_checkpoint(self.net, INFO)
        state = {f"module.backbone.{name}": value for name, value in list(self.net.trunk.state_dict().items())[:20]}
        self.published = [_saved({"state_dict": state, "epoch": 3}, zipped) for zipped in (True, False)]
        self.state = _saved(self._state(), True)

    def _state(self) -> dict[str, Any]:
        parts = {"net": self.net, "optimizer": self.optimizer, "scaler": self.scaler}
        saved = {name: part.state_dict() for name, part in parts.items()}
        return {
            **saved,
            "step": 3,
            "best_miou": 0.5,
            "unscored": False,
            "label_version": 3,
            "averaged": None,
            "config": json.dumps({"seed": 1}),
        }

    def run(self, seed: int) -> None:
        random = Random(seed)
        kind = random.choice(("own", "own", "published", "state"))
        try:
            if kind == "own":
                body = self._damaged_own(random)
                use = read_network if random.random() < 0.7 else self._start
                use(body, random.choice(("x.safetensors", "x.safetensors", "x.pth", "x")))
            elif kind == "published":
                use = read_network if random.random() < 0.7 else self._start
                use(_damaged_saved(random, random.choice(self.published)), random.choice(("x.pth", "x.pth", "x.tar")))
            else:
                self.path.write_bytes(_damaged_saved(random, self.state))
                state = self.folder.read_state(torch.device("cpu"), "mIoU")
                assert state is not None
                self.folder.restore(state, {"net": self.net, "optimizer": self.optimizer, "scaler": self.scaler})
        except ValueError as error:
            if "hmsa_label" not in type(error).__module__ and type(error) is not ValueError:
                raise
            if not 0 < len(str(error)) < 2000:
                raise RuntimeError(f"{len(str(error))} characters of error") from error

    def _start(self, body: bytes, source: str) -> None:
        load_start(self.net, body, source, classes=CITYSCAPES)

    def _damaged_own(self, random: Random) -> bytes:
        kind = random.randrange(5)
        if kind == 0:
            return mutate_bytes(random, self.own, self.published[0])
        length = int.from_bytes(self.own[:8], "little")
        header, tensors = json.loads(self.own[8 : 8 + length]), self.own[8 + length :]
        if kind < 4:
            info = mutate_value(random, json.loads(header["__metadata__"]["hmsa_label"]))
            header["__metadata__"]["hmsa_label"] = json_text(info)
        else:
            header = mutate_value(random, header)
        text = json_text(header).encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text + tensors


def _saved(content: Any, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _damaged_saved(random: Random, body: bytes) -> bytes:
    """A torch.save file with damaged bytes, or with a damaged pickle inside a zip archive that is whole."""
    if not body.startswith(b"PK") or random.random() < 0.3:
        return mutate_bytes(random, body)
    file, archive = io.BytesIO(), zipfile.ZipFile(io.BytesIO(body))
    with zipfile.ZipFile(file, "w") as changed:
        chosen = random.choice(archive.namelist()) if random.random() < 0.3 else "data.pkl"
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(chosen):
                content = _damaged_pickle(random, content)
            changed.writestr(name, content)
    return file.getvalue()


def _damaged_pickle(random: Random, body: bytes) -> bytes:
    if random.random() < 0.1:
        return pickle.dumps(random.choice((None, 3, [], {}, {"state_dict": 3}, {"state_dict": {"a": 1}}, {1: {}})), 2)
    return mutate_bytes(random, body)
