"""The teacher, the engine and the training on a CUDA device; run them with `-m gpu`."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.base import DoesNotFit
from hmsa_label.labelers.device_errors import is_device_lost
from hmsa_label.labelers.hmsa.training.objective import HmsaObjective
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.labelers.taxonomy import CITYSCAPES
from hmsa_label.labelers.weights.checkpoints import encode_checkpoint
from hmsa_label.pipeline.config import DataConfig, EvaluateConfig, TeacherConfig
from hmsa_label.pipeline.label.run import label_images
from hmsa_label.pipeline.teacher.evaluate import evaluate
from hmsa_label.pipeline.teacher.teacher import Teacher
from hmsa_label.pipeline.training.log import TrainEvent
from hmsa_label.pipeline.training.loop import train_teacher
from hmsa_label.stores.format.rule import Rule
from tests.tiny_training import tiny_training

pytestmark = pytest.mark.gpu

GRID = np.array([0.06, 0.9], np.float32)
ROOT = Path(__file__).parents[3]


def weights_of(name: str, folder: Path) -> str:
    """A file of seeded weights."""
    torch.manual_seed(0)
    info = {"model": name, "multi_scale": True, "classes": CITYSCAPES.to_dict(), "trained_on": None}
    path = folder / f"{name}.safetensors"
    path.write_bytes(encode_checkpoint(build_labeler(name, 19), info))
    return str(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_of("hrnet_tiny_ocr", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def w48(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_of("hrnet_w48_ocr", tmp_path_factory.mktemp("w48"))


@pytest.fixture
def limited_gpu() -> Iterator[None]:
    """For tests that limit what the allocator may take of the GPU; all of it again afterwards."""
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def image(height: int, width: int) -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (-(-height // 16), -(-width // 16), 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(16, 0).repeat(16, 1)[:height, :width])


def label(teacher: Teacher, pixels: np.ndarray):
    return teacher.label([pixels], GRID, Rule(0.06), True)[0]


def test_teacher_lies_on_the_device_and_says_which_and_in_what_precision(tiny):
    teacher = Teacher(TeacherConfig(weights=tiny))
    assert teacher.device.type == "cuda"
    assert {part.device.type for part in teacher.net.net.parameters()} == {"cuda"}
    assert teacher.info["device"] == torch.cuda.get_device_name()
    emulated = torch.cuda.get_device_capability() < (8, 0)
    assert teacher.info["precision"] == ("fp32" if emulated else "bf16")


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_labels_of_the_gpu_are_nearly_those_of_the_cpu(tiny, device):
    config = TeacherConfig(weights=tiny, precision="fp32", device="cpu")
    pixels = image(144, 272)
    here, there = label(Teacher(config), pixels), label(Teacher(replace(config, device=device)), pixels)
    assert (here.arrays["top1"] != there.arrays["top1"]).mean() < 1e-3
    assert there.mean_confidence == pytest.approx(here.mean_confidence, abs=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_labels_repeat_themselves_bit_by_bit(tiny, precision):
    config = TeacherConfig(weights=tiny, precision=precision, device="cuda")
    first, again = (label(Teacher(config), image(144, 272)) for _ in range(2))
    assert np.array_equal(first.arrays["top1"], again.arrays["top1"])
    assert np.array_equal(first.arrays["code"], again.arrays["code"])


@pytest.mark.parametrize(("precision", "changed"), [("fp32", 1e-3), ("bf16", 0.05), ("fp16", 0.01)])
def test_a_batch_changes_few_labels_and_is_named_with_each_image(tiny, precision, changed):
    teacher = Teacher(TeacherConfig(weights=tiny, precision=precision, device="cuda"))
    pixels = [np.roll(image(144, 272), 16 * number, 1) for number in range(4)]
    for alone, together in zip(
        (label(teacher, one) for one in pixels), teacher.label(pixels, GRID, Rule(0.06), True), strict=True
    ):
        assert (alone.arrays["top1"] != together.arrays["top1"]).mean() < changed
        assert alone.tiles is None
        assert together.tiles == "batches of 4"


def test_batches_of_the_published_network_stay_within_the_memory_allowed(w48):
    allowed = 2.0
    teacher = Teacher(TeacherConfig(weights=w48, device="cuda", max_memory_gb=allowed))
    label(teacher, image(256, 256))
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    teacher.label([image(512, 1024)] * 8, GRID, Rule(0.06), True)
    assert (torch.cuda.max_memory_allocated() - held) / 1e9 <= allowed


def test_passes_of_the_published_network_stay_within_the_memory_allowed(w48):
    allowed = 2.0
    teacher = Teacher(
        TeacherConfig(weights=w48, device="cuda", max_memory_gb=allowed, options={"scales": (0.5, 1.0, 2.0)})
    )
    label(teacher, image(256, 256))
    held = torch.cuda.memory_allocated()
    peaks = []
    for size in ((512, 1024), (1024, 2048), (2400, 3200)):
        torch.cuda.reset_peak_memory_stats()
        done = label(teacher, image(*size))
        peaks.append((size, done.tiles, (torch.cuda.max_memory_allocated() - held) / 1e9))
    assert all(peak <= allowed for _, _, peak in peaks), peaks
    assert peaks[-1][1] is not None, "the largest image was to be cut"


def test_an_image_that_runs_out_of_memory_is_labeled_in_smaller_windows(tiny, limited_gpu):
    teacher = Teacher(TeacherConfig(weights=tiny, device="cuda", max_memory_gb=1000))
    pixels = image(2048, 4096)
    whole = label(teacher, pixels)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.6 * peak / total)
    cut = label(teacher, pixels)
    assert whole.tiles is None
    assert cut.tiles is not None
    assert (cut.arrays["top1"] == whole.arrays["top1"]).mean() > 0.9
    assert label(teacher, image(144, 272)).tiles is None, "the next image starts whole again"


def test_an_image_that_fits_no_window_is_named_and_leaves_the_device_usable(tiny, limited_gpu):
    teacher = Teacher(TeacherConfig(weights=tiny, device="cuda", max_memory_gb=1000))
    label(teacher, image(64, 64))
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((held + 2**22) / total)
    with pytest.raises(DoesNotFit, match="2048 x 2048 px ran out of memory, at last in windows of 512 x 512 px"):
        label(teacher, image(2048, 2048))
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert label(teacher, image(64, 64)).label.shape == (64, 64)


LOSE = """
import torch
from hmsa_label.labelers.device_errors import is_device_lost
torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")]
try:
    torch.cuda.synchronize()
