"""Several processes train the network that one process trains: same crops, same statistics, averaged gradients."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hmsa_label.labelers.weights.checkpoints import decode_checkpoint
from hmsa_label.pipeline.training.config import AugmentConfig, CoarseLabels, RayTrainConfig
from hmsa_label.pipeline.training.distributed import Processes, joined
from hmsa_label.pipeline.training.loop import Trainer, train_teacher
from tests.tiny_training import freeze_norms, tiny_panoptic_training, tiny_training

# The end is for what aborts a process now and then: threads of the process group that still run when the interpreter
# ends. Garbage is not collected by chance, or it would hide them.
TRAIN = """
import gc, pickle, sys
from pathlib import Path
import torch
from hmsa_label.pipeline.training.distributed import joined
from hmsa_label.pipeline.training.loop import Trainer, train_teacher
from tests.tiny_training import freeze_norms

def save_gradients(config):
    trainer = Trainer(config, processes, device)
    freeze_norms(trainer.net)
    loss = trainer.find_gradients(next(trainer.batches()))
    found = {name: value.grad for name, value in trainer.net.named_parameters()}
    if processes.leads:
        torch.save((loss, found), Path(config.output) / "gradients.pt")

gc.disable()
with open(sys.argv[1], "rb") as file:
    whole, *single = pickle.load(file)
with joined("cpu") as (processes, device):
    for config in single:
        save_gradients(config)
    train_teacher(whole)
threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def settings(blocks, output, **changes):
    ragged = AugmentConfig(crop_px=(48, 64), scale_range=(0.2, 0.8), colour_jitter=0.05)  # some lie in an ignored frame
    coarse = CoarseLabels(split="train_extra")
    usual = {"augment": ragged, "second": coarse, "learning_rate": 0.05, "batch_size": 4, "max_steps": 2}
    return tiny_training(blocks, output, **{**usual, **changes})


def panoptic_settings(parked, output, **changes):
    """The same of a panoptic model: some crops have no car, and some lie in a void frame."""
    ragged = AugmentConfig(crop_px=(48, 64), scale_range=(0.1, 1.0), colour_jitter=0.05)
    return tiny_panoptic_training(parked, output, **{"augment": ragged, "batch_size": 4, "max_steps": 2, **changes})


def weights(folder):
    return decode_checkpoint((folder / "last.safetensors").read_bytes())[0]


def assert_close(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, rtol=1e-3, atol=3e-4, msg=lambda text, key=key: f"{key}: {text}")


def train_in_two_processes(whole, *single, folder):
    """Trains by the first config, and finds the gradients of the first step by the others."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "configs.pickle").write_bytes(pickle.dumps((whole, *single)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(folder / "train.py"), str(folder / "configs.pickle")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def gradients(config):
    """(loss, gradients) of the first step with frozen batch norms, and the labeled pixels of its crops."""
    trainer = Trainer(config, Processes(), torch.device("cpu"))
    freeze_norms(trainer.net)
    passes = next(trainer.batches())
    loss = trainer.find_gradients(passes)
    found = {name: value.grad for name, value in trainer.net.named_parameters()}
    void = 255_000 if trainer.data.panoptic else 255
    return loss, found, [int((label != void).sum()) for batch in passes for label in batch[1]]


def assert_equal_steps(loss, found, other_loss, other_found):
    """Equal up to 1e-6 of the largest gradient."""
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert found.keys() == other_found.keys()
    known = [name for name, value in found.items() if value is not None]
    assert len(known) > 50
    largest = max(float(found[name].abs().max()) for name in known)
    assert max(float((found[name] - other_found[name]).abs().max()) for name in known) < 1e-6 * largest


@pytest.fixture
def exact_norms(monkeypatch):
    """Batch norms of this process in float64: torch's own adds up pixel after pixel in float32 on a CPU."""
    native = nn.BatchNorm2d.forward

    def forward(self, x):
        if not self.training:
            return native(self, x)
        mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3))
        with torch.no_grad():
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_(variance.float(), self.momentum)
            self.num_batches_tracked += 1
        weight, bias = self.weight.double(), self.bias.double()
        return nn.functional.batch_norm(x.double(), None, None, weight, bias, True, eps=self.eps).float()

    monkeypatch.setattr(nn.BatchNorm2d, "forward", forward)


def test_two_processes_make_the_steps_of_one(blocks, parked, tmp_path, exact_norms):
    single = [settings(blocks, tmp_path / f"two-{loss}", loss=loss) for loss in ("ce", "rmi")]
    single.append(panoptic_settings(parked, tmp_path / "two-panoptic"))
    train_in_two_processes(settings(blocks, tmp_path / "two"), *single, folder=tmp_path)
    for config in single:
        loss, found, labeled = gradients(replace(config, output=f"{config.output}-alone"))
        assert min(labeled) < 0.5 * max(labeled)  # or else a mean of means would be as good
        assert_equal_steps(loss, found, *torch.load(Path(config.output) / "gradients.pt", weights_only=True))
    assert_one_process_trains_the_same(settings(blocks, tmp_path / "alone"), tmp_path)


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_for_a_panoptic_model(parked, tmp_path, exact_norms):
    train_in_two_processes(panoptic_settings(parked, tmp_path / "two"), folder=tmp_path)
    assert_one_process_trains_the_same(panoptic_settings(parked, tmp_path / "alone"), tmp_path)


def assert_one_process_trains_the_same(config, tmp_path):
    train_teacher(config)
    assert_close(weights(tmp_path / "alone"), weights(tmp_path / "two"))
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("alone", "two")]
    for one, other in zip(*(map(json.loads, lines) for lines in logs), strict=True):
        assert other["step"] == one["step"]
        assert other.get("loss") == pytest.approx(one.get("loss"), abs=1e-4)
        assert other.get("miou") == pytest.approx(one.get("miou"), abs=1e-3)
        assert other.get("pq") == pytest.approx(one.get("pq"), abs=1e-3)


@pytest.mark.parametrize("loss", ["ce", "rmi", "panoptic"])
def test_two_passes_make_the_step_of_one(blocks, parked, tmp_path, loss):
    def config(passes):
        if loss == "panoptic":
            return panoptic_settings(parked, tmp_path / str(passes), accumulate=passes)
        return settings(blocks, tmp_path / str(passes), loss=loss, accumulate=passes)

    one, two = (gradients(config(passes)) for passes in (1, 2))
    assert min(one[2]) < 0.5 * max(one[2])
    assert_equal_steps(*one[:2], *two[:2])


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
    from hmsa_label.pipeline.training.ray_train import train_on_ray

    summary = train_on_ray(settings(blocks, tmp_path / "ray", max_steps=1), RayTrainConfig(workers=2))
    assert (summary.steps, summary.checkpoint) == (1, str(tmp_path / "ray/best.safetensors"))
    info = decode_checkpoint((tmp_path / "ray/last.safetensors").read_bytes())[1]
    assert info["step"] == 1
