"""Several processes train the network that one process trains: same crops, same statistics, averaged gradients."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from hmsa_label.labelers.checkpoints import decode_checkpoint
from hmsa_label.pipeline.distributed import Processes, joined
from hmsa_label.pipeline.train import Trainer, train_teacher
from hmsa_label.pipeline.train_config import AugmentConfig, CoarseLabels, RayTrainConfig
from tests.tiny_training import tiny_training

# Dropout is drawn by each process for itself, so it is left out where several are compared with one. The end is for
# what aborts a process now and then: threads of the process group that still run when the interpreter ends. Garbage is
# not collected by chance, or it would hide them.
TRAIN = """
import gc, pickle, sys
from pathlib import Path
from torch import nn
from hmsa_label.pipeline.train import train_teacher
nn.Dropout2d.forward = lambda self, x: x
gc.disable()
with open(sys.argv[1], "rb") as file:
    train_teacher(pickle.load(file))
threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def settings(blocks, output, **changes):
    unpadded = AugmentConfig(crop_px=(48, 64), scale_range=(1.5, 1.6), colour_jitter=0.05)  # no pixel is ignored
    coarse = CoarseLabels(split="train_extra")
    usual = {"augment": unpadded, "second": coarse, "learning_rate": 0.05, "batch_size": 4, "max_steps": 2}
    return tiny_training(blocks, output, **{**usual, **changes})


def weights(folder):
    return decode_checkpoint((folder / "last.safetensors").read_bytes())[0]


def assert_close(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-3, atol=5e-4, msg=lambda text, key=key: f"{key}: {text}")


def train_in_two_processes(config, folder):
    (folder / "train.py").write_text(TRAIN)
    (folder / "config.pickle").write_bytes(pickle.dumps(config))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(folder / "train.py"), str(folder / "config.pickle")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


def test_two_processes_reach_the_weights_of_one(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(nn.Dropout2d, "forward", lambda self, x: x)
    train_teacher(settings(blocks, tmp_path / "alone"))
    train_in_two_processes(settings(blocks, tmp_path / "two"), tmp_path)
    assert_close(weights(tmp_path / "alone"), weights(tmp_path / "two"))
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("alone", "two")]
    for one, other in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert other["step"] == one["step"]
        assert other.get("loss") == pytest.approx(one.get("loss"), abs=1e-4)
        assert other.get("miou") == pytest.approx(one.get("miou"), abs=1e-3)


def test_accumulated_gradients_are_those_of_one_large_pass(blocks, tmp_path):
    gradients = []
    for accumulate in (1, 2):
        config = settings(blocks, tmp_path / str(accumulate), accumulate=accumulate, second=None)
        trainer = Trainer(config, Processes(), torch.device("cpu"))
        for layer in trainer.net.modules():  # what a batch norm sees in training depends on the pass
            layer.train = lambda mode=True, layer=layer: layer
            layer.training = False
        for batch in (passes := next(trainer.batches())):
            trainer._backward(batch, last=batch is passes[-1])
        gradients.append({name: value.grad for name, value in trainer.net.named_parameters() if value.grad is not None})
    assert len(gradients[0]) > 50
    assert_close(*gradients)


def test_a_numbered_device_is_refused_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match=r"each takes the GPU of its own number; got --device cuda:1"),
        joined("cuda:1"),
    ):
        pass


@pytest.mark.ray
@pytest.mark.slow
# Ray Data, which Ray Train imports, looks at deprecated settings of its own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_train_reaches_the_weights_of_two_processes(blocks, tmp_path):
    pytest.importorskip("ray.train", reason="Ray Train (the extra ray-train) is not installed", exc_type=ImportError)
    from hmsa_label.pipeline.ray_train import train_on_ray

    summary = train_on_ray(settings(blocks, tmp_path / "ray", max_steps=1), RayTrainConfig(workers=2))
    assert (summary.steps, summary.checkpoint) == (1, str(tmp_path / "ray/best.safetensors"))
    info = decode_checkpoint((tmp_path / "ray/last.safetensors").read_bytes())[1]
    assert info["step"] == 1