except Exception as error:
    print("lost" if is_device_lost(error) else f"not told: {type(error).__name__}: {error}")
"""


def test_a_lost_device_is_told_by_what_torch_raises():
    """In a process of its own, which cannot use the device afterwards."""
    done = subprocess.run([sys.executable, "-c", LOSE], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "lost", done.stdout + done.stderr


def test_a_device_that_is_not_there_is_no_lost_one():
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(1, device="cuda:99")
    assert not is_device_lost(raised.value)


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_two_teachers_on_one_gpu_give_the_labels_of_one(bench, tiny, tmp_path, executor):
    bench.draw(6, size=(64, 96))

    def digest(name: str, **options) -> str:
        config = bench.config(tiny, store=str(tmp_path / name), **options)
        return label_images(replace(config, teacher=replace(config.teacher, device="cuda"))).digest

    one = digest("one", executor="local", workers=1)
    assert digest("two", executor=executor, workers=2, gpus_per_worker=0.5) == one


def test_a_step_of_the_published_recipe_in_bf16_on_a_whole_image():
    torch.manual_seed(0)
    net = build_labeler("hrnet_w48_ocr", 19).to("cuda", memory_format=torch.channels_last).train()
    objective = HmsaObjective(net, HmsaLoss(), torch.bfloat16)
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 256, (1, 1024, 2048, 3), np.uint8)).cuda()
    labels = (
        torch.from_numpy(random.integers(0, 19, (1, 32, 64))).repeat_interleave(32, 1).repeat_interleave(32, 2).cuda()
    )
    loss = objective(pixels, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(value.grad).all() for value in net.parameters() if value.grad is not None)
    assert net.trunk.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_training_on_the_gpu_learns_and_its_figure_is_that_of_evaluate(blocks, tmp_path, precision):
    changes = {"max_steps": 20, "optimizer": "adamw", "learning_rate": 5e-3, "device": "cuda", "precision": precision}
    events: list[TrainEvent] = []
    summary = train_teacher(tiny_training(blocks, tmp_path, crop_px=(48, 64), **changes), events.append)
    losses = [event.loss for event in events if event.loss is not None]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    teacher = TeacherConfig(
        weights=summary.checkpoint, device="cuda", precision=precision, options={"scales": (0.5, 1.0)}
    )
    scores = evaluate(EvaluateConfig(data=DataConfig(root=str(blocks), split="val"), teacher=teacher))
    assert scores.miou == summary.best_score


OVER_NCCL = """
import numpy as np, torch, torch.distributed as dist
from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.hmsa.training.objective import HmsaObjective
from hmsa_label.labelers.hmsa.training.settings import HmsaLoss
from hmsa_label.pipeline.training.distributed import Processes

device = torch.device("cuda", 0)
dist.init_process_group("nccl", device_id=device)
processes = Processes(rank=0, world=2)  # takes the paths of several; the group that answers has one
torch.manual_seed(0)
net = processes.spread(build_labeler("hrnet_tiny_ocr", 19), device).to(device)
objective = processes.wrap(HmsaObjective(net, HmsaLoss(loss="ce"), torch.bfloat16), device)
images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8, device=device)
loss = objective(images, torch.randint(0, 19, (2, 64, 96), device=device))
loss.backward()
assert all(torch.isfinite(value.grad).all() for value in net.parameters())
assert processes.total(np.arange(3)).tolist() == [0, 1, 2]
print(dist.get_backend(), processes.mean(3.0), any(isinstance(part, torch.nn.SyncBatchNorm) for part in net.modules()))
dist.destroy_process_group()
"""


def test_a_group_of_one_process_takes_a_step_over_nccl():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    own = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-c", OVER_NCCL]
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180, env=environment)
    assert done.stdout.strip().splitlines()[-1:] == ["nccl 1.5 True"], done.stdout + done.stderr
