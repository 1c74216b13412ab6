"""What a training takes is told before its first step, and one that does not fit is refused with what would."""

import math
import re
from dataclasses import replace

import pytest
import torch

from hmsa_label.labelers import build_labeler
from hmsa_label.labelers.hmsa.training.objective import HmsaObjective
from hmsa_label.labelers.inference.live_bytes import LiveBytes
from hmsa_label.pipeline.training import estimate as estimates
from hmsa_label.pipeline.training.estimate import Footprint, estimate, measure
from hmsa_label.pipeline.training.loop import train_teacher
from tests.tiny_training import tiny_panoptic_training, tiny_training

CPU = torch.device("cpu")


def objective(config):
    torch.manual_seed(0)
    net = build_labeler(config.model.name, 19).to(memory_format=torch.channels_last)
    return HmsaObjective(net, config.objective, torch.float32)


@pytest.mark.parametrize("loss", ["ce", "rmi"])
def test_what_a_step_takes_is_known_from_small_images(tmp_path, loss):
    config = tiny_training(tmp_path, tmp_path / "out", loss=loss)
    made = objective(config)
    before = [buffer.clone() for buffer in made.net.buffers()]
    footprint = measure(made, config, CPU, 19)
    assert all(torch.equal(buffer, value) for buffer, value in zip(made.net.buffers(), before, strict=True))
    images, labels = torch.zeros(2, 192, 256, 3, dtype=torch.uint8), torch.randint(0, 19, (2, 192, 256))
    with LiveBytes() as counted:
        made(images, labels, torch.arange(2)).backward()
    assert footprint.pass_bytes(2, (192, 256)) == pytest.approx(counted.peak, rel=0.3)


@pytest.fixture
def scarce(monkeypatch):
    """Makes the memory that is left a given number of bytes."""
    return lambda left: monkeypatch.setattr(estimates, "available_bytes", lambda: left)


def test_a_training_that_does_not_fit_is_refused_before_its_first_step(blocks, tmp_path, scarce):
    scarce(100e6)
    config = tiny_training(blocks, tmp_path / "out", crop_px=(512, 1024), max_steps=1, batch_size=4)
    with pytest.raises(
        ValueError, match=r"^a step of --batch-size 4 --accumulate 1 --crop 512x1024 .* 0.1 GB are left"
    ):
        train_teacher(config)
    assert not (tmp_path / "out/state.pt").exists()


def refusal(config, left, scarce, world=1):
    scarce(left)
    with pytest.raises(ValueError, match="what would fit: ") as refused:
        estimate(objective(config), config, CPU, num_classes=19, world=world, steps=1)
    return str(refused.value).partition("what would fit: ")[2].split("; ")


def test_what_a_refusal_names_fits(tmp_path, scarce):
    config = tiny_training(tmp_path, tmp_path / "out", crop_px=(256, 512), batch_size=8)
    whole = measure(objective(config), config, CPU, 19).pass_bytes(8, (256, 512))
    model, passes, fewer, crop = refusal(config, whole / 3, scarce)
    assert passes == "--accumulate 4"
    assert fewer in ("--batch-size 2", "--batch-size 1")
    assert re.fullmatch(r"--crop \d+x\d+ --accumulate 8", crop)
    assert model == (  # first, because what merely fits takes a CPU days
        "--model hrnet_s_ocr --crop 128x256 --batch-size 4 --max-steps 400, which a CPU ends within hours"
    )
    fitting = replace(config, accumulate=4)
    made = estimate(objective(config), fitting, CPU, num_classes=19, world=1, steps=100)
    assert made.step_bytes < whole / 3
    assert 0 < made.seconds < 1e5
    assert "a step takes about" in str(made)


def test_a_crop_of_which_none_fits_is_made_smaller(tmp_path, scarce):
    config = tiny_training(tmp_path, tmp_path / "out", crop_px=(512, 1024), batch_size=2)
    one = measure(objective(config), config, CPU, 19).pass_bytes(1, (512, 1024))
    model, crop = refusal(config, one / 2, scarce)
    height, width = map(int, re.fullmatch(r"--crop (\d+)x(\d+) --accumulate 2", crop).groups())
    assert 0.3 < height * width / (512 * 1024) < 0.5
    assert (height % 32, width % 32) == (0, 0)
    assert model.startswith("--model hrnet_s_ocr")


def test_a_panoptic_model_is_told_of_a_small_panoptic_one(parked, tmp_path, scarce):
    scarce(50e6)
    config = tiny_panoptic_training(parked, tmp_path, crop_px=(512, 1024), batch_size=1)
    with pytest.raises(ValueError, match=r"what would fit: --model axial_deeplab_hybrid_s --crop 128x256 "):
        train_teacher(config)


def test_processes_of_a_host_share_its_memory(tmp_path, scarce, monkeypatch):
    config = tiny_training(tmp_path, tmp_path / "out", crop_px=(256, 512), batch_size=4)
    one = measure(objective(config), config, CPU, 19).pass_bytes(2, (256, 512))
    scarce(1.5 * one)
    assert estimate(objective(config), config, CPU, num_classes=19, world=2, steps=1) is not None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert refusal(config, 1.5 * one, scarce, world=2)[1] == "--accumulate 2"


def test_a_small_training_is_not_measured(tmp_path):
    config = tiny_training(tmp_path, tmp_path / "out")
    assert estimate(objective(config), config, CPU, num_classes=19, world=1, steps=1) is None


def test_footprint_grows_with_the_pixels_of_a_pass():
    footprint = Footprint(pixel_bytes=10.0, gradient_bytes=50.0, fixed_bytes=5.0, pixel_seconds=0.0)
    assert footprint.pass_bytes(3, (4, 5)) == 10 * math.prod((3, 4, 5)) + 5
    assert footprint.pass_bytes(1, (1, 1)) == 50 + 5
